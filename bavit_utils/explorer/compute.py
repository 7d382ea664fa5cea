"""What the threshold explorer shows: maps, keep masks, detections, numbers and times, each of them computed once."""

from dataclasses import dataclass
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
from ..pruning import detector_keep
from ..yolos import PrunedYolos, predict
from .pictures import Picture

MIN_SCORE = 0.5  # of a detection that counts
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

    def found(self, picture: Picture, keep: Tensor | None = None) -> Found:
        """What is detected on the kept patches, boolean [1, rows, cols], or on all."""
        if not self.knows(picture, keep):
            self.dense_ms(picture)  # before any other run: it warms up
            start = perf_counter()
            (found,) = predict(self.pruned, [picture.image], keep)
            ms = 1000 * (perf_counter() - start)
            sure = found["scores"] >= MIN_SCORE
            height, width = picture.image.shape[:2]
            boxes = found["boxes"][sure] / torch.tensor([width, height, width, height])
            names = [self._names[label] for label in found["labels"][sure].tolist()]
            self._found[self._key(picture, keep)] = Found(boxes, names, ms)
        return self._found[self._key(picture, keep)]

    def knows(self, picture: Picture, keep: Tensor | None = None) -> bool:
        """Is it remembered?"""
        return self._key(picture, keep) in self._found

    def dense_ms(self, picture: Picture) -> float:
        """The dense detector's time, the median of three runs; on the first image, as others take as long."""
        if self._dense_ms is None:
            dense = {"dense": lambda: predict(self.pruned, [picture.image])}
            self._dense_ms = measure_latency(dense, repeats=3, warmup=1)[0]["median_ms"]
        return self._dense_ms

    def _key(self, picture: Picture, keep: Tensor | None) -> tuple:
        return picture.key, None if keep is None else keep.numpy().tobytes()


class Pruner:
    """A profile's BAViT before its detector (None where it has none), on single images; maps are remembered."""

    def __init__(self, profile: Profile, bavit: str, detector: Detector | None):
        self.profile, self.bavit, self.detector = profile, bavit, detector
        self._model = load_bavit(profile.checkpoint(bavit))
        self._maps: dict[tuple, Tensor] = {}
        self._truths: dict[tuple, np.ndarray] = {}
        self._bavit_ms: float | None = None

    def map(self, picture: Picture) -> Tensor:
        """The foreground probability, float32 [1, *BAViT's grid]."""
        if picture.key not in self._maps:
            self._maps[picture.key] = foreground_maps(self._model, [picture.image])
        return self._maps[picture.key]

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
        gmacs = multiply_adds(kept, self.profile, self.bavit) / 1e9
        dense_gmacs = multiply_adds(patches, self.profile, bavit=None) / 1e9
        bavit_tokens = DEPTHS[self.bavit] * int(np.prod(self.profile.bavit_grid))
        return Numbers(
            kept=kept,
            patches=patches,
            fg_recall=None if kept_fg is None else float(kept_fg.mean()) if len(kept_fg) else float("nan"),
            tokens=bavit_tokens + self.profile.detector_depth * kept,
            dense_tokens=self.profile.detector_depth * patches,
            gmacs=gmacs,
            dense_gmacs=dense_gmacs,
            dense_ms=self.detector.dense_ms(picture) if self.detector else None,
        )

    def measured_ms(self, picture: Picture, keep: Tensor) -> float:
        """What BAViT (the median of three runs on its first image) and the detector on the kept patches take here."""
        if self._bavit_ms is None:
            bavit = {"bavit": lambda: foreground_maps(self._model, [picture.image])}
            self._bavit_ms = measure_latency(bavit, repeats=3, warmup=1)[0]["median_ms"]
        return self._bavit_ms + self.detector.found(picture, keep).ms


def choices(profile: Profile) -> dict[str, tuple[Profile, str]]:
    """The BAViTs whose checkpoints are here, by what a reader calls them: the profile's own, then the others'."""
    every = dict.fromkeys((profile, *map(get_profile, PROFILE_NAMES)))
    here = [(other, bavit) for other in every for bavit in DEPTHS if other.checkpoint(bavit).exists()]
    return {
        f"{b.replace('bavit', 'BAViT')}, trained on {p.pruner_data}, {p.bavit_img_size} px": (p, b) for p, b in here
    }


def matched(found: Found, other: Found) -> list[bool]:
    """For each detection: does the other list hold the same class with a box that overlaps by half (IoU)?"""
    names = np.array(found.names, dtype=object)[:, None] == np.array(other.names, dtype=object)
    return (names & (box_iou(found.boxes, other.boxes) >= _SAME_BOX).numpy()).any(axis=1).tolist()
