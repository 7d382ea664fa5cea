"""What an entry of the gallery is, and the pictures and BAViT maps that several entries share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import skimage.data
from matplotlib.figure import Figure
from torch import Tensor

from ..bavit import foreground_maps, load_bavit
from ..config import Profile
from ..data.records import Record, load_records
from ..figures import save_figure, save_table
from ..results import load_rows


@dataclass(frozen=True)
class Entry:
    """A figure or table made from stored results, formulas, or the pictures and checkpoints at hand.

    `draw(profile)` gives it, or None where what it needs was not run. `paper` is the paper's figure or table that it
    answers, if any; `notebook` the number of the one that shows it. `{p}` in the caption and in the names of `results`,
    the files in `data/results` that it is made of, is the profile. `pictures`: it shows some.
    """

    kind: str  # "figure" or "table"
    name: str  # of the files in figures/<profile>/
    draw: Callable[[Profile], Figure | pd.DataFrame | None]
    notebook: str
    caption: str
    paper: str = ""
    results: tuple[str, ...] = ()
    pictures: bool = False

    def save(self, profile: Profile) -> Figure | pd.DataFrame | None:
        """Draw it and write its files (`figures.save_figure`, `figures.save_table`); a table comes back as shown."""
        drawn = self.draw(profile)
        if drawn is None:
            return None
        if self.kind == "table":
            return save_table(drawn, self.name, profile, self.caption.format(p=profile))
        if not self.pictures or profile.name == "sample":
            save_figure(drawn, self.name, profile, self.pictures)
        return drawn

    def measured(self, profile: Profile) -> bool:
        """Whether all stored results that it is made of are there."""
        return all(len(load_rows(name.format(p=profile))) for name in self.results)

    def files(self) -> list[str]:
        """The names of what `save` writes on the sample profile."""
        suffixes = ("md", "csv", "tex") if self.kind == "table" else ("png",) if self.pictures else ("png", "svg")
        return [f"{self.name}.{suffix}" for suffix in suffixes]


@lru_cache(maxsize=4)
def split_records(dataset: str, split: str, limit: int | None = None) -> list[Record]:
    """A split's records. Raises DataError where the data set is not there."""
    return load_records(dataset, split, limit)


@lru_cache(maxsize=8)
def split_maps(checkpoint: Path, dataset: str, split: str, limit: int | None = None) -> Tensor | None:
    """A BAViT's foreground probability on a split, float32 [N, rows, cols]; None where the checkpoint is not there."""
    if not checkpoint.exists():
        return None
    return foreground_maps(load_bavit(checkpoint), [record.image() for record in split_records(dataset, split, limit)])


def photographs() -> dict:
    """The photographs that come with scikit-image and show something a detector may know: uint8 [H, W, 3] by name."""
    return {
        "cat": skimage.data.chelsea(), "astronaut": skimage.data.astronaut(), "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
    }  # fmt: skip
