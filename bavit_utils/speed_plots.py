"""Speed from stored measurements: against sparsity, beside what the multiply-adds allow, and against AP.

`rows` are those of `results/throughput-<device>.json` for one profile, as `benchmark.throughput` gives them.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .figures import GREEN, GREY, OURS_COLOUR, PAPER_COLOUR, PURPLE, SKY, TEXT_WIDTH, VERMILION
from .paper import PAPER

_WAYS = {"mask": ("masked, not gathered", "X"), "pad": ("padded to the longest", "P")}
_COLOURS = (OURS_COLOUR, PURPLE, GREEN, SKY, VERMILION)


def _gathered(rows: pd.DataFrame, batch: int) -> pd.DataFrame:
    return rows[(rows["method"] == "gather") & (rows["batch"] == batch)].sort_values("sparsity")


def break_even(rows: pd.DataFrame, batch: int) -> float:
    """The sparsity above which pruning, BAViT included, is faster than the dense detector; NaN where none is.

    Interpolated between measured sparsities.
    """
    part = _gathered(rows, batch)
    speedup, sparsity = part["speedup"].to_numpy(), part["sparsity"].to_numpy()
    above = np.flatnonzero(speedup >= 1)
    if not len(above):
        return float("nan")
    first = above[0]
    if first == 0:
        return float(sparsity[0])
    return float(np.interp(1, speedup[first - 1 : first + 1], sparsity[first - 1 : first + 1]))


def images_per_s(rows: pd.DataFrame, batch: int, sparsity: np.ndarray) -> np.ndarray:
    """Pictures a second at sparsities [N] of a batch size, BAViT included: times interpolated between measured ones."""
    part = _gathered(rows, batch)
    return 1000 * batch / np.interp(sparsity, part["sparsity"], part["median_ms"])


def dense_images_per_s(rows: pd.DataFrame, batch: int) -> float:
    """Pictures a second of the dense detector alone."""
    part = rows[(rows["method"] == "dense") & (rows["batch"] == batch)]
    return 1000 * batch / part["median_ms"].iloc[0]


def speed_figure(rows: pd.DataFrame) -> Figure:
    """How many times as fast as dense, against sparsity, a panel a batch size: measured, and what the MACs allow.

    BAViT's time and multiply-adds are counted. The band spans the quartiles of the timed rounds; crosses are the two
    ways of pruning that compute the pruned tokens all the same (section 4.2's throughput).
    """
    batches = sorted(rows["batch"].unique())
    fig, axes = plt.subplots(1, len(batches), figsize=(TEXT_WIDTH, 3.1), sharey=True, squeeze=False)
    for ax, batch in zip(axes[0], batches, strict=True):
        _speed_panel(ax, rows[rows["batch"] == batch], batch)
    axes[0, 0].set_ylabel("times as fast as dense")
    axes[0, 0].set_ylim(bottom=0.5)  # for all panels, and last: it ends the fitting of the upper end
    fig.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def _speed_panel(ax: Axes, rows: pd.DataFrame, batch: int) -> None:
    part = _gathered(rows, batch)
    dense = part["median_ms"] * part["speedup"]
    ax.plot(part["sparsity"], part["mac_speedup"], "--", color=PAPER_COLOUR, label="allowed by multiply-adds")
    ax.plot(part["sparsity"], part["speedup"], "o-", color=OURS_COLOUR, label="measured")
    ax.fill_between(part["sparsity"], dense / part["q75_ms"], dense / part["q25_ms"], color=OURS_COLOUR, alpha=0.2, lw=0)
    for way, (label, marker) in _WAYS.items():
        found = rows[rows["method"] == way]
        ax.plot(found["sparsity"], found["speedup"], marker, color="black", ls="", label=label)
    ax.axhline(1, color="black", lw=0.8)
    ax.set(title=f"batch {batch}: breaks even at {break_even(rows, batch):.0%}", xlabel="sparsity")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def drop_speed_figure(curves: Mapping[str, pd.DataFrame], rows: pd.DataFrame, at_paper_sizes: pd.DataFrame) -> Figure:
    """Change in AP against how many times as fast as dense, a panel a batch size; the paper's rows dashed.

    `curves` as in `ap_speed_figure`. The paper gives no times: its rows stand at the speeds measured at its sizes, from
    `at_paper_sizes`, the stored rows of that profile.
    """
    batches = sorted(rows["batch"].unique())
    paper = pd.DataFrame(row for row in PAPER.table2 if row["detector"] == "yolos")
    fig, axes = plt.subplots(1, len(batches), figsize=(TEXT_WIDTH, 3.3), sharey=True, squeeze=False)
    for ax, batch in zip(axes[0], batches, strict=True):
        if len(at_paper_sizes) and batch in at_paper_sizes["batch"].unique():
            faster = times_dense(at_paper_sizes, batch, paper["sparsity"])
            drop = 100 * (paper["AP"] - PAPER.base_AP)
            ax.plot(faster, drop, "o--", ms=3.5, color=PAPER_COLOUR, label="paper's AP, our time at its sizes")
        for (label, curve), colour in zip(curves.items(), _COLOURS, strict=False):
            curve = curve.sort_values("sparsity_reached")
            faster = times_dense(rows, batch, curve["sparsity_reached"])
            ax.plot(faster, 100 * curve["delta_AP"], "o-", ms=3.5, color=colour, label=label)
        ax.axvline(1, color="black", lw=0.8)
        ax.set(title=f"batch {batch}", xlabel="times as fast as dense")
    axes[0, 0].set_ylabel("change in AP (points)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def times_dense(rows: pd.DataFrame, batch: int, sparsity: pd.Series) -> np.ndarray:
    """How many times as fast as the dense detector at sparsities [N] of a batch size, BAViT's time counted."""
    return images_per_s(rows, batch, sparsity.to_numpy()) / dense_images_per_s(rows, batch)


def ap_speed_figure(curves: Mapping[str, pd.DataFrame], rows: pd.DataFrame) -> Figure:
    """AP against measured pictures a second, a panel a batch size; the dense detector alone is the star.

    `curves` maps a label to rows of `results/table2-<profile>.json`, of the same profile as `rows`: one detector and
    one choice of tokens each. A curve's speed is that of gathering at its sparsity, so all selectors are charged
    BAViT's time.
    """
    batches = sorted(rows["batch"].unique())
    fig, axes = plt.subplots(1, len(batches), figsize=(TEXT_WIDTH, 3.3), sharey=True, squeeze=False)
    for ax, batch in zip(axes[0], batches, strict=True):
        for (label, curve), colour in zip(curves.items(), _COLOURS, strict=False):
            curve = curve.sort_values("sparsity_reached")
            speed = images_per_s(rows, batch, curve["sparsity_reached"].to_numpy())
            ax.plot(speed, 100 * curve["AP"], "o-", ms=3.5, color=colour, label=label)
        dense = next(iter(curves.values()))
        top = 100 * (dense["AP"] - dense["delta_AP"]).iloc[0]
        ax.plot(dense_images_per_s(rows, batch), top, "*", color=GREY, ms=11, ls="", label="dense, without BAViT")
        ax.set(title=f"batch {batch}", xlabel="pictures a second")
    axes[0, 0].set_ylabel("AP (points)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig
