"""Images to explore: a data set's, the bundled photographs, the sample world, and what a person uploads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..config import Profile
from ..data.pictures import DataError
from ..data.records import Record, load_records

_BUNDLED = (("photos", "val"), ("sample", "val"))
_TITLES = {"photos": "photographs", "sample": "sample world"}
_MOST = 200  # images of a data set that are offered


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image uint8 [H, W, 3]; `key` tells it from all others, and `record` is what is known about it."""

    key: tuple[str, str]
    image: np.ndarray
    record: Record | None = None

    @property
    def drawn(self) -> bool:
        """Is it a scene of the sample world, and no photograph?"""
        return self.record is not None and self.record.dataset == "sample"


Pictures = Mapping[str, Callable[[], Picture]]  # names, and what decodes the image; it may raise DataError


def picture_sources(profile: Profile) -> tuple[dict[str, Pictures], list[str]]:
    """What can be explored with a profile: images by source and name, and a sentence for each source not at hand.

    First comes the split that the profile's detector is measured on, then the bundled photographs and sample world.
    """
    sources, missing = {}, []
    for dataset, split in dict.fromkeys((profile.detector_eval, *_BUNDLED)):
        title = _TITLES.get(dataset, f"{dataset}, {split}")
        try:
            records = load_records(dataset, split, _MOST)
        except DataError as error:
            missing.append(f"No images of {dataset}: {error}")
            continue
        if not records:
            missing.append(f"No images of {dataset}: its {split} list is empty")
            continue
        records.sort(key=lambda record: not 2 <= len(record.boxes) <= 4)  # what is lost is seen best there
        sources[title] = {_name(record): partial(_decoded, title, record) for record in records}
    return sources, missing


def _name(record: Record) -> str:
    objects = len(record.boxes)
    return f"{record.image_id}: {objects or 'no'} object{'s' * (objects != 1)}"


def _decoded(source: str, record: Record) -> Picture:
    return Picture((source, _name(record)), record.image(), record)
