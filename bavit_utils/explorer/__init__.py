"""What the threshold explorer computes: maps, keep masks, detections, numbers and times, each of them once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..annotations import labels_for
from ..bavit import foreground_maps, load_bavit
from ..config import DEPTHS, PROFILE_NAMES, Profile, data_dir, get_profile
from ..cost import measure_latency, multiply_adds
from ..data.pretrained import profile_detector
from ..data.records import class_names
from ..data.sources import SOURCES
from ..pruning import detector_keep
from ..yolos import PrunedYolos, predict
from .pictures import Picture

MIN_SCORE = 0.5  # of a detection that counts as found
_SAME_BOX = 0.5  # intersection over union of two boxes that are one finding


@dataclass(frozen=True, eq=False)
class Found:
    """Detections of one picture: boxes float [n, 4], xyxy as shares of its sides, class names, and the time."""

    boxes: Tensor
    names: list[str]
    ms: float


@dataclass(frozen=True)
class Numbers:
    """What a keep mask costs and keeps of one picture, beside the dense detector; `fg_recall` None: truth unknown.

    Tokens as in Table 2, summed over the layers of both networks; multiply-adds in billions. Times in milliseconds are
    None where there is no detector; `predicted_ms` is the dense time times the share of the multiply-adds.
    """

    sparsity: float
    kept: int
    patches: int
    fg_recall: float | None
    tokens: int
    dense_tokens: int
    gmacs: float
    dense_gmacs: float
    dense_ms: float | None
    predicted_ms: float | None


class Detector:
    """A profile's detector on single pictures; a picture's detections are remembered by keep mask."""

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
        """What is found on the kept patches, boolean [1, rows, cols], or on all."""
        key = self._key(picture, keep)
        if key not in self._found:
            self._found[key] = self._run(picture, keep)
        return self._found[key]

    def knows(self, picture: Picture, keep: Tensor | None = None) -> bool:
        """Is it remembered?"""
        return self._key(picture, keep) in self._found

    def dense_ms(self, picture: Picture) -> float:
        """The dense detector's time, the median of three runs; on the first picture, as others take as long."""
        if self._dense_ms is None:
            dense = {"dense": lambda: predict(self.pruned, [picture.image])}
            self._dense_ms = measure_latency(dense, repeats=3, warmup=1)[0]["median_ms"]
        return self._dense_ms

    def _key(self, picture: Picture, keep: Tensor | None) -> tuple:
        return picture.key, None if keep is None else keep.numpy().tobytes()

    def _run(self, picture: Picture, keep: Tensor | None) -> Found:
        self.dense_ms(picture)  # before any other run: it warms up
        runs = []
        run = {"": lambda: runs.extend(predict(self.pruned, [picture.image], keep))}
        ms = measure_latency(run, repeats=1, warmup=0)[0]["median_ms"]
        sure = runs[0]["scores"] >= MIN_SCORE
        height, width = picture.image.shape[:2]
        boxes = runs[0]["boxes"][sure] / torch.tensor([width, height, width, height])
        names = [self._names[label] for label in runs[0]["labels"][sure].tolist()]
        return Found(boxes, names, ms)


class Pruner:
    """A profile's BAViT before its detector (None where it has none), on single pictures; maps are remembered."""

    def __init__(self, profile: Profile, bavit: str, detector: Detector | None):
        self.profile, self.bavit, self.detector = profile, bavit, detector
        self._model = load_bavit(profile.checkpoint(bavit))
        self._maps: dict[tuple, Tensor] = {}
        self._truths: dict[tuple, np.ndarray | None] = {}
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
        """The true labels on the detector's grid, int64 [rows, cols]; None where nothing is known."""
        if picture.record is None:
            return None
        if picture.key not in self._truths:
            rule = self.profile.pruner_rule if picture.record.masks is not None else "box"
            self._truths[picture.key] = labels_for(picture.record, self.profile.detector_grid, rule)
        return self._truths[picture.key]

    def numbers(self, picture: Picture, keep: Tensor) -> Numbers:
        """Everything about a keep mask that needs no run of the detector on it."""
        kept, patches = int(keep.sum()), keep.numel()
        truth = self.truth(picture)
        is_fg = None if truth is None else truth == 1
        gmacs = multiply_adds(kept, self.profile, self.bavit) / 1e9
        dense_gmacs = multiply_adds(patches, self.profile, bavit=None) / 1e9
        dense_ms = self.detector.dense_ms(picture) if self.detector else None
        bavit_tokens = DEPTHS[self.bavit] * int(np.prod(self.profile.bavit_grid))
        return Numbers(
            sparsity=1 - kept / patches,
            kept=kept,
            patches=patches,
            fg_recall=float(keep[0].numpy()[is_fg].mean()) if is_fg is not None and is_fg.any() else None,
            tokens=bavit_tokens + self.profile.detector_depth * kept,
            dense_tokens=self.profile.detector_depth * patches,
            gmacs=gmacs,
            dense_gmacs=dense_gmacs,
            dense_ms=dense_ms,
            predicted_ms=dense_ms * gmacs / dense_gmacs if dense_ms else None,
        )

    def measured_ms(self, picture: Picture, keep: Tensor) -> float:
        """What BAViT (the median of three runs on its first picture) and the detector on the kept patches take here."""
        if self._bavit_ms is None:
            bavit = {"bavit": lambda: foreground_maps(self._model, [picture.image])}
            self._bavit_ms = measure_latency(bavit, repeats=3, warmup=1)[0]["median_ms"]
        return self._bavit_ms + self.detector.found(picture, keep).ms


def choices(profile: Profile) -> dict[str, tuple[Profile, str]]:
    """The BAViTs whose checkpoints are here, by what a reader calls them: the profile's own, then the others'.

    The others are for pictures that the profile's own wasn't trained for.
    """
    every = [profile, *(get_profile(name) for name in PROFILE_NAMES if name != profile.name)]
    here = [(other, bavit) for other in every for bavit in DEPTHS if other.checkpoint(bavit).exists()]
    return {_choice_name(*pair): pair for pair in here}


def _choice_name(profile: Profile, bavit: str) -> str:
    half_scale = " (half scale)" if profile.suffix == "-half" else ""
    return f"{bavit.replace('bavit', 'BAViT')}, trained on {profile.pruner_data}{half_scale}"


def matched(found: Found, other: Found) -> list[bool]:
    """For each detection: does the other list hold the same class with a box that overlaps by half (IoU)?"""
    return _same(found, other).any(axis=1).tolist()


def repeats(found: Found) -> list[bool]:
    """For each detection: is there one before it that is the same, in the sense of `matched`?"""
    return np.tril(_same(found, found), -1).any(axis=1).tolist()


def _same(found: Found, other: Found) -> np.ndarray:
    """Bool [n, m]: the same class, and boxes that overlap by half."""
    names = np.array(found.names, dtype=object)[:, None] == np.array(other.names, dtype=object)
    return names & (box_iou(found.boxes, other.boxes) >= _SAME_BOX).numpy()
