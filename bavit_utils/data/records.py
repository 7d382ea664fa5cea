"""`Record`: a picture of VOC, COCO, the sample world, the bundled photographs or your own; decoded when asked for."""

import hashlib
import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from ..annotations import VOID
from .masks import paint, wrong_size
from .own import OWN, own_classes, own_files
from .pictures import DataError, load_class_mask, load_image
from .readers import read_coco, read_voc, remedy, voc_listing
from .sample_world import CLASSES as SAMPLE_CLASSES

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# torchvision keeps COCO's 91 ids, of which 80 are in use.
_COCO_91 = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
COCO_CLASSES = tuple(name for name in _COCO_91 if name not in ("__background__", "N/A"))
_CLASSES = {"sample": SAMPLE_CLASSES} | dict.fromkeys(("voc2007", "voc2012"), VOC_CLASSES)
_CLASSES |= dict.fromkeys(("coco", "photos"), COCO_CLASSES)
SPLITS = dict.fromkeys(("sample", "voc2012", "coco", OWN), ("train", "val"))
SPLITS |= {"voc2007": ("train", "trainextra", "test"), "photos": ("val",)}  # the photographs: to look at alone
_VOC_NAMES = {  # of COCO's classes; fourteen more are called alike
    "airplane": "aeroplane", "couch": "sofa", "dining table": "diningtable", "motorcycle": "motorbike",
    "potted plant": "pottedplant", "tv": "tvmonitor",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Record:
    """One picture with its n objects, n >= 0.

    image_id: COCO's number, or VOC's name.
    size: (height, width) in pixels.
    boxes: float32 [n, 4], xyxy in pixels from 0, the end exclusive, inside the picture.
    labels: int64 [n], 0..K-1 into `class_names(dataset)`.
    difficult, crowd: bool [n]; VOC's flag for evaluation, COCO's for regions of many objects.
    areas: float32 [n], pixels: of the mask in `coco` and `sample`, of the box in VOC.
    """

    dataset: str
    split: str
    image_id: int | str
    image_path: Path
    annotation_path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    # The class mask's file, or COCO's segmentation of each object.
    masks: Path | tuple | None = field(default=None, repr=False)

    def image(self) -> np.ndarray:
        """Decode the picture: uint8 [H, W, 3], RGB. Raises DataError as `load_image`, and if its size isn't `size`."""
        image = load_image(self.image_path)
        if image.shape[:2] != self.size:
            raise wrong_size(self.image_path, image.shape[:2], self.size, self.annotation_path)
        return image

    def mask(self) -> np.ndarray:
        """The class mask, uint8 [H, W]: 0 background, label + 1 an object, 255 void or crowd.

        Where objects overlap the smaller one is on top; crowds lie under everything. Raises DataError if the data set
        has no masks, or this picture's is missing or of the wrong size.
        """
        if self.masks is None:
            raise DataError(f"{self.dataset} has no masks ({self.annotation_path}): use the box rule")
        if not isinstance(self.masks, Path):
            return paint(self)
        mask = load_class_mask(self.masks)
        if mask.shape != self.size:
            raise wrong_size(self.masks, mask.shape, self.size, self.image_path)
        classes = len(class_names(self.dataset))
        if ((mask > classes) & (mask != VOID)).any():
            raise DataError(f"{self.masks} holds a class beyond 0 to {classes} and 255: fetch the masks again")
        return mask


def class_names(dataset: str) -> tuple[str, ...]:
    """The names of the labels 0..K-1: official, in order, or `own_classes`. ValueError for an unknown data set."""
    if dataset == OWN:
        return own_classes()
    if dataset not in _CLASSES:
        raise ValueError(f"unknown data set {dataset!r}: choose one of {', '.join(SPLITS)}")
    return _CLASSES[dataset]


def load_records(dataset: str, split: str, limit: int | None = None) -> list[Record]:
    """Read the annotations of a split, or of its first `limit` pictures, in the order of the official list.

    Raises ValueError for an unknown data set or split, and DataError, with file and remedy, for missing folders or
    pictures, malformed XML or JSON, unknown classes and impossible boxes.
    """
    known = class_names(dataset)
    if split not in SPLITS[dataset]:
        raise ValueError(f"{dataset} has no split {split!r}: choose one of {', '.join(SPLITS[dataset])}")
    in_vocs_form = own_files(split)[0].suffix == ".txt" if dataset == OWN else dataset.startswith("voc")
    pictures = (read_voc if in_vocs_form else read_coco)(dataset, split, known, limit)
    if not pictures:
        raise DataError(f"the {split} list of {dataset} names no pictures: {remedy(dataset, split)}")
    return [Record(dataset=dataset, split=split, **fields) for fields in pictures]


def with_classes_of(record: Record, dataset: str) -> Record:
    """The record with labels of `dataset`, matched by name; six of COCO's classes are called otherwise in VOC.

    Objects of other classes are dropped: they become background, in `mask()` too, which only records in COCO's form
    keep. Raises ValueError for an unknown data set.
    """
    known, names = class_names(dataset), [class_names(record.dataset)[label] for label in record.labels]
    names = [name if name in known else _VOC_NAMES.get(name) for name in names]
    kept = [j for j, name in enumerate(names) if name in known]
    return replace(
        record,
        dataset=dataset,
        labels=np.array([known.index(names[j]) for j in kept], dtype=np.int64),
        masks=tuple(record.masks[j] for j in kept) if isinstance(record.masks, tuple) else None,
        **{name: getattr(record, name)[kept] for name in ("boxes", "difficult", "crowd", "areas")},
    )


def load_training_lists(dataset: str, limit: int | None = None) -> dict[str, list[Record]]:
    """All training lists of a data set that are there, by name ("voc2007/train"), as of `load_records`.

    VOC2007's `trainextra` may be missing: the official download doesn't have it. Warns where val pictures of your own
    are among the training pictures.
    """
    lists = {f"{dataset}/train": load_records(dataset, "train", limit)}
    if dataset == OWN and (both := _shared(lists["own/train"], load_records(OWN, "val"))):
        warnings.warn(f"{both} of your own val pictures are training pictures, too: they tell little", stacklevel=3)
    if dataset == "voc2007" and voc_listing(dataset, "trainextra").exists():
        lists[f"{dataset}/trainextra"] = load_records(dataset, "trainextra", limit)
    return lists


def check_pictures(records: Iterable[Record], rule: str) -> None:
    """Decode what a long training is measured on, by label rule "mask" or "box", so that it fails before, not after."""
    for record in records:
        record.image()
        if rule == "mask":
            record.mask()


def _shared(some: Iterable[Record], others: Iterable[Record]) -> int:
    """How many of the others' pictures are among the first, byte for byte."""
    digests = [[hashlib.sha256(r.image_path.read_bytes()).digest() for r in part] for part in (some, others)]
    return sum(map(set(digests[0]).__contains__, digests[1]))


def fingerprint(records: Iterable[Record]) -> str:
    """12 hex digits over picture bytes, boxes, labels, flags and masks, in order: the data a result was measured on."""
    digest = hashlib.sha256()
    for r in records:
        digest.update(f"{r.image_id} {r.size}".encode())
        digest.update(r.image_path.read_bytes())
        for values in (r.boxes, r.labels, r.difficult, r.crowd, r.areas):
            digest.update(values.tobytes())
        digest.update(r.masks.read_bytes() if isinstance(r.masks, Path) else json.dumps(r.masks).encode())
    return digest.hexdigest()[:12]
