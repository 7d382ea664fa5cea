"""Readers of VOC, COCO, the sample world, the bundled photographs and your own pictures; decoded only when asked for.

What real annotations hold, and what is done about it:
- Boxes that stick out of their picture by up to two pixels (rounding; VOC's xmin of 0) are clipped; anything farther
  out, a box without area or a class nobody knows is an error. COCO's train2017 holds two objects without area: they are
  left out.
- VOC's XML may give a wrong picture size: the picture's own counts, and the boxes are checked against it.
- VOC2012's masks may show objects that its XML lacks (difficult ones): mask and boxes are used each as they are.
"""

import hashlib
import json
import os
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from .. import config
from ..annotations import VOID
from ..checks import check_number, inside
from ..config import data_dir
from .masks import paint, wrong_size
from .own import OWN, all_masked, completed, listed_names, own_classes, own_files, own_remedy, twice, voc_picture
from .pictures import DataError, image_size, load_class_mask, load_image
from .sample_world import CLASSES as SAMPLE_CLASSES

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
_VOC_BOX = ("xmin", "ymin", "xmax", "ymax")
# torchvision keeps COCO's 91 ids, of which 80 are in use.
_COCO_91 = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
COCO_CLASSES = tuple(name for name in _COCO_91 if name not in ("__background__", "N/A"))
_CLASSES = {"sample": SAMPLE_CLASSES} | dict.fromkeys(("voc2007", "voc2012"), VOC_CLASSES)
_CLASSES |= dict.fromkeys(("coco", "photos"), COCO_CLASSES)
SPLITS = dict.fromkeys(("sample", "voc2012", "coco", OWN), ("train", "val"))
SPLITS |= {"voc2007": ("train", "trainextra", "test"), "photos": ("val",)}  # nothing is trained on the bundled photographs
_VOC_NAMES = {
    "airplane": "aeroplane", "couch": "sofa", "dining table": "diningtable", "motorcycle": "motorbike",
    "potted plant": "pottedplant", "tv": "tvmonitor",
}  # of COCO's classes; fourteen more are called alike

_LONGEST = 30_000  # pixels of a picture, at the most
_SLACK = 2.0  # pixels by which a box may stick out of its picture
_COCO_WITHOUT_AREA = {918, 2206849}  # annotation ids in instances_train2017.json


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
    class_names(dataset)
    if split not in SPLITS[dataset]:
        raise ValueError(f"{dataset} has no split {split!r}: choose one of {', '.join(SPLITS[dataset])}")
    in_vocs_form = own_files(split)[0].suffix == ".txt" if dataset == OWN else dataset.startswith("voc")
    records = (_read_voc if in_vocs_form else _read_coco)(dataset, split, limit)
    if not records:
        raise DataError(f"the {split} list of {dataset} names no pictures: {_remedy(dataset, split)}")
    return records


def with_classes_of(record: Record, dataset: str) -> Record:
    """The record with labels of `dataset`, matched by name; six of COCO's classes are called otherwise in VOC.

    Objects of other classes are dropped: they become background, in `mask()` too, which only records in COCO's form
    keep. Raises ValueError for an unknown data set.
    """
    known, names = class_names(dataset), [class_names(record.dataset)[label] for label in record.labels]
    names = [name if name in known else _VOC_NAMES.get(name) for name in names]
    kept = [j for j, name in enumerate(names) if name in known]
    return replace(
        record, dataset=dataset, labels=np.array([known.index(names[j]) for j in kept], dtype=np.int64),
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
    if dataset == "voc2007" and _listing(dataset, "trainextra").exists():
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


def _read_voc(dataset: str, split: str, limit: int | None) -> list[Record]:
    """VOC: 2007 by the lists of detection, 2012 by those of segmentation."""
    listing, known = _listing(dataset, split), class_names(dataset)
    if not listing.is_file():
        raise _missing(listing, "No such file or directory", dataset, split)
    names = listed_names(listing)[:limit]
    return [_voc_record(dataset, split, listing.parents[2], name, known) for name in names]


def _listing(dataset: str, split: str) -> Path:
    root = data_dir() if dataset == OWN else data_dir() / "VOCdevkit" / dataset.upper()
    return root / "ImageSets" / ("Segmentation" if dataset == "voc2012" else "Main") / f"{split}.txt"


def _voc_record(dataset: str, split: str, root: Path, name: str, known: Sequence[str]) -> Record:
    path = root / "Annotations" / f"{name}.xml"
    image_path = voc_picture(root / "JPEGImages", name)
    size = image_size(image_path)
    try:
        objects = [
            ((found.findtext("name") or "").strip(), [float(found.find("bndbox").findtext(key)) for key in _VOC_BOX],
             int(found.findtext("difficult", "0")))
            for found in ET.fromstring(_read_bytes(path, dataset, split)).findall("object")
        ]
    except DataError:
        raise
    except (ET.ParseError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is malformed ({error}): correct it or fetch it again") from error
    names, boxes, difficult = zip(*objects) if objects else ((), (), ())
    boxes = _clip_boxes(_from_voc(np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)), size, path, names)
    return Record(
        dataset, split, name, image_path, path, size, boxes,
        labels=_labels(names, known, path),
        difficult=np.array(difficult, dtype=bool),
        crowd=np.zeros(len(boxes), dtype=bool),
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        masks=root / "SegmentationClass" / f"{name}.png" if dataset == "voc2012" else None,
    )


def _from_voc(boxes: np.ndarray) -> np.ndarray:
    """VOC's boxes [n, 4] count pixels from 1 and include the last one; ours count from 0 and exclude the end."""
    return boxes - np.array([1, 1, 0, 0])


def _read_coco(dataset: str, split: str, limit: int | None) -> list[Record]:
    """COCO's form of instances, of COCO itself, its bundled photographs and the sample world."""
    path, folder = own_files(split) if dataset == OWN else _official_files(dataset, split)
    content, where = _read_bytes(path, dataset, split), "it"
    known = class_names(dataset)
    try:
        content, where = json.loads(content), "a category"
        # Ids are compared as texts: some tools write numbers as such.
        names = {str(category["id"]): category["name"] for category in content["categories"]}
        _distinct("category ids", [str(category["id"]) for category in content["categories"]], path)
        _labels(list(names.values()), known, path)
        where = "a picture"
        _distinct("picture ids", [str(image["id"]) for image in content["images"]], path)
        by_image = {str(image["id"]): [] for image in content["images"]}
        for number, annotation in enumerate(content["annotations"], start=1):
            where = f"annotation {annotation.get('id', number)}"
            if str(annotation["image_id"]) not in by_image:
                raise ValueError(f"it is of picture {annotation['image_id']}, which isn't listed")
            by_image[str(annotation["image_id"])].append(completed({"id": number} | annotation))
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        records = []
        for image in content["images"][:limit]:
            where = f"picture {image['id']}"
            file = inside(folder, image["file_name"])
            if image["file_name"] not in there and not file.is_file():  # in a subfolder
                raise DataError(f"{file} is missing, {path} lists it: {_remedy(dataset, split)}")
            records.append(_coco_record(dataset, split, path, file, image, by_image[str(image["id"])], names, known))
        return records
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"no {error} is given" if isinstance(error, KeyError) else str(error) or repr(error)
        raise DataError(f"{path} is malformed ({where}: {reason}): {_correction(dataset)}") from error


def _distinct(what: str, values: list[str], path: Path) -> None:
    if len(set(values)) < len(values):
        raise DataError(f"{path}: the {what} {twice(values)} occur twice, as in merged files: number them anew")


def _official_files(dataset: str, split: str) -> tuple[Path, Path]:
    if dataset == "photos":
        return config.PHOTOS_DIR / "annotations" / f"instances_{split}.json", config.PHOTOS_DIR / split
    year = "2017" if dataset == "coco" else ""
    root = data_dir() / "coco" if dataset == "coco" else config.SAMPLE_DIR if split == "val" else config.CACHE / "sample"
    return root / "annotations" / f"instances_{split}{year}.json", root / f"{split}{year}"


def _coco_record(
    dataset: str, split: str, path: Path, file: Path, image: dict, found: list[dict], names: dict, known: Sequence[str]
) -> Record:
    if dataset == "coco":
        found = [a for a in found if a["id"] not in _COCO_WITHOUT_AREA]
    for annotation in found:
        if str(annotation["category_id"]) not in names:
            which = f"annotation {annotation['id']} is of the unknown class {annotation['category_id']}"
            raise DataError(f"{path}: {which}; {_correction(dataset)}")
    size = tuple(check_number(side, int(image[side]), 1, _LONGEST) for side in ("height", "width"))
    boxes = np.array([a["bbox"] for a in found], dtype=np.float64).reshape(len(found), 4)
    boxes[:, 2:] += boxes[:, :2]
    crowd = [check_number(f"iscrowd of annotation {a['id']}", int(a["iscrowd"]), 0, 1) for a in found]
    areas = [check_number(f"the area of annotation {a['id']}", float(a["area"]), 0, 1e9) for a in found]
    return Record(
        dataset, split, image["id"], file, path, size,
        boxes=_clip_boxes(boxes, size, path, [f"annotation {a['id']}" for a in found]),
        labels=_labels([names[str(a["category_id"])] for a in found], known, path),
        difficult=np.zeros(len(found), dtype=bool),
        crowd=np.array(crowd, dtype=bool),
        areas=np.array(areas, dtype=np.float32),
        masks=tuple(a.get("segmentation") for a in found) if dataset != OWN or all_masked(found) else None,
    )


def _clip_boxes(boxes: np.ndarray, size: tuple[int, int], path: Path, names: Sequence[str]) -> np.ndarray:
    """Boxes [n, 4] cut to the picture, float32; a DataError names the object whose box has no area or lies outside."""
    limit = np.array(size[::-1] * 2)
    clipped = boxes.clip(0, limit)
    empty = ~((boxes[:, 2:] > boxes[:, :2]).all(axis=1) & np.isfinite(boxes).all(axis=1))
    outside = ((boxes < -_SLACK) | (boxes > limit + _SLACK)).any(axis=1)
    outside |= (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    for bad, reason in ((empty, "has no area"), (outside, f"lies outside its picture of {size[1]}x{size[0]} pixels")):
        for j in np.flatnonzero(bad):
            box = [round(value, 2) for value in boxes[j].tolist()]
            raise DataError(f"{path}: the box {box} (xyxy) of {names[j]} {reason}; correct it or fetch the file again")
    return clipped.astype(np.float32)


def _labels(names: Sequence[str], known: Sequence[str], path: Path) -> np.ndarray:
    """Labels int64 [n] of class names."""
    for name in names:
        if name not in known:
            raise DataError(f"{path}: unknown class {name!r}; correct it to one of {', '.join(known)}")
    return np.array([known.index(name) for name in names], dtype=np.int64)


def _read_bytes(path: Path, dataset: str, split: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _missing(path, error.strerror, dataset, split) from None


def _missing(path: Path, reason: str, dataset: str, split: str) -> DataError:
    return DataError(f"{path} can't be read ({reason}): {_remedy(dataset, split)}")


def _correction(dataset: str) -> str:
    """What to do about a file that is there and wrong."""
    return "correct it, or export it again" if dataset == OWN else "fetch or restore it"


def _remedy(dataset: str, split: str) -> str:
    if dataset == "sample":
        return "make it with `bavit sample-world`" if split == "train" else "restore data/sample from the repository"
    if dataset == "photos":
        return "restore data/photos from the repository"
    if dataset == OWN:
        return own_remedy()
    return f"set BAVIT_DATA_DIR (now {data_dir()}) to the folder that holds VOCdevkit and coco, as README.md shows"
