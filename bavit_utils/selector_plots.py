"""Figures of who chooses the tokens: AP against what is left and what it costs, and why the first tokens cost so much.

`rows` are those of `results/selectors-<profile>.json`, as `selectors.comparison.compare` gives them.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .figures import BLACK, BLUE, GREEN, GREY, ORANGE, PAPER_COLOUR, PURPLE, SKY, TEXT_WIDTH, VERMILION
from .paper import PAPER
from .selectors.scores import TRUTH

# What a selector is called, and how it is drawn: name, colour, line, marker.
STYLES = {
    "bavit-small": ("BAViT-small", BLUE, "-", "o"),
    "bavit-large": ("BAViT-large", BLUE, "--", "o"),
    "bavit-small-topk": ("BAViT-small, equal shares", BLUE, ":", "."),
    "bavit-small-fill": ("BAViT-small, post-processed", BLUE, "-.", "."),
    "bavit-large-fill": ("BAViT-large, post-processed", BLUE, (0, (1, 3)), "."),
    "sparse-detr": ("Sparse DETR's scoring", VERMILION, "-", "s"),
    "sparse-detr-threshold": ("Sparse DETR's, one threshold", VERMILION, "--", "."),
    "sparse-detr-map": ("the attention it learns", VERMILION, ":", "s"),
    "focus-detr": ("Focus DETR's scoring", GREEN, "-", "^"),
    "focus-detr-threshold": ("Focus DETR's, one threshold", GREEN, "--", "."),
    "contrast": ("local contrast", ORANGE, "-", "v"),
    "centre": ("centre of the picture", ORANGE, "--", "v"),
    "random": ("random, five seeds", GREY, "-", "x"),
    "tome": ("ToMe's merging", PURPLE, "-", "D"),
    "layer-2": ("BAViT-small after layer 2", SKY, "-", "P"),
    "layer-4": ("BAViT-small after layer 4", SKY, "--", "P"),
    "resolution": ("lower resolution", BLACK, "-", "*"),
    "oracle-exact": ("true labels", BLACK, "--", ""),
    "oracle-near": ("true labels, far background first", BLACK, ":", ""),
    "oracle-mask": ("true masks, on BAViT's grid", GREY, "--", ""),
    "oracle-box": ("true boxes, on BAViT's grid", GREY, ":", ""),
}
_TABLES_ALONE = {
    "bavit-small-topk", "bavit-small-fill", "bavit-large-fill", "sparse-detr-threshold", "focus-detr-threshold",
    "oracle-mask", "oracle-box",
}  # fmt: skip
_DRAWN = [name for name in STYLES if name not in _TABLES_ALONE]


def selector_title(name: str) -> str:
    """A selector's name as figures and tables write it: "resolution-224" is "resolution 224 px"."""
    if name.startswith("resolution-"):
        return f"resolution {name.removeprefix('resolution-')} px"
    return STYLES[name][0] if name in STYLES else name


def family(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """A selector's rows, the cheapest first; those of all lower resolutions together."""
    found = rows[rows["selector"].str.startswith("resolution-") if name == "resolution" else rows["selector"] == name]
    return found.sort_values("gmacs")


def comparison_figure(rows: pd.DataFrame) -> Figure:
    """The change in AP of each selector against sparsity, latency, and multiply-adds here and at the paper's sizes.

    What needs the truth, or a run of the detector, stands in the first panel alone. Random choice is drawn as the range
    of its seeds.
    """
    fig, axes = plt.subplots(2, 2, figsize=(TEXT_WIDTH, 6.6), sharey=True)
    dense = rows[rows["selector"] == "dense"].iloc[0]
    panels = {
        "sparsity": (axes[0, 0], "sparsity", 1.0),
        "latency_ms_b1": (axes[0, 1], "time for one picture, of the dense detector's", dense["latency_ms_b1"]),
        "share": (axes[1, 0], "multiply-adds, of the dense detector's", 1.0),
        "paper_share": (axes[1, 1], "the same at the paper's sizes", 1.0),
    }
    for column, (ax, title, unit) in panels.items():
        for name in _DRAWN:
            if column != "sparsity" and name in TRUTH:
                continue
            _draw(ax, family(rows, name), name, column, unit)
        ax.set_xlabel(title)
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.axhline(0, color=BLACK, lw=0.8)
        if column != "sparsity":
            ax.plot(1, 0, "o", color=BLACK, ms=6, mfc="white", label="dense, nothing in front")
    for ax in axes[:, 0]:
        ax.set_ylabel("change in AP (points)")
    lowest = 100 * rows["delta_AP"][rows["selector"] == "bavit-small"].min()
    axes[0, 0].set_ylim(1.1 * lowest, -0.08 * lowest)  # where BAViT is; who falls further leaves the picture
    for ax in axes.flat[1:]:
        ax.set_xlim(right=1.25)
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return fig


def _draw(ax: Axes, part: pd.DataFrame, name: str, column: str, unit: float) -> None:
    part = part.dropna(subset=[column])
    if not len(part):
        return
    label, colour, line, marker = STYLES[name]
    grouped = part.assign(x=part[column] / unit, y=100 * part["delta_AP"]).groupby("budget", dropna=False)
    if name == "random":
        spread = grouped.agg(x=("x", "mean"), low=("y", "min"), high=("y", "max")).sort_values("x")
        ax.fill_between(spread["x"], spread["low"], spread["high"], color=colour, alpha=0.5, lw=0, label=label)
        return
    part = part.assign(x=part[column] / unit, y=100 * part["delta_AP"]).sort_values("x")
    ax.plot(part["x"], part["y"], ls=line, marker=marker, ms=3.5, lw=1.3, color=colour, label=label)


def context_figure(rows: pd.DataFrame, highest: float = 0.5) -> Figure:
    """The change in AP where exactly true background goes, against mistakes: the first tokens of Table 2.

    The true labels with the rest in random order, and in the order of its distance to what is true; BAViT; random
    choice; and the paper's rows. Bands are 95 % intervals over pictures, paired with the dense detector.
    """
    fig, ax = plt.subplots(figsize=(0.75 * TEXT_WIDTH, 3.4))
    for name in ("oracle-near", "oracle-exact", "bavit-small", "random"):
        part = rows[(rows["selector"] == name) & (rows["sparsity"] <= highest)]
        if not len(part):
            continue
        label, colour, line, marker = STYLES[name]
        columns = ["delta_AP", "delta_AP_low", "delta_AP_high"]
        mean = 100 * part.groupby("sparsity")[columns].mean()
        mean.loc[0.0] = 0.0
        mean = mean.sort_index()
        ax.plot(mean.index, mean["delta_AP"], ls=line, marker=marker, ms=3.5, color=colour, label=label)
        ax.fill_between(mean.index, mean["delta_AP_low"], mean["delta_AP_high"], color=colour, alpha=0.15, lw=0)
    paper = [row for row in PAPER.table2 if row["detector"] == "yolos" and row["sparsity"] <= highest]
    drop = [100 * (row["AP"] - PAPER.base_AP) for row in paper]
    ax.plot([row["sparsity"] for row in paper], drop, "--", color=PAPER_COLOUR, marker="s", ms=3.5, label="paper, COCO")
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.set(xlabel="sparsity", ylabel="change in AP (points)")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend()
    return fig


def typical_pictures(shares: Sequence[float], count: int = 3) -> list[int]:
    """Indices of pictures whose shares of foreground lie evenly between the fewest and the most."""
    order = np.argsort(shares)
    return order[np.linspace(0, len(order) - 1, count + 2).round().astype(int)[1:-1]].tolist()
