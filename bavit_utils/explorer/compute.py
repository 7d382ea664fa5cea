"""What the threshold explorer shows: maps, keep masks, detections, numbers and times, each of them computed once."""

from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..annotations import labels_for
from ..bavit import foreground_maps, load_bavit
from ..config import DEPTHS, PROFILE_NAMES, Profile, data_dir, get_profile
from ..cost import measure_latency, multiply_adds
from ..data.pretrained import profile_detector
from ..data.records import class_names, with_classes_of
from ..data.sources import SOURCES
from ..figures import to_draw
from ..inside import head_maps, load_heads
from ..pruning import detector_keep
from ..results import short_hash
from ..yolos import PrunedYolos, predict
from .pictures import Picture

MIN_SCORE = 0.5  # of a detection that counts
INSIDE = 4  # the layers before the head that can be chosen
_SAME_BOX = 0.5  # intersection over union of two boxes that are one detection


@dataclass(frozen=True, eq=False)
class Found:
    """Detections of one image: boxes float [n, 4], xyxy as shares of its sides, class names, and the time."""

    boxes: Tensor
    names: list[str]
    ms: float


@dataclass(frozen=True)
class Numbers:
    """What a keep mask costs and keeps of one image, beside the dense detector.

    `fg_recall` is None where the truth isn't known, and NaN where it has no foreground. Tokens as in Table 2, summed
    over the layers of both networks; multiply-adds in billions. The dense detector's time in milliseconds is None where
    there is no detector.
    """

    kept: int
    patches: int
    fg_recall: float | None
    tokens: int
    dense_tokens: int
    gmacs: float
    dense_gmacs: float
    dense_ms: float | None

    @property
    def sparsity(self) -> float:
        return 1 - self.kept / self.patches


class Detector:
    """A profile's detector on single images; an image's detections are remembered by keep mask."""

    def __init__(self, profile: Profile):
        self.pruned = PrunedYolos(profile_detector(profile)[0]).eval()
        self._names = class_names(profile.detector_data)
        self._found: dict[tuple, Found] = {}
        self._dense_ms: float | None = None

    @staticmethod
    def missing(profile: Profile) -> str | None:
        """Why there is none, as a sentence; None where there is one. Nothing is fetched for it."""
        stored, (published,) = profile.checkpoint("yolos"), SOURCES["yolos-tiny"]
        fetched = all((data_dir() / published.folder / file).exists() for file in published.there)
        if stored.exists() or profile.detector_data == "coco" and fetched:
            return None
        if profile.detector_data == "coco":
            return "No boxes: the published YOLOS-tiny isn't here yet. `bavit download yolos-tiny` fetches it."
        return f"No boxes: {stored.name} isn't here. `bavit train-yolos --profile {profile.name} --store` trains it."

    def found(self, picture: Picture, keep: Tensor | None = None, after_layers: int = 0) -> Found:
        """What is detected on the kept patches, boolean [1, rows, cols], or on all; pruned after so many layers."""
        if not self.knows(picture, keep, after_layers):
            self.dense_ms(picture)  # before any other run: it warms up
            start = perf_counter()
            (found,) = predict(self.pruned, [picture.image], keep, after_layers)
            ms = 1000 * (perf_counter() - start)
            sure = to_draw(found, MIN_SCORE)
            height, width = picture.image.shape[:2]
            boxes = found["boxes"][sure] / torch.tensor([width, height, width, height])
            names = [self._names[label] for label in found["labels"][sure].tolist()]
            self._found[self._key(picture, keep, after_layers)] = Found(boxes, names, ms)
        return self._found[self._key(picture, keep, after_layers)]

    def knows(self, picture: Picture, keep: Tensor | None = None, after_layers: int = 0) -> bool:
        """Is it remembered?"""
        return self._key(picture, keep, after_layers) in self._found

    def dense_ms(self, picture: Picture) -> float:
        """The dense detector's time, the median of three runs; on the first image, as others take as long."""
        if self._dense_ms is None:
            dense = {"dense": lambda: predict(self.pruned, [picture.image])}
            self._dense_ms = measure_latency(dense, repeats=3, warmup=1)[0]["median_ms"]
        return self._dense_ms

    def _key(self, picture: Picture, keep: Tensor | None, after_layers: int) -> tuple:
        return picture.key, after_layers, None if keep is None else keep.numpy().tobytes()


class Pruner:
    """Who prunes a profile's detector (None where there is none), on single images; maps are remembered.

    `name` is a BAViT's, in front of it, or that of a head inside ("inside-4", after four layers).
    """

    def __init__(self, profile: Profile, name: str, detector: Detector | None):
        self.profile, self.name, self.detector = profile, name, detector
        if name in DEPTHS:
            self.after_layers, self._score = 0, partial(foreground_maps, load_bavit(profile.checkpoint(name)))
        else:
            self.after_layers, (yolos, path) = int(name.split("-")[1]), profile_detector(profile)
            head = load_heads(profile.checkpoint("heads"), short_hash(path))[self.after_layers]
            self._score = partial(head_maps, yolos, head)
        self._maps: dict[tuple, Tensor] = {}
        self._truths: dict[tuple, np.ndarray] = {}
        self._score_ms: float | None = None

    def map(self, picture: Picture) -> Tensor:
        """The foreground probability, float32 [1, rows, cols] on BAViT's grid, or the detector's for a head inside."""
        if picture.key not in self._maps:
            self._maps[picture.key] = self._score([picture.image])
        return self._maps[picture.key]

    def found(self, picture: Picture, keep: Tensor) -> Found:
        """What the detector finds on the kept patches."""
        return self.detector.found(picture, keep, self.after_layers)

    def keep(self, picture: Picture, threshold: float, fill_steps: int = 0, resize: str = "nearest") -> Tensor:
        """The keep mask, boolean [1, *detector grid]."""
        return detector_keep(self.map(picture), threshold, self.profile.detector_grid, fill_steps, resize)

    def truth(self, picture: Picture) -> np.ndarray | None:
        """The true labels on the detector's grid, int64 [rows, cols]; None where nothing is known.

        Foreground is what the model was trained to keep: of a photograph's objects those of its data set's classes.
        """
        record, data = picture.record, self.profile.pruner_data
        if record is None:
            return None
        if picture.key not in self._truths:
            if record.dataset == "photos" and data.startswith("voc"):
                record = with_classes_of(record, data)
            rule = self.profile.pruner_rule if record.masks is not None else "box"
            self._truths[picture.key] = labels_for(record, self.profile.detector_grid, rule)
        return self._truths[picture.key]

    def numbers(self, picture: Picture, keep: Tensor) -> Numbers:
        """Everything about a keep mask that needs no run of the detector on it."""
        kept, patches = int(keep.sum()), keep.numel()
        truth = self.truth(picture)
        kept_fg = None if truth is None else keep[0].numpy()[truth == 1]
        bavit, depth = self.name if self.name in DEPTHS else None, self.profile.detector_depth
        gmacs = multiply_adds(kept, self.profile, bavit, self.after_layers) / 1e9
        dense_gmacs = multiply_adds(patches, self.profile, bavit=None) / 1e9
        before = self.after_layers * patches + (DEPTHS[bavit] * int(np.prod(self.profile.bavit_grid)) if bavit else 0)
        return Numbers(
            kept=kept,
            patches=patches,
            fg_recall=None if kept_fg is None else float(kept_fg.mean()) if len(kept_fg) else float("nan"),
            tokens=before + (depth - self.after_layers) * kept,
            dense_tokens=depth * patches,
            gmacs=gmacs,
            dense_gmacs=dense_gmacs,
            dense_ms=self.detector.dense_ms(picture) if self.detector else None,
        )

    def measured_ms(self, picture: Picture, keep: Tensor) -> float:
        """What BAViT (the median of three runs on its first image) and the detector on the kept patches take here.

        A head inside takes next to nothing, and its layers run with the detector.
        """
        if self._score_ms is None:
            score = {"score": lambda: self._score([picture.image])}
            self._score_ms = 0.0 if self.after_layers else measure_latency(score, repeats=3, warmup=1)[0]["median_ms"]
        return self._score_ms + self.found(picture, keep).ms


def choices(profile: Profile) -> dict[str, tuple[Profile, str]]:
    """Who can prune here, by what a reader calls them: the profile's own BAViTs and head, then the others'."""
    found = {}
    for p in dict.fromkeys((profile, *map(get_profile, PROFILE_NAMES))):
        names = [name for name in DEPTHS if p.checkpoint(name).exists()]
        found |= {
            f"{name.replace('bavit', 'BAViT')}, trained on {p.pruner_data}, {p.bavit_img_size} px": (p, name)
            for name in names
        }
        if p.checkpoint("heads").exists() and p.checkpoint("yolos").exists():
            label = f"inside YOLOS, after layer {INSIDE}, trained on {p.pruner_data}, {p.detector_img_size} px"
            found[label] = (p, f"inside-{INSIDE}")
    return found


def matched(found: Found, other: Found) -> list[bool]:
    """For each detection: does the other list hold the same class with a box that overlaps by half (IoU)?"""
    names = np.array(found.names, dtype=object)[:, None] == np.array(other.names, dtype=object)
    return (names & (box_iou(found.boxes, other.boxes) >= _SAME_BOX).numpy()).any(axis=1).tolist()
