"""The gallery's entries of notebook 01: pictures, and their labels by rule (section 3.1, Fig. 2, Eqs. 1-2)."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..annotations import labels_for, labels_from_boxes, labels_from_mask
from ..config import EVAL_SPLIT, Profile
from ..data.records import Record, class_names
from ..paper import PAPER
from ..picture_plots import compare_grids, contact_sheet, figure2, literal_jaccard
from .entry import Entry, split_records

_SHOWN = (4, 5, 9)  # pictures of the split: small and large objects, round and slanting ones
_GRIDS = ((12, 12), (16, 16), (24, 24))  # the sample profile's, the paper's captions', the paper's


def labels_by_boxes(record: Record, grid: tuple[int, int], rule: str = "coverage") -> np.ndarray:
    """`annotations.labels_from_boxes` of a record, crowds left out: int64 [rows, cols]."""
    return labels_from_boxes(record.boxes, record.size, grid, rule, crowd=record.crowd)


LABEL_RULES: dict[str, Callable[[Record, tuple[int, int]], np.ndarray]] = {
    "box, coverage ≥ 50 %": labels_by_boxes,
    "box, J ≥ 0.5": lambda record, grid: labels_by_boxes(record, grid, "jaccard"),
    "mask, > 10 %": lambda record, grid: labels_from_mask(record.mask(), grid),
}


def labels_by_rule(records: Sequence[Record], grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """The labels of all records by each of `LABEL_RULES`, int64 [N, rows, cols]; of boxes alone, where no masks are."""
    rules = {name: rule for name, rule in LABEL_RULES.items() if records[0].masks is not None or "mask" not in name}
    return {name: np.stack([rule(record, grid) for record in records]) for name, rule in rules.items()}


def _split(profile: Profile) -> list[Record]:
    return split_records(profile.bavit_data, EVAL_SPLIT[profile.bavit_data])


def _pictures(profile: Profile) -> Figure:
    records = _split(profile)[:8]
    names = [[class_names(profile.bavit_data)[label] for label in record.labels] for record in records]
    return contact_sheet([record.image() for record in records], 4, [record.boxes for record in records], names)


def _objects(profile: Profile) -> pd.DataFrame:
    records, names = _split(profile), class_names(profile.bavit_data)
    areas = np.concatenate([record.areas for record in records])
    sizes = pd.cut(areas, [0, 32**2, 96**2, np.inf], labels=["small", "medium", "large"])
    objects = pd.DataFrame({"class": [names[label] for record in records for label in record.labels], "size": sizes})
    return pd.crosstab(objects["class"], objects["size"], margins=True, margins_name="all").reset_index()


def _figure2(profile: Profile) -> Figure | None:
    records = _split(profile)
    if records[0].masks is None:
        return None
    shown = [records[i] for i in _SHOWN]
    labels = [labels_for(record, profile.bavit_grid) for record in shown]
    return figure2([record.image() for record in shown], [record.mask() for record in shown], labels)


def _label_rules(profile: Profile) -> Figure:
    records = _split(profile)
    shown = [records[i] for i in _SHOWN]
    found = {name: list(labels) for name, labels in labels_by_rule(shown, profile.bavit_grid).items()}
    return compare_grids([record.image() for record in shown], found, [record.boxes for record in shown])


def _label_rules_table(profile: Profile) -> pd.DataFrame:
    records = _split(profile)
    labels = {grid: labels_by_rule(records, grid) for grid in {*_GRIDS, profile.bavit_grid}}
    has_objects = np.array([len(record.boxes) > 0 for record in records])
    table = pd.DataFrame({"rule": list(labels[profile.bavit_grid])})
    for rows, cols in _GRIDS:
        found = labels[rows, cols].values()
        table[f"FG on {rows}x{cols} (%)"] = [100 * (one == 1).sum() / (one >= 0).sum() for one in found]
    none = [~(one == 1).any(axis=(1, 2)) for one in labels[profile.bavit_grid].values()]
    table["pictures with objects"] = has_objects.sum()
    table["of these without FG"] = [one[has_objects].sum() for one in none]
    return table


def _jaccard_table(profile: Profile) -> pd.DataFrame:
    sides = np.array([16, 22.6, 32, 64, 128])
    return pd.DataFrame({"side of the box (px)": sides, "J of a patch inside": PAPER.patch_size**2 / sides**2})


ENTRIES = (
    Entry(
        "figure", "pictures", _pictures, "01",
        "Eight pictures with their boxes; the things without a box are as colourful as the objects, so that colour "
        "alone doesn't tell foreground.", pictures=True,
    ),
    Entry(
        "table", "objects", _objects, "01",
        "Objects by class and by COCO's sizes (up to 32², up to 96², above, in pixels), held-out pictures of "
        "{p.bavit_data}.",
    ),
    Entry(
        "figure", "figure2", _figure2, "01",
        "Pictures, the objects' area in transparency, and the labelled patches: red where more than 10 % lies under "
        "objects.", "Fig. 2", pictures=True,
    ),
    Entry(
        "figure", "label-rules", _label_rules, "01",
        "Three label rules on the same pictures: boxes by coverage, boxes by Eq. 2 taken literally, which labels next "
        "to nothing, and masks.", "Fig. 2", pictures=True,
    ),
    Entry(
        "table", "label-rules", _label_rules_table, "01",
        "Share of FG patches by rule and grid, held-out pictures of {p.bavit_data}.", "Fig. 2",
    ),
    Entry(
        "figure", "literal-jaccard", lambda profile: literal_jaccard(PAPER.tau_box), "01",
        "Eq. 2 for a patch inside a square box: taken literally it falls below one half as soon as the box is wider "
        "than 22.6 px.",
    ),
    Entry("table", "literal-jaccard", _jaccard_table, "01", "Eq. 2 for a 16 x 16 patch that lies inside a square box."),
)  # fmt: skip
