"""The points of the comparison of selectors: each a choice of tokens, what it leaves and costs, and how it runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config import PATCH_SIZE, Profile
from ..cost import multiply_adds
from ..images import to_batch
from ..pruning import detector_keep, resize_grid, threshold_for_sparsity
from .merging import MergedYolos, merge_schedule, merged_multiply_adds, total_for
from .scores import (
    CHOICES,
    FREE_SCORERS,
    PIXEL_SCORERS,
    TRUTH,
    Choice,
    Inputs,
    PixelScorer,
    ranks,
    scores,
    trained_files,
)

SPARSITIES = (0.7, 0.6, 0.46, 0.35, 0.29, 0.1, 0.05)
RANDOM_SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Run:
    """One point: `model(pixels, keep)` with `options` of `yolos.predict`, named by `file` among kept detections.

    `budget` is the sparsity at which BAViT-small is its counterpart, None where there is none: of a choice by scores
    its own, of a method the one that costs BAViT-small as many multiply-adds. `cost` gives the multiply-adds of a
    picture at the sizes of a profile, its own or another with the same shares kept; `work(inputs)` makes ready what
    runs it on one typical picture with the networks of these inputs; the selector is included in both. `keep` is
    boolean [N, rows, cols], None where no token is pruned.
    """

    selector: str
    budget: float | None
    cost: Callable[[Profile], float]
    model: nn.Module
    file: str
    work: Callable[[Inputs], Callable[[], object]]
    keep: Tensor | None = None
    options: dict = field(default_factory=dict)
    seed: int = 0
    files: tuple[Path, ...] = ()  # of the weights that choose

    @property
    def sparsity_reached(self) -> float | None:
        """The share of patches pruned, mean over pictures."""
        return None if self.keep is None else 1 - self.keep.double().mean().item()


@dataclass(frozen=True)
class Chooser:
    """A choice with its scores of all pictures, computed once."""

    inputs: Inputs
    choice: Choice
    scorer: PixelScorer | None  # None for scores that don't look at the picture
    maps: Tensor

    @classmethod
    def of(cls, name: str, inputs: Inputs) -> "Chooser":
        """The chooser called `name` in `CHOICES`. FileNotFoundError where its checkpoint is missing."""
        choice = CHOICES[name]
        if choice.scorer in FREE_SCORERS:
            scorer, maps = None, FREE_SCORERS[choice.scorer](inputs)
        else:
            scorer = PIXEL_SCORERS[choice.scorer](choice.scorer, inputs)
            maps = scorer.maps(inputs.images)
        return cls(inputs, choice, scorer, ranks(maps) if choice.per_picture else maps)

    @property
    def files(self) -> tuple[Path, ...]:
        """Where the weights come from that choose."""
        return trained_files(self.choice.scorer, self.inputs.profile)

    def threshold(self, sparsity: float) -> float:
        """The threshold at which so large a share of the patches goes, on average over the pictures."""
        return threshold_for_sparsity(self.maps, sparsity, self.inputs.profile.detector_grid, self.choice.fill_steps)

    def keep(self, threshold: float) -> Tensor:
        """Keep masks of all pictures, boolean [N, rows, cols]."""
        return detector_keep(self.maps, threshold, self.inputs.profile.detector_grid, self.choice.fill_steps)

    def cost(self, keep: Tensor, profile: Profile) -> float:
        """Mean multiply-adds of a picture at a profile's sizes, the scores included, where they aren't for nothing."""
        kept = keep.flatten(1).double().mean(dim=1).numpy() * _patches(profile)
        own = self.scorer.multiply_adds(profile) if self.scorer else 0
        return own + multiply_adds(kept, profile, None, self._after_layers(profile))

    def _after_layers(self, profile: Profile) -> int:
        """As large a share of another profile's layers."""
        return self.choice.after_layers * profile.detector_depth // self.inputs.profile.detector_depth

    def work(self, threshold: float, keep: Tensor, inputs: Inputs) -> Callable[[], object]:
        """Scores, cut and detector on the picture whose number of kept patches is nearest to the mean.

        With the networks of `inputs`, at their sizes. The picture is resized and normalised beforehand.
        """
        counts = keep.flatten(1).sum(dim=1).double()
        typical, profile = (counts - counts.mean()).abs().argmin(), inputs.profile
        image, mask = self.inputs.images[typical], resize_grid(keep[typical][None], profile.detector_grid)
        large, small, looks = _pixels(inputs, image, profile.detector_img_size), None, None
        if self.scorer and self.choice.scorer not in TRUTH:
            looks = (
                self.scorer if inputs is self.inputs else PIXEL_SCORERS[self.choice.scorer](self.choice.scorer, inputs)
            )
            small = to_batch([image], looks.img_size, looks.normalise)

        @torch.inference_mode()
        def work() -> None:
            if looks:
                scores = looks.score(small)
                scores = ranks(scores) if self.choice.per_picture else scores
                detector_keep(scores, threshold, profile.detector_grid, self.choice.fill_steps)
            inputs.detector(large, mask, after_layers=self._after_layers(profile))

        return work


def _patches(profile: Profile) -> int:
    return int(np.prod(profile.detector_grid))


def _pixels(inputs: Inputs, image: np.ndarray, side: int) -> Tensor:
    return to_batch([image], side, inputs.detector.detector.config.normalise)


def dense_run(inputs: Inputs) -> Run:
    """The detector with every token, and nothing in front of it."""
    work = partial(_resized_work, inputs.images[0], 8)
    return Run("dense", None, partial(_resized_cost, 8), inputs.detector, "dense", work)


def chosen_runs(name: str, inputs: Inputs, sparsities: Sequence[float] = SPARSITIES) -> Iterator[Run]:
    """A choice by scores, cut at each sparsity."""
    chooser = Chooser.of(name, inputs)
    options = {"after_layers": chooser.choice.after_layers}
    for sparsity in sparsities:
        threshold = chooser.threshold(sparsity)
        keep = chooser.keep(threshold)
        work, cost = partial(chooser.work, threshold, keep), partial(chooser.cost, keep)
        file = f"sparsity-{sparsity}-seed-{inputs.seed}"
        yield Run(name, sparsity, cost, inputs.detector, file, work, keep, options, inputs.seed, chooser.files)


def merged_runs(inputs: Inputs, budgets: dict[float, float]) -> Iterator[Run]:
    """ToMe's merging inside the blocks, at as many multiply-adds.

    `budgets` maps sparsities to the multiply-adds that BAViT-small costs there; what can't be had so cheaply, with half
    of the patches merged in each block, is left out.
    """
    for sparsity, wanted in budgets.items():
        total = total_for(wanted, inputs.profile)
        share = total / _patches(inputs.profile)
        cost = partial(_merged_cost, share)
        if abs(cost(inputs.profile) / wanted - 1) > 0.01:
            continue
        model = MergedYolos(inputs.detector, _merged_counts(share, inputs.profile)).eval()
        work = partial(_merged_work, inputs.images[0], share)
        yield Run("tome", sparsity, cost, model, f"merged-{total}", work)


def _merged_counts(share: float, profile: Profile) -> list[int]:
    patches = _patches(profile)
    return merge_schedule(round(share * patches), profile.detector_depth, patches)


def _merged_cost(share: float, profile: Profile) -> float:
    return merged_multiply_adds(_merged_counts(share, profile), profile)


def _merged_work(image: np.ndarray, share: float, inputs: Inputs) -> Callable[[], object]:
    model = MergedYolos(inputs.detector, _merged_counts(share, inputs.profile)).eval()
    return torch.inference_mode()(partial(model, _pixels(inputs, image, inputs.profile.detector_img_size)))


def resized_runs(inputs: Inputs) -> Iterator[Run]:
    """The dense detector on smaller pictures, and no second network: 7, 6 and 5 eighths of its side."""
    for eighths in (7, 6, 5):
        side = PATCH_SIZE * _rows(eighths, inputs.profile)
        work = partial(_resized_work, inputs.images[0], eighths)
        options = {"square_side": side}
        cost = partial(_resized_cost, eighths)
        yield Run(f"resolution-{side}", None, cost, inputs.detector, "dense", work, options=options)


def _rows(eighths: int, profile: Profile) -> int:
    return profile.detector_grid[0] * eighths // 8


def _resized_cost(eighths: int, profile: Profile) -> float:
    patches = _rows(eighths, profile) ** 2
    return multiply_adds(patches, profile, None, patches=patches)


def _resized_work(image: np.ndarray, eighths: int, inputs: Inputs) -> Callable[[], object]:
    pixels = _pixels(inputs, image, PATCH_SIZE * _rows(eighths, inputs.profile))
    return torch.inference_mode()(partial(inputs.detector, pixels))


# Ways without a score before the detector; each maps (inputs, budgets) to runs.
METHODS: dict[str, Callable[[Inputs, dict[float, float]], Iterator[Run]]] = {
    "tome": merged_runs,
    "resolution": lambda inputs, budgets: resized_runs(inputs),
}
COMPARED = (*CHOICES, *METHODS)


def runs(name: str, inputs: Inputs, budgets: dict[float, float]) -> Iterator[Run]:
    """All runs of a choice or method; random choice is drawn by five seeds. See `merged_runs` for `budgets`."""
    if name in METHODS:
        yield from METHODS[name](inputs, budgets)
        return
    for seed in RANDOM_SEEDS if name == "random" else (inputs.seed,):
        yield from chosen_runs(name, replace(inputs, seed=seed), tuple(budgets))


def kept_shares(name: str, inputs: Inputs, sparsity: float) -> Tensor:
    """What a scorer keeps where the same share of every picture goes, boolean [N, rows, cols] (Fig. 1)."""
    maps = ranks(scores(name, inputs))
    threshold = threshold_for_sparsity(maps, sparsity, inputs.profile.detector_grid)
    return detector_keep(maps, threshold, inputs.profile.detector_grid)
