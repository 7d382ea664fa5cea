"""Reads annotations in VOC's and in COCO's form; each gives the fields of `records.Record`, a dictionary a picture.

What real annotations hold, and what is done about it:
- Boxes that stick out of their picture by up to two pixels (rounding; VOC's xmin of 0) are clipped; anything farther
  out, a box without area or a class nobody knows is an error. COCO's train2017 holds two objects without area: they are
  left out.
- VOC's XML may give a wrong picture size: the picture's own counts, and the boxes are checked against it.
- VOC2012's masks may show objects that its XML lacks (difficult ones): mask and boxes are used each as they are.
"""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import config
from ..checks import check_number, inside
from ..config import data_dir
from .own import OWN, listed_names, own_files, own_remedy, twice, voc_picture
from .pictures import DataError, image_size

_VOC_BOX = ("xmin", "ymin", "xmax", "ymax")
_LONGEST = 30_000  # pixels of a picture, at the most
_SLACK = 2.0  # pixels by which a box may stick out of its picture
_COCO_WITHOUT_AREA = {918, 2206849}  # annotation ids in instances_train2017.json


def read_voc(dataset: str, split: str, known: Sequence[str], limit: int | None) -> list[dict]:
    """VOC: 2007 by the lists of detection, 2012 by those of segmentation. `known` are the names of the labels."""
    listing = voc_listing(dataset, split)
    if not listing.is_file():
        raise _missing(listing, "No such file or directory", dataset, split)
    root = listing.parents[2]
    return [_voc_fields(dataset, split, root, name, known) for name in listed_names(listing)[:limit]]


def voc_listing(dataset: str, split: str) -> Path:
    """The file with the names of a split's pictures."""
    root = data_dir() if dataset == OWN else data_dir() / "VOCdevkit" / dataset.upper()
    return root / "ImageSets" / ("Segmentation" if dataset == "voc2012" else "Main") / f"{split}.txt"


def _voc_fields(dataset: str, split: str, root: Path, name: str, known: Sequence[str]) -> dict:
    path = root / "Annotations" / f"{name}.xml"
    image_path = voc_picture(root / "JPEGImages", name)
    size, content = image_size(image_path), _read_bytes(path, dataset, split)
    try:
        found = ET.fromstring(content).findall("object")
        names = [(each.findtext("name") or "").strip() for each in found]
        boxes = [[float(each.find("bndbox").findtext(key)) for key in _VOC_BOX] for each in found]
        difficult = [bool(int(each.findtext("difficult", "0"))) for each in found]
    except (ET.ParseError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is malformed ({error}): correct it or fetch it again") from error
    # VOC's boxes count pixels from 1 and include the last one; ours count from 0 and exclude the end.
    boxes = _clip_boxes(np.reshape(boxes, (-1, 4)) - [1, 1, 0, 0], size, path, names)
    return {
        "image_id": name, "image_path": image_path, "annotation_path": path, "size": size, "boxes": boxes,
        "labels": _labels(names, known, path),
        "difficult": np.array(difficult, dtype=bool),
        "crowd": np.zeros(len(boxes), dtype=bool),
        "areas": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        "masks": root / "SegmentationClass" / f"{name}.png" if dataset == "voc2012" else None,
    }  # fmt: skip


def read_coco(dataset: str, split: str, known: Sequence[str], limit: int | None) -> list[dict]:
    """COCO's form of instances: of COCO itself, its bundled photographs, the sample world, and your own."""
    path, folder = own_files(split) if dataset == OWN else _official_files(dataset, split)
    content, where = _read_bytes(path, dataset, split), "it"
    correction = "correct it, or export it again" if dataset == OWN else "fetch or restore it"
    try:
        content, where = json.loads(content), "a category"
        # Ids are compared as texts: some tools write numbers as such.
        names = _by_id("category ids", content["categories"], path)
        labels = dict(zip(names, _labels([each["name"] for each in names.values()], known, path), strict=True))
        where = "a picture"
        found = {image_id: [] for image_id in _by_id("picture ids", content["images"], path)}
        for number, annotation in enumerate(content["annotations"], start=1):
            annotation = {"id": number} | annotation
            where = f"annotation {annotation['id']}"
            if (image_id := str(annotation["image_id"])) not in found:
                raise ValueError(f"it is of picture {image_id}, which isn't listed")
            if str(annotation["category_id"]) not in labels:
                which = f"{where} is of the unknown class {annotation['category_id']}"
                raise DataError(f"{path}: {which}; {correction}")
            if dataset != "coco" or annotation["id"] not in _COCO_WITHOUT_AREA:
                found[image_id].append(annotation)
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        pictures = []
        for image in content["images"][:limit]:
            where = f"picture {image['id']}"
            file = inside(folder, image["file_name"])
            if image["file_name"] not in there and not file.is_file():  # in a subfolder
                raise DataError(f"{file} is missing, {path} lists it: {remedy(dataset, split)}")
            fields = _coco_fields(path, image, found[str(image["id"])], labels)
            if dataset == OWN and not all(fields["masks"]):
                fields["masks"] = None  # where one object lacks its mask, the others' are of no use
            pictures.append({"image_path": file} | fields)
        return pictures
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"no {error} is given" if isinstance(error, KeyError) else str(error) or repr(error)
        raise DataError(f"{path} is malformed ({where}: {reason}): {correction}") from error


def _by_id(what: str, entries: list[dict], path: Path) -> dict[str, dict]:
    ids = [str(entry["id"]) for entry in entries]
    if len(set(ids)) < len(ids):
        raise DataError(f"{path}: the {what} {twice(ids)} occur twice, as in merged files: number them anew")
    return dict(zip(ids, entries, strict=True))


def _official_files(dataset: str, split: str) -> tuple[Path, Path]:
    if dataset == "photos":
        return config.PHOTOS_DIR / "annotations" / f"instances_{split}.json", config.PHOTOS_DIR / split
    if dataset == "coco":
        return data_dir() / "coco" / "annotations" / f"instances_{split}2017.json", data_dir() / "coco" / f"{split}2017"
    root = config.SAMPLE_DIR if split == "val" else config.CACHE / "sample"
    return root / "annotations" / f"instances_{split}.json", root / split


def _coco_fields(path: Path, image: dict, found: Sequence[dict], labels: dict[str, int]) -> dict:
    size = tuple(check_number(side, int(image[side]), 1, _LONGEST) for side in ("height", "width"))
    boxes = np.array([a["bbox"] for a in found], dtype=np.float64).reshape(len(found), 4)
    # Many tools leave out that an object is no crowd, and its area, which then is its box's.
    crowd = [check_number(f"iscrowd of annotation {a['id']}", int(a.get("iscrowd", 0)), 0, 1) for a in found]
    areas = [
        check_number(f"the area of annotation {a['id']}", float(a.get("area", width * height)), 0, 1e9)
        for a, (_, _, width, height) in zip(found, boxes.tolist(), strict=True)
    ]
    boxes[:, 2:] += boxes[:, :2]
    return {
        "image_id": image["id"], "annotation_path": path, "size": size,
        "boxes": _clip_boxes(boxes, size, path, [f"annotation {a['id']}" for a in found]),
        "labels": np.array([labels[str(a["category_id"])] for a in found], dtype=np.int64),
        "difficult": np.zeros(len(found), dtype=bool),
        "crowd": np.array(crowd, dtype=bool),
        "areas": np.array(areas, dtype=np.float32),
        "masks": tuple(a.get("segmentation") for a in found),
    }  # fmt: skip


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
    return DataError(f"{path} can't be read ({reason}): {remedy(dataset, split)}")


def remedy(dataset: str, split: str) -> str:
    """What to do about files that aren't there."""
    if dataset == OWN:
        return own_remedy()
    if dataset == "sample" and split == "train":
        return "make it with `bavit sample-world`"
    if dataset in ("sample", "photos"):
        return f"restore data/{dataset} from the repository"
    return f"set BAVIT_DATA_DIR (now {data_dir()}) to the folder that holds VOCdevkit and coco, as README.md shows"
