"""Pictures to explore: a data set's, scikit-image's photographs, and what a person chooses from disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import skimage.data

from ..config import Profile
from ..data.pictures import DataError
from ..data.records import Record, load_records

_SAMPLE = ("sample", "val")
_MOST = 200  # pictures of a data set that are offered


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture uint8 [H, W, 3]; `key` tells it from all others, and `record` is what is known about it."""

    key: tuple[str, str]
    image: np.ndarray
    record: Record | None = None

    @property
    def drawn(self) -> bool:
        """Is it a scene of the sample world, and no photograph?"""
        return self.record is not None and self.record.dataset == "sample"


Pictures = Mapping[str, Callable[[], Picture]]  # names, and what decodes the picture; it may raise DataError


def photographs() -> dict[str, np.ndarray]:
    """The photographs that come with scikit-image and show something a detector may know: uint8 [H, W, 3] by name."""
    return {name: load() for name, load in _PHOTOGRAPHS.items()}


_PHOTOGRAPHS = {
    "cat": skimage.data.chelsea,
    "astronaut": skimage.data.astronaut,
    "coffee": skimage.data.coffee,
    "rocket": skimage.data.rocket,
}


def picture_sources(profile: Profile) -> tuple[dict[str, Pictures], list[str]]:
    """What can be explored with a profile: pictures by source and name, and a sentence for each source not at hand.

    First comes the split that the profile's detector is measured on, then the sample world and the photographs.
    """
    sources, missing = {}, []
    for dataset, split in dict.fromkeys((profile.detector_eval, _SAMPLE)):
        title = "sample world" if dataset == "sample" else f"{dataset}, {split}"
        try:
            records = load_records(dataset, split, _MOST)
        except DataError as error:
            missing.append(f"No pictures of {dataset}: {error}")
        else:
            records.sort(key=lambda r: not 2 <= len(r.boxes) <= 4)  # those where one sees best what is lost come first
            sources[title] = {_record_name(r): partial(_from_record, title, _record_name(r), r) for r in records}
    title = "photographs"
    sources[title] = {name: partial(_photograph, title, name) for name in _PHOTOGRAPHS}
    return sources, missing


def _record_name(record: Record) -> str:
    objects = len(record.boxes)
    return f"{record.image_id}: {objects} object{'s' * (objects != 1)}"


def _from_record(source: str, name: str, record: Record) -> Picture:
    return Picture((source, name), record.image(), record)


def _photograph(source: str, name: str) -> Picture:
    return Picture((source, name), _PHOTOGRAPHS[name]())
