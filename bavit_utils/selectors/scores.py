"""Who chooses the tokens: scores per patch that go through the same cut as BAViT's probabilities (Fig. 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from ..annotations import labels_for
from ..bavit import create_bavit, foreground_probability, load_bavit
from ..config import DEPTHS, PATCH_SIZE, Profile
from ..cost import bavit_multiply_adds
from ..data.records import Record
from ..images import in_batches
from ..paper import PAPER
from ..results import short_hash
from ..yolos import PrunedYolos
from .heads import SELECTORS, attention_map, head_multiply_adds, head_scores, load_selector

_PATCH_VALUES = 3 * PATCH_SIZE**2


@dataclass(frozen=True)
class Inputs:
    """What there is to choose by: pictures, what is known of them, and the detector (with its file) to choose for.

    Without a `checkpoint` all networks have random weights, for time doesn't depend on them.
    """

    profile: Profile
    records: Sequence[Record]
    images: Sequence[np.ndarray]
    detector: PrunedYolos | None = None
    checkpoint: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class PixelScorer:
    """A choice that looks at the picture: `score` maps a batch [B, 3, S, S], S = `img_size`, to [B, rows, cols]."""

    score: Callable[[Tensor], Tensor]
    img_size: int
    normalise: str
    multiply_adds: Callable[[Profile], float]  # for one picture at a profile's sizes

    def maps(self, images: Sequence[np.ndarray]) -> Tensor:
        """Scores of decoded pictures, uint8 [H, W, 3] of any sizes: float32 [N, rows, cols]."""
        return in_batches(self.score, images, self.img_size, self.normalise)


def bavit_scorer(name: str, inputs: Inputs) -> PixelScorer:
    """BAViT's foreground probability (section 3.2), at BAViT's own resolution."""
    profile = inputs.profile
    trained = inputs.checkpoint is not None
    bavit = load_bavit(profile.checkpoint(name)) if trained else _random_bavit(DEPTHS[name], profile.bavit_img_size)

    def cost(profile: Profile) -> float:
        return bavit_multiply_adds(DEPTHS[name], int(np.prod(profile.bavit_grid)))

    return PixelScorer(partial(foreground_probability, bavit), bavit.patch_embed.img_size[0], "bavit", cost)


def _random_bavit(depth: int, img_size: int) -> nn.Module:
    return create_bavit(depth, img_size).eval()


def head_scorer(name: str, inputs: Inputs) -> PixelScorer:
    """Sparse DETR's or Focus DETR's trained scoring of the detector's patch embeddings."""
    if inputs.checkpoint is None:
        selector = SELECTORS[name]().eval()
    else:
        selector = load_selector(name, inputs.profile.checkpoint(name), short_hash(inputs.checkpoint))

    def cost(profile: Profile) -> float:
        return head_multiply_adds(name, int(np.prod(profile.detector_grid)), _PATCH_VALUES)

    return _on_detector(partial(head_scores, selector, inputs.detector), inputs, cost)


def map_scorer(name: str, inputs: Inputs) -> PixelScorer:
    """The dense detector's own attention, which Sparse DETR's scoring learns: to be had only once it has run.

    What a perfect pupil would choose; it is given for nothing.
    """
    return _on_detector(partial(attention_map, inputs.detector), inputs, lambda profile: 0.0)


def contrast_scorer(name: str, inputs: Inputs) -> PixelScorer:
    """Standard deviation of the brightness within each patch: no learning at all."""
    return _on_detector(local_contrast, inputs, lambda profile: 5.0 * profile.detector_img_size**2)


def _on_detector(score: Callable[[Tensor], Tensor], inputs: Inputs, cost: Callable[[Profile], float]) -> PixelScorer:
    normalise = inputs.detector.detector.config.normalise if inputs.detector else "bavit"
    return PixelScorer(torch.inference_mode()(score), inputs.profile.detector_img_size, normalise, cost)


def local_contrast(pixels: Tensor) -> Tensor:
    """Standard deviation of the brightness in each patch of [B, 3, S, S]: [B, rows, cols]."""
    grey = pixels.mean(dim=1).unfold(1, PATCH_SIZE, PATCH_SIZE).unfold(2, PATCH_SIZE, PATCH_SIZE)
    return grey.flatten(3).std(dim=-1)


def random_scores(inputs: Inputs) -> Tensor:
    """Uniform scores in [0, 1) on BAViT's grid: every one of its patches is as good as any other."""
    return _drawn(inputs, inputs.profile.bavit_grid)


def _drawn(inputs: Inputs, grid: tuple[int, int]) -> Tensor:
    shape = (len(inputs.records), *grid)
    return torch.from_numpy(np.random.default_rng(inputs.seed).random(shape, dtype=np.float32))


def centre_scores(inputs: Inputs) -> Tensor:
    """One less the distance to the picture's centre: photographers put things there."""
    rows, cols = inputs.profile.detector_grid
    y, x = (torch.linspace(-1, 1, 2 * n + 1)[1::2] for n in (rows, cols))
    distance = (y[:, None] ** 2 + x**2).sqrt()
    return (1 - distance / distance.max()).expand(len(inputs.records), rows, cols)


def oracle_scores(rule: str, inputs: Inputs) -> Tensor:
    """The true labels on BAViT's grid: foreground in [0.5, 1), the rest in [0, 0.5), in random order within.

    A BAViT that never errs. On the way to the detector's grid it still loses some of what is foreground there.
    """
    grid = inputs.profile.bavit_grid
    return (_drawn(inputs, grid) + torch.from_numpy(_truth(rule, inputs, grid))) / 2


def exact_scores(inputs: Inputs) -> Tensor:
    """The same on the detector's own grid, where exactly the true background goes."""
    grid = inputs.profile.detector_grid
    return (_drawn(inputs, grid) + torch.from_numpy(_truth(inputs.profile.pruner_rule, inputs, grid))) / 2


def near_scores(inputs: Inputs) -> Tensor:
    """As `exact_scores`, but of the background what is near to foreground is kept before what is far."""
    grid = inputs.profile.detector_grid
    truth = _truth(inputs.profile.pruner_rule, inputs, grid)
    far = [distance_transform_edt(~one) if one.any() else np.ones(one.shape) for one in truth]
    return 1 / (1 + torch.from_numpy(np.stack(far)).float()) - 1e-3 * _drawn(inputs, grid)  # equals in random order


def _truth(rule: str, inputs: Inputs, grid: tuple[int, int]) -> np.ndarray:
    return np.stack([labels_for(record, grid, rule) == 1 for record in inputs.records])


# Choices that look at the picture; each maps (name, inputs) to a PixelScorer.
PIXEL_SCORERS: dict[str, Callable[[str, Inputs], PixelScorer]] = {
    **dict.fromkeys(DEPTHS, bavit_scorer),
    **dict.fromkeys(SELECTORS, head_scorer),
    "sparse-detr-map": map_scorer,
    "contrast": contrast_scorer,
}
# Choices that cost nothing, or know the truth.
FREE_SCORERS: dict[str, Callable[[Inputs], Tensor]] = {
    "random": random_scores,
    "centre": centre_scores,
    "oracle-mask": partial(oracle_scores, "mask"),
    "oracle-box": partial(oracle_scores, "box"),
    "oracle-exact": exact_scores,
    "oracle-near": near_scores,
}
TRUTH = ("oracle-mask", "oracle-box", "oracle-exact", "oracle-near", "sparse-detr-map")  # not to be had beforehand


def trained_files(name: str, profile: Profile) -> tuple[Path, ...]:
    """The checkpoint of a scorer that was trained, as a tuple of none or one."""
    return (profile.checkpoint(name),) if name in (*DEPTHS, *SELECTORS) else ()


def scores(name: str, inputs: Inputs) -> Tensor:
    """Scores of all pictures by the scorer `name`, float32 [N, rows, cols]; a higher one is kept longer."""
    if name in FREE_SCORERS:
        return FREE_SCORERS[name](inputs)
    return PIXEL_SCORERS[name](name, inputs).maps(inputs.images)


def ranks(maps: Tensor) -> Tensor:
    """Scores [N, rows, cols] to their rank within each picture, in (0, 1]: a threshold then keeps equally many of each.

    That is the cut of Sparse DETR and Focus DETR, which keep the best share of every picture.
    """
    flat = maps.flatten(1)
    order = flat.argsort(dim=1, stable=True).argsort(dim=1)
    return ((order + 1) / flat.shape[1]).view_as(maps)


REFERENCE = "bavit-small"  # whom all others are compared with


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
