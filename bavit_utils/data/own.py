"""Pictures of your own, the data set `own`: where they lie in `BAVIT_DATA_DIR`, and which classes they show.

Two forms are read, both as labelling tools write them:

    annotations/train.json, annotations/val.json             COCO's (or instances_train.json, ...)
    train/, val/                                             with the pictures in these folders

    ImageSets/Main/train.txt, ImageSets/Main/val.txt         VOC's: the pictures' names
    Annotations/<name>.xml, JPEGImages/<name>.jpg or .png
"""

import json
import re
import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path

from ..checks import inside
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


def listed_names(listing: Path) -> list[str]:
    """The names in one of VOC's lists, which may hold blanks, and be followed by a flag.

    Raises DataError, with file and remedy, where it can't be read, names a file elsewhere, or the same one twice.
    """
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8-sig").split("\n")]
        folder = listing.parents[2] / "Annotations"
        names = [_listed_name(folder, line) for line in lines if line]
    except OSError as error:
        raise DataError(f"{listing} can't be read ({error.strerror}): see that it is there") from None
    except ValueError as error:
        raise DataError(f"{listing} is malformed ({error}): correct it, one name a line") from error
    if len(set(names)) < len(names):
        raise DataError(f"{listing} lists {twice(names)!r} twice: take one of the two lines out")
    return names


def _listed_name(folder: Path, line: str) -> str:
    whole = inside(folder, f"{line}.xml").is_file()
    return line if whole else re.sub(r"\s+-?[01]$", "", line)


def twice(values: list) -> object:
    """The first value that occurs a second time; None where all differ."""
    seen = set()
    return next((value for value in values if value in seen or seen.add(value)), None)


def voc_picture(folder: Path, name: str) -> Path:
    """Where the picture of one of VOC's names lies: a .jpg, or of another usual suffix."""
    paths = [folder / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in paths if path.exists()), paths[0])


def own_classes() -> tuple[str, ...]:
    """The names of the labels: COCO's categories in the order of their ids, or what VOC's XML names, sorted.

    Raises DataError, with file and remedy, where the files are missing or malformed, or name no class or too many.
    """
    files = [own_files(split)[0] for split in _SPLITS]
    if files[0].suffix == ".txt":
        folder = data_dir() / "Annotations"
        files = [folder / f"{name}.xml" for listing in files for name in listed_names(listing)]
    try:
        return _classes(tuple((path, path.stat().st_ctime_ns) for path in files))
    except OSError as error:
        raise DataError(f"{error.filename} can't be read ({error.strerror}): {own_remedy()}") from error


@lru_cache(maxsize=4)
def _classes(files: tuple[tuple[Path, int], ...]) -> tuple[str, ...]:
    """Of the files as they were at these times: COCO's training list, or all of VOC's annotations."""
    paths = [path for path, _ in files]
    if paths and paths[0].suffix == ".json":
        found, source = _named_by_coco(paths[0]), paths[0]
    else:
        found, source = sorted({name for path in paths for name in _named_by_voc(path)}), data_dir() / "Annotations"
    names = tuple(dict.fromkeys(found))
    if not 0 < len(names) <= _MOST_CLASSES:
        raise DataError(f"{source} names {len(names)} classes: it needs at least one, and {_MOST_CLASSES} at the most")
    return names


def _named_by_coco(path: Path) -> list[str]:
    try:
        categories = json.loads(path.read_bytes())["categories"]
        # Ids are numbers, also those that are written as texts.
        ordered = sorted(categories, key=lambda one: (len(str(one["id"])), str(one["id"])))
        if not all(isinstance(category["name"], str) and category["name"] for category in ordered):
            raise ValueError("a name is no text")
        return [category["name"] for category in ordered]
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is malformed (categories: {error!r}): correct it, or export it again") from error


def _named_by_voc(path: Path) -> list[str]:
    try:
        names = [found.findtext("name") or "" for found in ET.fromstring(path.read_bytes()).iterfind("object")]
    except (OSError, ET.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{path} is malformed ({error}): correct it, or export it again") from error
    return [name.strip() for name in names if name.strip()]
