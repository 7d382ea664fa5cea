"""The points of the comparison: who chooses how many tokens, what that leaves and costs, and how it runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..config import PATCH_SIZE, Profile
from ..cost import multiply_adds
from ..images import to_batch
from ..paper import PAPER
from ..pruning import detector_keep, resize_grid, threshold_for_sparsity
from .merging import MergedYolos, merged_multiply_adds, share_for
from .scores import SCORERS, TRUTH, Inputs, PixelScorer, ranks, scoring_multiply_adds

REFERENCE = "bavit-small"  # whom all others are compared with
SPARSITIES = (0.7, 0.6, 0.46, 0.35, 0.29, 0.1, 0.05)
RANDOM_SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Choice:
    """A scorer and how its scores are cut: by one threshold for all pictures, or at equal shares of each.

    The detector's first `after_layers` layers see every token all the same.
    """

    scorer: str
    per_picture: bool = False
    fill_steps: int = 0
    after_layers: int = 0


CHOICES = {
    REFERENCE: Choice("bavit-small"),
    "bavit-small-fill": Choice("bavit-small", fill_steps=PAPER.fill_steps),
    "bavit-small-topk": Choice("bavit-small", per_picture=True),
    "bavit-large": Choice("bavit-large"),
    "bavit-large-fill": Choice("bavit-large", fill_steps=PAPER.fill_steps),
    "sparse-detr": Choice("sparse-detr", per_picture=True),
    "sparse-detr-threshold": Choice("sparse-detr"),
    "sparse-detr-map": Choice("sparse-detr-map", per_picture=True),
    "focus-detr": Choice("focus-detr", per_picture=True),
    "focus-detr-threshold": Choice("focus-detr"),
    "contrast": Choice("contrast", per_picture=True),
    "centre": Choice("centre", per_picture=True),
    "random": Choice("random"),
    "oracle-mask": Choice("oracle-mask"),
    "oracle-box": Choice("oracle-box"),
    "oracle-exact": Choice("oracle-exact"),
    "oracle-near": Choice("oracle-near"),
    "layer-2": Choice("bavit-small", after_layers=2),
    "layer-4": Choice("bavit-small", after_layers=4),
}


@dataclass(frozen=True, eq=False)
class Run:
    """One point, as data: what the detector computes of each picture, in shares that hold at any profile's sizes.

    `budget` is the sparsity at which BAViT-small is its counterpart, None where there is none: of a choice by scores
    its own, of merging the one that costs BAViT-small as many multiply-adds. Of a choice, `scorer` gives its scores
    (None where they are for nothing), and `keep`, boolean [N, rows, cols], is what its `threshold` leaves.
    """

    selector: str
    budget: float | None = None
    seed: int = 0
    scorer: PixelScorer | None = None
    threshold: float = 1.0
    keep: Tensor | None = None
    late: float = 0.0  # share of the detector's layers that see every token
    merged: float = 0.0  # patches merged over all blocks, as a share of the patches
    eighths: int = 8  # of the detector's side, to which the pictures are resized

    @property
    def choice(self) -> Choice | None:
        """How it is cut; None where no token is pruned."""
        return CHOICES.get(self.selector)

    @property
    def sparsity_reached(self) -> float | None:
        """The share of patches pruned, mean over pictures."""
        return None if self.keep is None else 1 - self.keep.double().mean().item()

    def after_layers(self, profile: Profile) -> int:
        """The layers of a profile's detector before its tokens are pruned."""
        return round(self.late * profile.detector_depth)

    def side(self, profile: Profile) -> int:
        """The pictures' side in pixels."""
        return PATCH_SIZE * (profile.detector_grid[0] * self.eighths // 8)

    def cost(self, profile: Profile) -> float:
        """Mean multiply-adds of a picture at a profile's sizes, the selector's own included."""
        if self.merged:
            return merged_multiply_adds(self.merged, profile)
        patches = (self.side(profile) // PATCH_SIZE) ** 2
        kept = patches if self.keep is None else self.keep.flatten(1).double().mean(dim=1).numpy() * patches
        own = scoring_multiply_adds(self.choice.scorer, profile) if self.choice else 0
        return own + multiply_adds(kept, profile, None, self.after_layers(profile), patches)

    def model(self, inputs: Inputs) -> nn.Module:
        """The detector that it runs."""
        return MergedYolos(inputs.detector, self.merged).eval() if self.merged else inputs.detector

    def work(self, inputs: Inputs, there: Inputs | None = None) -> Callable[[], object]:
        """What runs it on one typical picture of `inputs`: scores, cut and detector, the picture resized beforehand.

        With the networks of `there`, at their sizes, instead of those of `inputs`. The picture is the one whose number
        of kept patches is nearest to the mean.
        """
        scorer, typical, mask = self.scorer, 0, None
        if there and scorer:
            scorer = SCORERS[self.choice.scorer](there)
        there = there or inputs
        profile, model = there.profile, self.model(there)
        if self.keep is not None:
            kept = self.keep.flatten(1).sum(dim=1).double()
            typical = (kept - kept.mean()).abs().argmin()
            mask = resize_grid(self.keep[typical][None], profile.detector_grid)
        image = inputs.images[typical]
        large = to_batch([image], self.side(profile), there.detector.detector.config.normalise)
        small = scorer and to_batch([image], scorer.img_size, scorer.normalise)

        @torch.inference_mode()
        def work() -> None:
            if scorer:
                found = scorer.score(small)
                found = ranks(found) if self.choice.per_picture else found
                detector_keep(found, self.threshold, profile.detector_grid, self.choice.fill_steps)
            model(large, mask, after_layers=self.after_layers(profile))

        return work


def chosen_runs(name: str, inputs: Inputs, sparsities: Iterable[float] = SPARSITIES) -> Iterator[Run]:
    """A choice by scores, cut at each sparsity; random choice is drawn by each of five seeds."""
    choice, profile = CHOICES[name], inputs.profile
    late = choice.after_layers / profile.detector_depth
    for seed in RANDOM_SEEDS if name == "random" else (inputs.seed,):
        made = SCORERS[choice.scorer](replace(inputs, seed=seed))
        looks = isinstance(made, PixelScorer)
        maps = made.maps(inputs.images) if looks else made
        maps = ranks(maps) if choice.per_picture else maps
        scorer = made if looks and choice.scorer not in TRUTH else None
        for sparsity in sparsities:
            threshold = threshold_for_sparsity(maps, sparsity, profile.detector_grid, choice.fill_steps)
            keep = detector_keep(maps, threshold, profile.detector_grid, choice.fill_steps)
            yield Run(name, sparsity, seed, scorer, threshold, keep, late)


def merged_runs(inputs: Inputs, budgets: Mapping[float, float]) -> Iterator[Run]:
    """ToMe's merging inside the blocks, at as many multiply-adds as BAViT-small costs at each sparsity.

    What can't be had so cheaply, with half of the patches merged in each block, is left out.
    """
    for sparsity, wanted in budgets.items():
        run = Run("tome", sparsity, merged=share_for(wanted, inputs.profile))
        if abs(run.cost(inputs.profile) / wanted - 1) <= 0.01:
            yield run


def resized_runs(inputs: Inputs, budgets: Mapping[float, float]) -> Iterator[Run]:
    """The dense detector on smaller pictures, and no second network: 7, 6 and 5 eighths of its side."""
    for eighths in (7, 6, 5):
        run = Run("", eighths=eighths)
        yield replace(run, selector=f"resolution-{run.side(inputs.profile)}")


# All ways to have fewer tokens; each maps inputs, and sparsities with BAViT-small's multiply-adds there, to runs.
COMPARED: dict[str, Callable[[Inputs, Mapping[float, float]], Iterator[Run]]] = {
    **{name: partial(chosen_runs, name) for name in CHOICES},
    "tome": merged_runs,
    "resolution": resized_runs,
}
