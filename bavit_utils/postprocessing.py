"""What the appendix's neighbour fill does to BAViT's answers, step by step, beside a threshold moved to match."""

from collections.abc import Sequence

from torch import Tensor

from .annotations import IGNORE_INDEX
from .pruning import fill_neighbours, keep_mask, sparsity, threshold_for_sparsity


def postprocessing_rows(
    maps: Tensor, labels: Tensor, steps: Sequence[int] = range(6), more_than: int = 2, neighbours: int = 8,
    threshold: float = 0.5,
) -> list[dict]:
    """A row for each count of `steps` of the appendix's filling: sparsity, foreground recall and accuracy after it.

    `maps` are foreground probabilities float32 [N, rows, cols], `labels` int64 of the same shape (1 FG, 0 BG, -100 left
    out of recall and accuracy). `threshold_alone`, `fg_recall_alone`, `accuracy_alone` are of no filling and the
    threshold that gives the same sparsity: filling earns its place where it recalls more. ValueError for unequal
    shapes.
    """
    if maps.shape != labels.shape:
        raise ValueError(f"maps {list(maps.shape)} and labels {list(labels.shape)} should both be [N, rows, cols]")
    rows = []
    for step in steps:
        filled = fill_neighbours(keep_mask(maps, threshold), step, more_than, neighbours)
        reached = sparsity(filled).mean().item()
        alone = threshold_for_sparsity(maps, reached, tuple(maps.shape[1:])) if step else threshold
        row = {"neighbours": neighbours, "more_than": more_than, "step": step, "sparsity": reached}
        row |= _quality(filled, labels) | {"threshold_alone": alone}
        row |= {f"{name}_alone": value for name, value in _quality(keep_mask(maps, alone), labels).items()}
        rows.append(row)
    return rows


def _quality(keep: Tensor, labels: Tensor) -> dict[str, float]:
    """The share of foreground that is kept, and of all labelled tokens whose answer is right."""
    valid, is_fg = labels != IGNORE_INDEX, labels == 1
    return {
        "fg_recall": keep[is_fg].double().mean().item(),
        "accuracy": (keep == is_fg)[valid].double().mean().item(),
    }
