"""Every figure and table, by name: what the notebooks show, what `make figures` draws, what figures/README.md lists.

A new one is an `Entry` in the `ENTRIES` of a file here, and its `show_figure` or `show_table` in a notebook.
"""

import pandas as pd
from matplotlib import pyplot as plt

from ..config import Profile
from ..data.pictures import DataError
from ..figures import use_style
from ..results import NOT_RUN
from . import bavit, detector, finetuning, labels, selectors, sweep, threshold
from .entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *labels.ENTRIES,
    *bavit.ENTRIES,
    *threshold.ENTRIES,
    *detector.ENTRIES,
    *sweep.ENTRIES,
    *finetuning.ENTRIES,
    *selectors.ENTRIES,
)
_BY_NAME = {(entry.kind, entry.name): entry for entry in ENTRIES}


def show_figure(name: str, profile: Profile) -> None:
    """Draw a figure by its name and store it; a notebook shows it below the cell. Says so where it was not run."""
    if _entry("figure", name).save(profile) is None:
        print(f"{name}: {NOT_RUN}")


def show_table(name: str, profile: Profile) -> pd.DataFrame:
    """Make a table by its name, store it, and give it as it is shown; one cell that says so where it was not run."""
    table = _entry("table", name).save(profile)
    return pd.DataFrame([{name: NOT_RUN}], index=[""]) if table is None else table


def draw_all(profile: Profile) -> list[str]:
    """Draw every entry anew into `figures/<profile>/`; a sentence for each reason why some can't be, with their names.

    Figures that show pictures are of the sample profile alone (`figures.save_figure`).
    """
    use_style()
    left_out: dict[str, list[str]] = {}
    for entry in ENTRIES:
        if entry.pictures and profile.name != "sample":
            continue
        try:
            reason = NOT_RUN if entry.save(profile) is None else None
        except (DataError, OSError) as error:
            reason = f"pictures are missing. {error}"
        if reason:
            left_out.setdefault(reason, []).append(entry.name)
        plt.close("all")
    return [f"not drawn: {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in left_out.items()]


def _entry(kind: str, name: str) -> Entry:
    if (kind, name) not in _BY_NAME:
        known = ", ".join(known for of, known in _BY_NAME if of == kind)
        raise ValueError(f"there is no {kind} {name!r}: choose one of {known}")
    return _BY_NAME[kind, name]
