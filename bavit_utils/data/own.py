"""Pictures of your own, the data set `own`: where they lie in `BAVIT_DATA_DIR`, and which classes they show.

Two forms are read, both as labelling tools write them:

    annotations/train.json, annotations/val.json             COCO's (or instances_train.json, ...)
    train/, val/                                             with the pictures in these folders

    ImageSets/Main/train.txt, ImageSets/Main/val.txt         VOC's: the pictures' names
    Annotations/<name>.xml, JPEGImages/<name>.jpg or .png
"""

import json
import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path

from ..config import data_dir
from .pictures import DataError

OWN = "own"
_SPLITS = ("train", "val")
# Annotations and the pictures' folder; with a year they are named as COCO's own.
_COCO_FORMS = (
    ("annotations/{}.json", "{}"),
    ("annotations/instances_{}.json", "{}"),
    ("annotations/instances_{}2017.json", "{}2017"),
)
_VOC_FORM = ("ImageSets/Main/{}.txt", "JPEGImages")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
_MOST_CLASSES = 254  # a class mask has 0 for background and 255 for void


def own_remedy() -> str:
    """What to do where something isn't as expected: which files BAVIT_DATA_DIR has to hold."""
    return (
        f"set BAVIT_DATA_DIR (now {data_dir()}) to the folder of your own pictures, and see that it holds "
        "annotations/train.json and val.json with the pictures in train/ and val/ (COCO's form), or "
        "ImageSets/Main/train.txt and val.txt, Annotations/ and JPEGImages/ (VOC's)"
    )


def own_files(split: str) -> tuple[Path, Path]:
    """What lists a split, COCO's .json or VOC's .txt, and the folder of its pictures. DataError where there is none."""
    for listing, pictures in (*_COCO_FORMS, _VOC_FORM):
        path = data_dir() / listing.format(split)
        if path.is_file():
            return path, data_dir() / pictures.format(split)
    raise DataError(f"no list of your own {split} pictures is there: {own_remedy()}")


def voc_picture(folder: Path, name: str) -> Path:
    """Where the picture of one of VOC's names lies: a .jpg, or of another usual suffix."""
    paths = [folder / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in paths if path.exists()), paths[0])


def own_classes() -> tuple[str, ...]:
    """The names of the labels: COCO's categories in the order of their ids, or what VOC's XML names, sorted.

    Raises DataError, with file and remedy, where the files are missing or malformed, or name no class or too many.
    """
    files = [own_files(split)[0] for split in _SPLITS]
    return _classes(tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=4)
def _classes(files: tuple[tuple[Path, int], ...]) -> tuple[str, ...]:
    """Of the files as they were at these times."""
    train, val = (path for path, _ in files)
    if train.suffix == ".json":
        found, source = _named_by_coco(train), train
    else:
        found, source = sorted({name for path in (train, val) for name in _named_by_voc(path)}), train.parents[2]
    names = tuple(dict.fromkeys(found))
    if not 0 < len(names) <= _MOST_CLASSES:
        raise DataError(f"{source} names {len(names)} classes: it needs at least one, and {_MOST_CLASSES} at the most")
    return names


def _named_by_coco(path: Path) -> list[str]:
    try:
        categories = json.loads(path.read_text(encoding="utf-8"))["categories"]
        return [category["name"] for category in sorted(categories, key=lambda category: category["id"])]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is malformed ({error!r}): {own_remedy()}") from error


def _named_by_voc(listing: Path) -> list[str]:
    path, names = listing, []
    try:
        for line in listing.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                path = data_dir() / "Annotations" / f"{line.split()[0]}.xml"
                names += [found.findtext("name") for found in ET.parse(path).iterfind("object")]
    except (OSError, ET.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read ({error}): {own_remedy()}") from error
    return [name for name in names if name]


def completed(annotation: dict) -> dict:
    """One of COCO's annotations, with what many tools leave out: that it is no crowd, and its box's area."""
    width, height = annotation["bbox"][2:]
    return {"iscrowd": 0, "area": width * height} | annotation


def all_masked(annotations: list[dict]) -> bool:
    """Whether each of a picture's objects has a mask; where one lacks it, the others' are of no use."""
    return all(annotation.get("segmentation") for annotation in annotations)
