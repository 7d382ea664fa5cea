"""Other ways to choose tokens than BAViT: scores per patch that go through the same threshold as its probabilities."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .annotations import labels_for
from .datasets import Record


def random_scores(records: list[Record], grid: tuple[int, int], seed: int = 0) -> Tensor:
    """Uniform scores, float32 [N, rows, cols] in [0, 1): every patch is as good as any other."""
    return torch.from_numpy(np.random.default_rng(seed).random((len(records), *grid), dtype=np.float32))


def _oracle_scores(rule: str) -> Callable[[list[Record], tuple[int, int], int], Tensor]:
    def scores(records: list[Record], grid: tuple[int, int], seed: int = 0) -> Tensor:
        """The true labels: foreground in [0.5, 1), the rest in [0, 0.5), in random order within each."""
        truth = np.stack([labels_for(record, grid, rule) == 1 for record in records])
        return (random_scores(records, grid, seed) + torch.from_numpy(truth)) / 2

    return scores


# Each maps (records, grid, seed) to float32 [N, rows, cols]; a higher score is kept longer.
SCORERS: dict[str, Callable[[list[Record], tuple[int, int], int], Tensor]] = {
    "random": random_scores,
    "oracle-mask": _oracle_scores("mask"),
    "oracle-box": _oracle_scores("box"),
}
