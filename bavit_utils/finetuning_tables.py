"""YOLOS-F beside the detector it started from and its control: table, figure and what follows, from stored rows.

`rows` are those of `results/table2-<profile>.json` for the three detectors behind BAViT-small, one for each detector
and sparsity (`finetuning_rows`). AP is shown in points.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from .config import Profile
from .data.records import Record
from .figures import BLUE, GREEN, GREY, PAPER_COLOUR, TEXT_WIDTH
from .metrics import DetectionEvaluation, paired_difference
from .paper import PAPER
from .pruning import detector_keep, threshold_for_sparsity
from .results import NOT_RUN, load_rows
from .sweep import PLAIN, detections
from .yolos import PrunedYolos

DETECTORS = {"yolos": "as trained", "yolos-f": "YOLOS-F", "yolos-control": "control"}
TRAINED_AT = next(row["sparsity"] for row in PAPER.table2 if row["detector"] == "yolos-f")
_COLOURS = {"yolos": GREY, "yolos-f": BLUE, "yolos-control": GREEN}


def finetuning_rows(profile: Profile) -> pd.DataFrame:
    """The stored rows of the three detectors behind BAViT-small, as Table 2 has it; empty where none is stored."""
    return load_rows(f"table2-{profile.name}", detector=list(DETECTORS), bavit="bavit-small", **PLAIN)


def paper_ap(detector: str, sparsity: float) -> float | None:
    """Table 2's AP of "yolos" or "yolos-f" at a sparsity, in points; None where it has none."""
    found = [row["AP"] for row in PAPER.table2 if (row["detector"], row["sparsity"]) == (detector, sparsity)]
    return 100 * found[0] if found else None


def ap_table(rows: pd.DataFrame, sparsities: Sequence[float] = (0.0, 0.05, 0.29, TRAINED_AT, 0.46)) -> pd.DataFrame:
    """AP of each detector at some of Table 2's sparsities, the paper's first (Table 2, the YOLOS-F row)."""
    table = pd.DataFrame({"sparsity": [f"{sparsity:.0%}" for sparsity in sparsities]})
    for detector in ("yolos", "yolos-f"):
        column = [paper_ap(detector, sparsity) for sparsity in sparsities]
        table[f"paper, {DETECTORS[detector]}"] = pd.Series(column, dtype=float)
    for detector, name in DETECTORS.items():
        found = _by_sparsity(rows, detector)
        table[name] = NOT_RUN if found.empty else 100 * found["AP"].reindex(sparsities).to_numpy()
    return table


def gain_sentences(rows: pd.DataFrame, sparsity: float = TRAINED_AT) -> list[str]:
    """How much fine-tuning gains at a sparsity, how much of it the control explains, and which drop is left."""
    ap = {name: 100 * _by_sparsity(rows, name)["AP"].reindex([0.0, sparsity]) for name in DETECTORS}
    if any(values.isna().any() for values in ap.values()):
        return [f"what fine-tuning gains, and its control: {NOT_RUN}"]
    start, tuned, control = (ap[name][sparsity] for name in DETECTORS)
    gain, longer = tuned - start, control - start
    told = [
        f"At {sparsity:.0%} sparsity: as trained {start:.1f} AP, YOLOS-F {tuned:.1f} ({gain:+.1f}), control {control:.1f} ({longer:+.1f})."
    ]
    if gain <= 0:
        told.append("YOLOS-F gains nothing there, so there is no gain for the control to explain.")
    else:
        share = f"{longer / gain:.0%}" if 0 <= longer <= gain else "all" if longer > gain else "none"
        told.append(f"The control, which has never seen a pruned picture, explains {share} of YOLOS-F's gain.")
    dense, longer_dense, tuned_dense = (ap[name][0.0] for name in ("yolos", "yolos-control", "yolos-f"))
    told.append(
        f"Pruned, YOLOS-F is {tuned - dense:+.1f} from the dense detector as trained, as the paper counts; from the dense "
        f"control, which has trained as long, {tuned - longer_dense:+.1f}."
    )
    told.append(f"With every token kept YOLOS-F has {tuned_dense:.1f} AP, the control {longer_dense:.1f}.")
    return told


def finetuning_figure(rows: pd.DataFrame) -> Figure:
    """AP against sparsity for the three detectors, with 95 % intervals over pictures; the paper's rows in its colour."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 3.2))
    for name in (name for name in DETECTORS if not _by_sparsity(rows, name).empty):
        found = _by_sparsity(rows, name)
        left.plot(found["sparsity_reached"], 100 * found["AP"], "o-", color=_COLOURS[name], label=DETECTORS[name])
        band = 100 * found["AP_low"], 100 * found["AP_high"]
        left.fill_between(found["sparsity_reached"], *band, color=_COLOURS[name], alpha=0.12, lw=0)
    paper = pd.DataFrame(PAPER.table2).sort_values("sparsity")
    for name, marker in (("yolos", "o--"), ("yolos-f", "*")):
        part = paper[paper["detector"] == name]
        size = 11 if name == "yolos-f" else None
        right.plot(part["sparsity"], 100 * part["AP"], marker, ms=size, color=PAPER_COLOUR, label=DETECTORS[name])
    left.set(title="here", ylabel="AP (points)")
    right.set(title="the paper, COCO")
    for ax in (left, right):
        ax.set(xlabel="sparsity on the detector's grid")
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.axvline(TRAINED_AT, color=GREY, lw=0.8, ls=":")
        ax.legend(loc="lower left")
    return fig


def compare_live(
    profile: Profile,
    records: list[Record],
    images: Sequence[np.ndarray],
    maps: Tensor,
    detectors: Mapping[str, PrunedYolos],
) -> tuple[list[dict], pd.DataFrame]:
    """The detectors at no and at the paper's fine-tuning sparsity: rows to check, and paired differences.

    `records`, decoded `images` and `maps` (float32 [N, rows, cols]) go together; `detectors` by name. The differences
    are in points, between the detectors at the same sparsity, with 95 % intervals over pictures.
    """
    rows, evaluations = [], {}
    for sparsity in (0.0, TRAINED_AT):
        threshold = threshold_for_sparsity(maps, sparsity, profile.detector_grid) if sparsity else 1.0
        keep = detector_keep(maps, threshold, profile.detector_grid)
        for name, detector in detectors.items():
            evaluations[name, sparsity] = DetectionEvaluation(records, detections(detector, images, keep))
            rows.append({"detector": name, "sparsity": sparsity} | evaluations[name, sparsity].average_precision())
    told = []
    for one, other in (("yolos-f", "yolos"), ("yolos-control", "yolos"), ("yolos-f", "yolos-control")):
        for sparsity in (0.0, TRAINED_AT):
            difference = paired_difference(evaluations[one, sparsity], evaluations[other, sparsity])
            less, more = difference["delta_high"] < 0, difference["delta_low"] > 0
            told.append(
                {
                    "detector": DETECTORS[one],
                    "against": DETECTORS[other],
                    "sparsity": f"{sparsity:.0%}",
                    "the interval of the difference": "below zero" if less else "above zero" if more else "holds zero",
                }
            )
    return rows, pd.DataFrame(told)


def _by_sparsity(rows: pd.DataFrame, detector: str) -> pd.DataFrame:
    """A detector's rows by rising sparsity, which is the index; ValueError where a sparsity is stored twice."""
    if rows.empty:
        return pd.DataFrame(columns=["AP"], index=pd.Index([], dtype=float), dtype=float)
    found = rows[rows["detector"] == detector].set_index("sparsity").sort_index()
    if not found.index.is_unique:
        raise ValueError(f"{detector} has several stored rows of one sparsity: measure it again, or pick one of them")
    return found
