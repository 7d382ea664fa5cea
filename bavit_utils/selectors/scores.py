"""Who chooses the tokens: scores per patch that go through the same cut as BAViT's probabilities (Fig. 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..annotations import stacked_labels
from ..bavit import create_bavit, foreground_probability, load_bavit
from ..config import DEPTHS, PATCH_SIZE, Profile
from ..cost import bavit_multiply_adds
from ..data.records import Record
from ..images import in_batches
from ..results import short_hash
from ..yolos import PrunedYolos
from .heads import SELECTORS, attention_map, head_multiply_adds, head_scores, load_selector


@dataclass(frozen=True)
class Inputs:
    """What there is to choose by: pictures, what is known of them, and the detector (with its file) to choose for.

    Without a `checkpoint` all networks have random weights, for time doesn't depend on them.
    """

    profile: Profile
    records: Sequence[Record]
    images: Sequence[np.ndarray]
    detector: PrunedYolos
    checkpoint: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class PixelScorer:
    """A choice that looks at the picture: `score` maps a batch [B, 3, S, S], S = `img_size`, to [B, rows, cols]."""

    score: Callable[[Tensor], Tensor]
    img_size: int
    normalise: str

    def maps(self, images: Sequence[np.ndarray]) -> Tensor:
        """Scores of decoded pictures, uint8 [H, W, 3] of any sizes: float32 [N, rows, cols]."""
        return in_batches(self.score, images, self.img_size, self.normalise)


def bavit_scorer(name: str, inputs: Inputs) -> PixelScorer:
    """BAViT's foreground probability (section 3.2), at BAViT's own resolution."""
    profile = inputs.profile
    if inputs.checkpoint is None:
        bavit = create_bavit(DEPTHS[name], profile.bavit_img_size).eval()
    else:
        bavit = load_bavit(profile.checkpoint(name))
    return PixelScorer(partial(foreground_probability, bavit), bavit.patch_embed.img_size[0], "bavit")


def head_scorer(name: str, inputs: Inputs) -> PixelScorer:
    """Sparse DETR's or Focus DETR's trained scoring of the detector's patch embeddings."""
    if inputs.checkpoint is None:
        selector = SELECTORS[name]().eval()
    else:
        selector = load_selector(name, inputs.profile.checkpoint(name), short_hash(inputs.checkpoint))
    return _on_detector(partial(head_scores, selector, inputs.detector), inputs)


def map_scorer(inputs: Inputs) -> PixelScorer:
    """The dense detector's own attention, which Sparse DETR's scoring learns: to be had only once it has run.

    What a perfect pupil would choose; it is given for nothing.
    """
    return _on_detector(partial(attention_map, inputs.detector), inputs)


def _on_detector(score: Callable[[Tensor], Tensor], inputs: Inputs) -> PixelScorer:
    normalise = inputs.detector.detector.config.normalise
    return PixelScorer(torch.inference_mode()(score), inputs.profile.detector_img_size, normalise)


def local_contrast(pixels: Tensor) -> Tensor:
    """Standard deviation of the brightness in each patch of [B, 3, S, S], no learning at all: [B, rows, cols]."""
    grey = pixels.mean(dim=1).unfold(1, PATCH_SIZE, PATCH_SIZE).unfold(2, PATCH_SIZE, PATCH_SIZE)
    return grey.flatten(3).std(dim=-1)


def random_scores(inputs: Inputs, grid: tuple[int, int] | None = None) -> Tensor:
    """Uniform scores in [0, 1), by default on BAViT's grid: every one of its patches is as good as any other."""
    shape = (len(inputs.records), *(grid or inputs.profile.bavit_grid))
    return torch.from_numpy(np.random.default_rng(inputs.seed).random(shape, dtype=np.float32))


def centre_scores(inputs: Inputs) -> Tensor:
    """One less the distance to the picture's centre: photographers put things there."""
    rows, cols = inputs.profile.detector_grid
    y, x = (torch.linspace(-1, 1, 2 * n + 1)[1::2] for n in (rows, cols))
    distance = (y[:, None] ** 2 + x**2).sqrt()
    return (1 - distance / distance.max()).expand(len(inputs.records), rows, cols)


def oracle_scores(rule: str | None, inputs: Inputs) -> Tensor:
    """The true labels: foreground in [0.5, 1), the rest in [0, 0.5), in random order within.

    With a `rule` on BAViT's grid, as of a BAViT that never errs: on the way to the detector's grid some of what is
    foreground there is lost. None: by the pruner's rule on the detector's own grid, where exactly the truth is cut.
    """
    profile = inputs.profile
    grid = profile.bavit_grid if rule else profile.detector_grid
    return (random_scores(inputs, grid) + _truth(inputs, grid, rule or profile.pruner_rule)) / 2


def near_scores(inputs: Inputs) -> Tensor:
    """As `oracle_scores` on the detector's grid, but of the background what is near to foreground is kept longer."""
    grid = inputs.profile.detector_grid
    truth = _truth(inputs, grid, inputs.profile.pruner_rule).numpy()
    far = [distance_transform_edt(~one) if one.any() else np.ones(one.shape) for one in truth]
    return 1 / (1 + torch.from_numpy(np.stack(far)).float()) - 1e-3 * random_scores(inputs, grid)  # ties at random


def _truth(inputs: Inputs, grid: tuple[int, int], rule: str) -> Tensor:
    return torch.from_numpy(stacked_labels(inputs.records, grid, rule) == 1)


# Each maps inputs to a `PixelScorer`, or to the scores themselves where it doesn't look at the picture.
SCORERS: dict[str, Callable[[Inputs], PixelScorer | Tensor]] = {
    **{name: partial(bavit_scorer, name) for name in DEPTHS},
    **{name: partial(head_scorer, name) for name in SELECTORS},
    "sparse-detr-map": map_scorer,
    "contrast": partial(_on_detector, local_contrast),
    "random": random_scores,
    "centre": centre_scores,
    "oracle-mask": partial(oracle_scores, "mask"),
    "oracle-box": partial(oracle_scores, "box"),
    "oracle-exact": partial(oracle_scores, None),
    "oracle-near": near_scores,
}
TRUTH = ("oracle-mask", "oracle-box", "oracle-exact", "oracle-near", "sparse-detr-map")  # not to be had beforehand


def scoring_multiply_adds(name: str, profile: Profile) -> float:
    """Multiply-adds of one picture's scores; none of what doesn't look at it, or can't be had beforehand."""
    if name in DEPTHS:
        return bavit_multiply_adds(DEPTHS[name], int(np.prod(profile.bavit_grid)))
    if name in SELECTORS:
        return head_multiply_adds(name, int(np.prod(profile.detector_grid)))
    return 5.0 * profile.detector_img_size**2 if name == "contrast" else 0.0


def trained_files(name: str, profile: Profile) -> tuple[Path, ...]:
    """The checkpoint of a scorer that was trained, as a tuple of none or one."""
    return (profile.checkpoint(name),) if name in (*DEPTHS, *SELECTORS) else ()


def scores(name: str, inputs: Inputs) -> Tensor:
    """Scores of all pictures by the scorer `name`, float32 [N, rows, cols]; a higher one is kept longer."""
    made = SCORERS[name](inputs)
    return made.maps(inputs.images) if isinstance(made, PixelScorer) else made


def ranks(maps: Tensor) -> Tensor:
    """Scores [N, rows, cols] to their rank within each picture, in (0, 1]: a threshold then keeps equally many of each.

    That is the cut of Sparse DETR and Focus DETR, which keep the best share of every picture.
    """
    flat = maps.flatten(1)
    order = flat.argsort(dim=1, stable=True).argsort(dim=1)
    return ((order + 1) / flat.shape[1]).view_as(maps)
