"""Pruning inside the detector against everything that costs as much: in front, at random, coarse, and smaller pictures.

A `Point` says what is done; its thresholds are chosen on pictures from the end of the training list (`dev`), and what
comes of it is measured on the held-out ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import YolosForObjectDetection

from ..annotations import stacked_labels
from ..bavit import foreground_maps, load_bavit
from ..config import PATCH_SIZE, Profile
from ..cost import EMBED_DIM, bavit_multiply_adds, block_multiply_adds, yolos_multiply_adds
from ..data.records import Record
from ..images import warp
from ..inside import PatchHead, head_maps
from ..metrics import DetectionEvaluation, bootstrap_ap, paired_difference, token_metrics
from ..pruning import detector_keep, threshold_for_sparsity
from ..selectors.merging import MergedYolos, merged_multiply_adds
from ..selectors.scores import ranks
from ..sweep import save_detections
from ..yolos import PrunedYolos, predict

SPARSITIES = (0.2, 0.35, 0.5, 0.65, 0.8)
FEW = (0.35, 0.5, 0.65)
COARSE = (0.5, 0.65, 0.8)  # of background to merge, or of larger pictures
UNTUNED = ("yolos", "yolos-sparse")  # detectors that no pruning and no smaller picture was shown after their training
LARGER = 4 * PATCH_SIZE  # so many pixels more a side
MERGED = (0.2, 0.4, 0.6)  # shares of the patches that ToMe merges over all layers


def file_name(method: str, detector: str, sparsity: float) -> str:
    """Of the file that a row's detections are kept in."""
    return f"{method}-{detector}-{sparsity:.2f}"


@dataclass(frozen=True)
class Point:
    """One way to spend less: who chooses (`by`), after how many layers, what share goes, on pictures of which side.

    `by` is "bavit-small", "head", "head-equal" (as many in each picture), "random", "truth", "adaptive" (heads after each
    of `stages` at learnt thresholds), "tome", or "" for nobody. `detector` is a checkpoint's name.
    """

    by: str = ""
    after_layers: int = 0
    sparsity: float = 0.0
    side: int = 0  # in pixels; 0: the profile's
    coarse: bool = False
    detector: str = "yolos"
    stages: tuple[int, ...] = ()

    @property
    def method(self) -> str:
        """Its name in the rows."""
        names = {"head": "inside", "head-equal": "inside-equal", "": "resolution" if self.side else "dense"}
        name = names.get(self.by, self.by) + (f"-{self.after_layers}" if self.after_layers else "")
        return ("coarse-" if self.coarse else "") + name + (f"-{self.side}" if self.side else "")

    @property
    def name(self) -> str:
        """Of the file that its detections are kept in."""
        return file_name(self.method, self.detector, self.sparsity)


def points(profile: Profile, layer: int, layers: Sequence[int]) -> list[Point]:
    """What the base detector is measured at: heads after each of `layers` in short, after `layer` in full."""
    side = profile.detector_img_size
    smaller, larger = [side - PATCH_SIZE * steps for steps in (2, 3, 4, 5, 6)], side + LARGER
    found = [Point(), *(Point(side=s) for s in smaller), *(Point("tome", 0, s) for s in MERGED)]
    found += [Point(by, k, s) for by, k in (("bavit-small", 0), ("random", layer)) for s in SPARSITIES]
    found += [Point("head", k, s) for k in layers for s in (SPARSITIES if k == layer else FEW)]
    found += [Point(by, layer, s) for by in ("head-equal", "truth") for s in FEW]
    found += [Point(by, k, s, coarse=True) for by, k in (("bavit-small", 0), ("head", layer)) for s in COARSE]
    return found + [Point("head", layer, s, side=larger) for s in COARSE]


def tuned_points(profile: Profile, name: str) -> list[Point]:
    """What a tuned detector is measured at, which its name tells: what it was tuned for."""
    *_, way, at = ["", *name.split("-")] if name[-1].isdigit() else [name.removeprefix("yolos-"), ""]
    if way == "inside":
        found = [Point("head", int(at), s) for s in (0.0, *SPARSITIES)]
        found += [Point("head", int(at), s, coarse=True) for s in COARSE]
        found += [Point("head", int(at), s, side=profile.detector_img_size + LARGER) for s in COARSE]
    elif way == "random":
        found = [Point("random", int(at), s) for s in (0.0, *SPARSITIES)]
    elif way == "resolution":
        found = [Point(side=int(at))]
    else:  # YOLOS-F, and its control, which was tuned for no pruning
        found = [Point("bavit-small", 0, s) for s in SPARSITIES] if way == "f" else [Point()]
    return [replace(point, detector=name) for point in found]


@dataclass
class Comparison:
    """What all points share: a profile, its detectors, heads by detector and layer, and two lists of pictures."""

    profile: Profile
    detectors: dict[str, YolosForObjectDetection]
    heads: dict[str, dict[int, PatchHead]]
    dev: list[Record]
    held_out: list[Record]
    adaptive: dict[float, list[PatchHead]] = field(default_factory=dict)  # heads with learnt thresholds, by sparsity
    folder: Path | None = None  # in which detections are kept

    def __post_init__(self):
        self.records = [*self.dev, *self.held_out]
        self._decoded = [record.image() for record in self.records]
        self._warped: dict[int, list[np.ndarray]] = {}
        self._maps: dict[tuple, Tensor] = {}

    def images(self, side: int) -> list[np.ndarray]:
        """All pictures, warped to squares of `side` pixels, once."""
        if side not in self._warped:
            self._warped[side] = [warp(image, side) for image in self._decoded]
        return self._warped[side]

    @cached_property
    def dense(self) -> tuple[DetectionEvaluation, DetectionEvaluation]:
        """The base detector with every token, on `dev` and held out."""
        return self._evaluations(self.run(Point())[0])

    def row(self, point: Point) -> dict:
        """One row of `inside-<profile>.json`, but for the times."""
        found, kept = self.run(point)
        if self.folder:
            save_detections(self.folder / f"{point.name}.safetensors", found)
        dev, held_out = self._evaluations(found)
        return {
            "method": point.method,
            "trained": "frozen" if point.detector in UNTUNED else "tuned",
            "detector": point.detector,
            "sparsity": point.sparsity,
            "side": point.side or self.profile.detector_img_size,
            "sparsity_reached": 1 - kept[-1][len(self.dev) :].double().mean().item() if kept else None,
            "gmacs": self.cost(point, kept) / 1e9,
            "kept": [counts.tolist() for counts in _examples([mask[len(self.dev) :] for mask in kept])],
            **held_out.average_precision(),
            **bootstrap_ap(held_out),
            **paired_difference(held_out, self.dense[1]),
            "dev_AP": dev.average_precision()["AP"],
            **self._accuracy(point),
            "n_images": len(self.held_out),
            "seed": 0,
        }

    def _accuracy(self, point: Point) -> dict:
        """What a head's or BAViT's scores are worth on the held-out pictures: token accuracy and AUROC."""
        if point.by not in ("head", "bavit-small") or point.coarse or point.side:
            return {}
        maps = self.maps(point, self.profile.detector_grid)[len(self.dev) :]
        labels = stacked_labels(self.held_out, tuple(maps.shape[1:]), self.profile.pruner_rule)
        found = token_metrics(maps, labels, n_boot=1)
        return {key: found[key] for key in ("accuracy", "auroc")}

    def _evaluations(self, found: list[dict]) -> tuple[DetectionEvaluation, DetectionEvaluation]:
        n = len(self.dev)
        return DetectionEvaluation(self.dev, found[:n]), DetectionEvaluation(self.held_out, found[n:])

    def run(self, point: Point) -> tuple[list[dict], list[Tensor]]:
        """Detections on all pictures, and the masks of what is kept after each stage."""
        detector, side = self.detectors[point.detector], point.side or self.profile.detector_img_size
        options = {"square_side": side, "sizes": [record.size for record in self.records]}
        if point.by == "tome":
            return predict(MergedYolos(PrunedYolos(detector), point.sparsity).eval(), self.images(side), **options), []
        heads = self.adaptive.get(point.sparsity, ()) if point.by == "adaptive" else ()
        pruned = PrunedYolos(detector, heads, point.coarse).eval()
        pruned.kept = []
        keep = self.keep(point) if point.by not in ("", "adaptive") else None
        found = predict(pruned, self.images(side), keep, point.after_layers, **options)
        return found, [torch.cat(stage) for stage in zip(*pruned.kept, strict=True)]

    def keep(self, point: Point) -> Tensor:
        """The mask of all pictures at the threshold that reaches the sparsity on `dev`: boolean [N, rows, cols]."""
        grid = (((point.side or self.profile.detector_img_size) // PATCH_SIZE),) * 2
        maps = self.maps(point, grid)
        if not point.sparsity:
            return torch.ones(len(maps), *grid, dtype=torch.bool)
        threshold = threshold_for_sparsity(maps[: len(self.dev)], point.sparsity, grid)
        return detector_keep(maps, threshold, grid)

    def maps(self, point: Point, grid: tuple[int, int]) -> Tensor:
        """The scores that a point cuts, float32 [N, rows, cols]."""
        key = (point.by, point.after_layers, grid, point.detector)
        if key not in self._maps:
            self._maps[key] = self._scores(point, grid)
        return self._maps[key]

    def _scores(self, point: Point, grid: tuple[int, int]) -> Tensor:
        if point.by == "bavit-small":
            return foreground_maps(load_bavit(self.profile.checkpoint(point.by)), self._decoded)
        if point.by in ("random", "truth"):
            drawn = torch.from_numpy(np.random.default_rng(0).random((len(self.records), *grid), dtype=np.float32))
            if point.by == "random":
                return drawn
            return (drawn + torch.from_numpy(stacked_labels(self.records, grid, self.profile.pruner_rule) == 1)) / 2
        head, side = self.heads[point.detector][point.after_layers], PATCH_SIZE * grid[0]
        maps = head_maps(self.detectors[point.detector], head, self.images(side), side)
        return ranks(maps) if point.by == "head-equal" else maps

    def cost(self, point: Point, kept: list[Tensor]) -> float:
        """Mean multiply-adds of a held-out picture: what its tokens cost in each layer, and what chooses them."""
        profile = self.profile
        if point.by == "tome":
            return merged_multiply_adds(point.sparsity, profile)
        prefix, depth = 1 + profile.num_detection_tokens, profile.detector_depth
        ends = point.stages or (point.after_layers,)
        counts = [mask[len(self.dev) :].flatten(1).sum(dim=1).numpy() for mask in kept]
        starts = [0, *ends][: len(counts)]
        no_patch = {"kept": 0, "depth": depth, "num_detection_tokens": prefix - 1, "num_labels": profile.num_labels}
        around = yolos_multiply_adds(**no_patch) - depth * block_multiply_adds(prefix)
        blocks = sum(
            (end - start) * block_multiply_adds(count + prefix)
            for count, start, end in zip(counts, starts, [*starts[1:], depth], strict=True)
        )
        own = 0.0
        if point.by == "bavit-small":
            own = bavit_multiply_adds(2, int(np.prod(profile.bavit_grid)))
        elif point.by in ("head", "head-equal", "adaptive"):
            own = 2 * EMBED_DIM * sum(count.mean() for count in counts[:-1])
        return float(np.mean(blocks) + counts[0].mean() * 3 * PATCH_SIZE**2 * EMBED_DIM + around + own)


def _examples(masks: list[Tensor]) -> list[Tensor]:
    """How many patches nine pictures keep after each stage: the one nearest to the mean, and eight spread over all."""
    counts = [mask.flatten(1).sum(dim=1) for mask in masks]
    if not counts:
        return []
    last = counts[-1].double()
    spread = last.argsort()[torch.linspace(0, len(last) - 1, 10).round().long()[1:-1]]
    chosen = [(last - last.mean()).abs().argmin(), *spread]
    return [count[torch.stack(chosen)] for count in counts]
