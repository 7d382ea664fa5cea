"""Calibration and post-processing drawn, a panel for each data set; one that wasn't measured says so.

Each function takes, by data set, the stored rows of one BAViT (`results.load_rows`), empty where there are none.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter

from .experiments.postprocessing import papers_setting
from .figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, TEXT_WIDTH, VERMILION
from .paper import PAPER
from .results import NOT_RUN

_PERCENT = PercentFormatter(1, decimals=0)
_THRESHOLD_TICKS = (0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
_CURVES = {
    "sparsity": (BLUE, "patches pruned"),
    "fg_recall": (VERMILION, "foreground kept"),
    "accuracy": (GREEN, "answers right"),
}
_COUNTS = {1: ORANGE, 2: VERMILION, 3: PURPLE, 4: GREEN}  # FG neighbours to exceed
_MARKERS = {8: "o", 4: "s"}  # neighbours


def reliability_figure(rows: Mapping[str, pd.DataFrame]) -> Figure:
    """The observed share of foreground against the predicted probability, with its interval; bars: share of tokens.

    `rows` of `calibration.calibration_rows`. Below the diagonal BAViT sees more foreground than there is. Titles give
    the calibration error in per cent.
    """
    fig, axes = plt.subplots(1, len(rows), figsize=(TEXT_WIDTH, 2.6), sharey=True, squeeze=False)
    axes[0, 0].set_ylabel("observed share of FG")
    for ax, (name, frame) in zip(axes[0], rows.items(), strict=True):
        ax.set(title=name, xlabel="predicted FG probability", xlim=(0, 1), ylim=(0, 1))
        ax.yaxis.set_major_formatter(_PERCENT)
        bins = _part(ax, frame, "reliability")
        if not len(bins):
            continue
        ax.bar(
            bins["bin_low"],
            bins["count"] / bins["count"].sum(),
            bins["bin_high"] - bins["bin_low"],
            align="edge",
            color=SKY,
            alpha=0.5,
            edgecolor="white",
        )
        ax.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
        bins = bins[bins["count"] > 0]
        spread = (bins[["observed_low", "observed_high"]].sub(bins["observed"], axis=0)).abs().T.to_numpy()
        ax.errorbar(bins["predicted"], bins["observed"], spread, fmt="o-", color=BLUE, capsize=2)
        ax.set_title(f"{name}: error {100 * _part(ax, frame, 'calibration-error')['ece'].iloc[0]:.1f} %")
    return fig


def threshold_curves(rows: Mapping[str, pd.DataFrame]) -> Figure:
    """Sparsity, foreground recall and accuracy against the threshold (section 4.2), with bands of 95 %.

    `rows` of `calibration.calibration_rows`. The upright line is the threshold chosen on dev pictures, the dots what it
    gives on the held-out ones; the level one is the foreground that was to be kept. The axis is the threshold's logit.
    """
    fig, axes = plt.subplots(1, len(rows), figsize=(TEXT_WIDTH, 3), sharey=True, squeeze=False)
    for ax, (name, frame) in zip(axes[0], rows.items(), strict=True):
        ax.set(title=name, xlabel="threshold", xscale="logit", xlim=(0.04, 0.992), ylim=(0, 1.02))
        ax.xaxis.set_major_locator(FixedLocator(_THRESHOLD_TICKS))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(_PERCENT)
        curve = _part(ax, frame, "threshold")
        if not len(curve):
            continue
        point = _part(ax, frame, "operating-point").set_index("split").loc["held-out"]
        for column, (colour, _) in _CURVES.items():
            ax.plot(curve["threshold"], curve[column], color=colour)
            ax.fill_between(
                curve["threshold"], curve[f"{column}_low"], curve[f"{column}_high"], color=colour, alpha=0.2, lw=0
            )
            ax.plot(point["threshold"], point[column], "o", color=colour)
        ax.axhline(1 - point["most_lost"], color=GREY, lw=0.8)
        ax.axvline(point["threshold"], color=GREY, lw=0.8)
        ax.set_title(f"{name}: set to {point['threshold']:.3f}")
    handles = [Line2D([], [], color=colour, label=label) for colour, label in _CURVES.values()]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def sparsity_of_pictures(rows: Mapping[str, pd.DataFrame]) -> Figure:
    """How sparsity is spread over pictures, at threshold 0.5 and at the chosen one; grey: the true share of background.

    `rows` of `calibration.calibration_rows`; the upright line is the paper's 70 %.
    """
    fig, axes = plt.subplots(1, len(rows), figsize=(TEXT_WIDTH, 2.7), sharey=True, squeeze=False)
    axes[0, 0].set_ylabel("share of pictures")
    for ax, (name, frame) in zip(axes[0], rows.items(), strict=True):
        ax.set(title=name, xlabel="sparsity of a picture", xlim=(0, 1))
        ax.xaxis.set_major_formatter(_PERCENT)
        ax.yaxis.set_major_formatter(_PERCENT)
        spread = _part(ax, frame, "sparsity-of-pictures")
        for colour, row in zip((GREY, BLUE, VERMILION), spread.itertuples(), strict=False):
            shares = np.array(row.histogram) / row.n_images
            ax.stairs(
                shares,
                np.linspace(0, 1, len(shares) + 1),
                color=colour,
                fill=colour == GREY,
                alpha=0.4 if colour == GREY else 1,
                lw=1.3,
            )
        if len(spread):
            ax.axvline(PAPER.sparsity_of_many_images, color=BLACK, ls="--", lw=0.8)
    labels = {GREY: "labels", BLUE: "threshold 0.5", VERMILION: "threshold set to keep the foreground"}
    handles = [Line2D([], [], color=colour, label=label) for colour, label in labels.items()]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def postprocessing_figure(rows: Mapping[str, pd.DataFrame]) -> Figure:
    """The appendix's fills as points, over the curve of moving the threshold alone: foreground recall and accuracy.

    `rows` of `postprocessing.postprocessing_rows`; steps are joined. Below, the difference in foreground recall at
    equal sparsity, with its interval: above zero a fill earns its place. The ring is the paper's setting.
    """
    fig, axes = plt.subplots(3, len(rows), figsize=(TEXT_WIDTH, 7.2), sharex="col", squeeze=False)
    for ax, label in zip(
        axes[:, 0], ("foreground kept", "token accuracy", "FG kept, fill less threshold"), strict=True
    ):
        ax.set_ylabel(label)
    for column, (name, frame) in zip(axes.T, rows.items(), strict=True):
        column[0].set_title(name)
        column[-1].set_xlabel("sparsity")
        for ax, value in zip(column, ("fg_recall", "accuracy", "delta_fg_recall"), strict=True):
            ax.xaxis.set_major_formatter(_PERCENT)
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1 if value.startswith("delta") else 0))
            if len(_part(ax, frame)):
                _draw_fills(ax, frame, value)
    handles = [Line2D([], [], color=colour, label=f"more than {count}") for count, colour in _COUNTS.items()]
    handles += [
        Line2D([], [], color=GREY, marker=marker, ls="", label=f"{around} neighbours")
        for around, marker in _MARKERS.items()
    ]
    handles += [Line2D([], [], color=BLACK, ls="--", label="threshold alone")]
    handles += [Line2D([], [], color=BLACK, marker="o", ms=9, mfc="none", ls="", label="the paper's setting")]
    fig.legend(handles=handles, loc="outside upper center", ncols=4)
    fig.align_ylabels(axes[:, 0])
    return fig


def _draw_fills(ax: Axes, frame: pd.DataFrame, value: str) -> None:
    """One panel of `postprocessing_figure`."""
    if value.startswith("delta"):
        ax.axhline(0, color=BLACK, ls="--", lw=1)
    else:
        alone = frame.sort_values("sparsity")
        ax.plot(alone["sparsity"], alone[f"{value}_alone"], "--", color=BLACK, lw=1)
    for (around, count), line in frame.groupby(["neighbours", "more_than"]):
        line = line.sort_values("step")
        style = {"color": _COUNTS[count], "marker": _MARKERS[around], "ms": 3, "lw": 0.8}
        if value.startswith("delta"):
            spread = line[[f"{value}_low", f"{value}_high"]].sub(line[value], axis=0).abs().T.to_numpy()
            ax.errorbar(line["sparsity"], line[value], spread, elinewidth=0.6, **style)
        else:
            ax.plot(line["sparsity"], line[value], **style)
    paper = papers_setting(frame)
    ax.plot(paper["sparsity"], paper[value], "o", ms=9, mfc="none", mec=BLACK, mew=0.9)


def _part(ax: Axes, frame: pd.DataFrame, kind: str | None = None) -> pd.DataFrame:
    """The rows of one kind; where there are none, the panel says so."""
    part = frame[frame["kind"] == kind] if kind and len(frame) else frame
    if not len(part):
        ax.text(0.5, 0.5, NOT_RUN, ha="center", va="center", color=GREY, transform=ax.transAxes)
    return part
