"""COCO's instance masks: polygons and run lengths, checked before anything is computed from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from ..annotations import VOID
from .pictures import DataError

if TYPE_CHECKING:
    from .records import Record


def paint(record: "Record") -> np.ndarray:
    """The class mask, uint8 [H, W], of COCO's instance masks: crowds first, then objects from large to small.

    Raises DataError, with file, picture, object and remedy, for a mask that is missing or malformed.
    """
    mask = np.zeros(record.size, dtype=np.uint8, order="F")  # as pycocotools decodes
    for j in np.lexsort((-record.areas, ~record.crowd)):
        value = VOID if record.crowd[j] else record.labels[j] + 1
        np.copyto(mask, np.uint8(value), where=_decode(record, j))
    return np.ascontiguousarray(mask)


def _decode(record: "Record", j: int) -> np.ndarray:
    """The polygons or run lengths of object `j` as bool [H, W]."""
    where = f"{record.annotation_path}, picture {record.image_id}, object {j + 1} of {len(record.masks)}"
    segmentation, (height, width) = record.masks[j], record.size
    try:
        if isinstance(segmentation, dict):
            if tuple(segmentation["size"]) != record.size:
                raise wrong_size(where, segmentation["size"], record.size, record.image_path)
            counts = segmentation["counts"]
            runs = _run_lengths(counts) if isinstance(counts, str) else np.array(counts)
            pixels = height * width
            if runs.dtype.kind != "i" or ((runs < 0) | (runs > pixels)).any() or runs.sum() != pixels:
                raise DataError(f"{where}: run lengths don't fill the picture; fetch the annotations again")
            return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
        polygons = [np.array(polygon, dtype=np.float64) for polygon in segmentation or () if len(polygon) >= 6]
        if not polygons:
            raise DataError(f"{where}: it has no mask; fetch the annotations again, or use the box rule")
        for polygon in polygons:
            if polygon.ndim != 1 or len(polygon) % 2 or not (abs(polygon) <= 2 * max(record.size)).all():
                raise ValueError("a polygon of points far outside the picture, or of half a point")
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).view(bool)
    except DataError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: its mask is malformed ({error!r}); fetch the annotations again") from error


def _run_lengths(text: str) -> np.ndarray:
    """The run lengths in COCO's compressed form, int64 [n]; ValueError for what is none.

    Six bits a character from "0" on: five of a number, the lowest first, and whether it goes on. From the fourth number
    on, each is the difference to the last but one.
    """
    runs, number, place = [], 0, 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or place > 30:
            raise ValueError("run lengths beyond all pictures, or of other characters")
        number |= (code & 31) << place
        place += 5
        if code < 32:
            number -= (code & 16 > 0) << place
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = place = 0
    if place or not runs:
        raise ValueError("run lengths that end too early")
    return np.array(runs)


def wrong_size(path: Path | str, is_size: Sequence[int], size: Sequence[int], other: Path) -> DataError:
    """The error for two files that give one picture different sizes, (height, width)."""
    sizes = f"is {is_size[1]}x{is_size[0]} pixels where {other} says {size[1]}x{size[0]}"
    turned = "; or its EXIF tag turns it, and what annotated it didn't: drop that tag" if is_size[::-1] == size else ""
    return DataError(f"{path} {sizes}: they don't belong together, fetch both again{turned}")
