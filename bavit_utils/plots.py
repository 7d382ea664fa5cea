"""Curves and bars: trainings, Table 2 with its sweep and token arithmetic, grids, time.

Fractions come in as in the result files, 0 to 1, and are drawn in per cent; AP is drawn in points.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter

from .config import get_profile
from .cost import multiply_adds, token_table
from .figures import (
    BLUE,
    COLUMN_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    OURS_COLOUR,
    PAPER_COLOUR,
    PURPLE,
    SKY,
    TEXT_WIDTH,
    VERMILION,
    draw_boxes,
    overlay,
    show_picture,
)
from .paper import PAPER
from .pruning import detector_keep, resize_grid

_SELECTORS = {
    "bavit-small": ("BAViT-small", OURS_COLOUR), "bavit-large": ("BAViT-large", SKY),
    "random": ("random choice", PURPLE), "oracle-mask": ("oracle: the true labels", GREEN),
    "oracle-box": ("oracle: the true boxes", GREEN),
}
_PERCENT = PercentFormatter(1, decimals=0)


def selector_name(selector: str) -> str:
    """What a legend calls who chooses the tokens."""
    return _SELECTORS.get(selector, (selector, None))[0]


def training_curves(rows: pd.DataFrame, metric: str = "metric") -> Figure:
    """Training loss, as a running mean of 20 entries, and the evaluation's metric against the epoch (section 3.4).

    `rows` of `results/curves.json` for one or several trainings: `run, step, loss, metric`. A row has a loss, or, after
    each epoch, a metric. Runs that differ in their seed alone share a colour. `metric` is the second axis's label.
    """
    fig, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 3.4))
    names = rows["run"].str.replace(r"-seed\d+$", "", regex=True)
    for number, (name, group) in enumerate(rows.groupby(names, sort=False)):
        colour, style = f"C{number % 7}", ("-", "--", ":")[number // 7]
        for seed, (_, line) in enumerate(group.groupby("run")):
            losses, metrics = line[line["loss"].notna()], line[line["metric"].notna()]
            epoch = metrics["step"].min() if len(metrics) else 1  # steps of an epoch
            mean = losses["loss"].rolling(20, min_periods=1, center=True).mean()
            label = None if seed else name
            axes[0].plot(losses["step"] / epoch, mean, style, color=colour, lw=1, label=label)
            axes[1].plot(metrics["step"] / epoch, metrics["metric"], style, color=colour, lw=1, marker=".", label=label)
    axes[0].set_ylabel("training loss")
    axes[1].set_ylabel(metric)
    for ax in axes:
        is_long = axes[1].dataLim.x1 >= 10  # a few epochs need no logarithm
        ax.set(xlabel="epoch", xscale="log" if is_long else "linear")
        ax.xaxis.set_major_formatter("{x:g}")
    fig.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def sweep_figure(curves: Mapping[str, pd.DataFrame], dense_gmacs: float, dense_ap: float) -> Figure:
    """Table 2 as curves: change in AP against sparsity, the paper's beside ours, and against the multiply-adds saved.

    `curves` maps a selector ("bavit-small", "random", "oracle-mask", ...) to rows of `sweep.sweep`; BAViT's has its
    bootstrap band. The multiply-adds of the paper's rows are computed at its sizes, and BAViT's own are counted.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 3.3), sharey=True)
    paper = pd.DataFrame(row for row in PAPER.table2 if row["detector"] == "yolos")
    drop, sizes = 100 * (paper["AP"] - PAPER.base_AP), get_profile("coco")
    patches = int(np.prod(sizes.detector_grid))
    dense = multiply_adds(patches, sizes, bavit=None)
    saved = [1 - multiply_adds(patches * (1 - sparsity), sizes) / dense for sparsity in paper["sparsity"]]
    for ax, x in ((left, paper["sparsity"]), (right, saved)):
        ax.plot(x, drop, "o--", color=PAPER_COLOUR, label=f"paper, COCO (dense {100 * PAPER.base_AP:.1f})")
    for name, rows in curves.items():
        label, colour = _SELECTORS.get(name, (name, None))
        rows = rows.sort_values("sparsity_reached")
        if name.startswith("bavit"):
            label += f" (dense {100 * dense_ap:.1f})"
        for ax, x in ((left, rows["sparsity_reached"]), (right, 1 - rows["gmacs"] / dense_gmacs)):
            ax.plot(x, 100 * rows["delta_AP"], "o-", color=colour, label=label)
            if name.startswith("bavit"):
                ax.fill_between(x, 100 * rows["delta_low"], 100 * rows["delta_high"], alpha=0.18, lw=0, color=colour)
    left.set(xlabel="sparsity on the detector's grid", ylabel="change in AP (points)")
    right.set(xlabel="multiply-adds saved, BAViT counted")
    right.axvline(0, color=GREY, lw=0.8)
    for ax in (left, right):
        ax.xaxis.set_major_formatter(_PERCENT)
        ax.axhline(0, color=GREY, lw=0.8)
    right.legend(loc="lower left", frameon=True, framealpha=1, edgecolor="none")
    return fig


def threshold_figure(rows: pd.DataFrame) -> Figure:
    """Sparsity and foreground recall against the threshold (section 4.2), from rows with these three columns.

    Thresholds lie inside (0, 1), and the axis is their logit: most of what sparsity does, it does near 1.
    """
    rows = rows.sort_values("threshold")
    fig, ax = plt.subplots(figsize=(COLUMN_WIDTH, 2.6))
    ax.plot(rows["threshold"], rows["sparsity"], color=BLUE, label="patches pruned")
    ax.plot(rows["threshold"], rows["fg_recall"], color=VERMILION, label="foreground kept")
    ax.set(xlabel="threshold", ylabel="share", ylim=(0, 1.02), xscale="logit")
    ax.xaxis.set_major_locator(FixedLocator((0.1, 0.5, 0.9, 0.99, 0.999)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(_PERCENT)
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def token_arithmetic(sparsities: Sequence[float] | None = None) -> Figure:
    """Table 2's token columns as bars: BAViT's tokens and the detector's kept ones, beside the dense detector's.

    At the paper's sizes; the per cent at a bar's end are the reduction of Eq. 4 as meant.
    """
    table = token_table(sorted(sparsities or {row["sparsity"] for row in PAPER.table2}))
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 0.28 * len(table) + 0.8))
    y = np.arange(len(table))
    ax.barh(y, table["tokens_bavit"], color=VERMILION, label="BAViT, 2 layers")
    ax.barh(y, table["tokens_pruned"], left=table["tokens_bavit"], color=SKY, label="YOLOS, 12 layers, kept patches")
    ax.axvline(table["tokens_yolos"].iloc[0], color="black", lw=1, label="YOLOS, dense")
    for row in table.itertuples():
        ax.text(row.tokens_total + 100, row.Index, f"{-100 * row.reduction:+.2f} %", va="center", fontsize=8)
    ax.set(yticks=y, yticklabels=[f"{sparsity:.0%}" for sparsity in table["sparsity"]], ylabel="sparsity",
           xlabel="tokens, all layers", xlim=(0, 1.12 * table["tokens_total"].max()))
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def sparsity_histogram(sparsities: Mapping[str, Sequence[float]]) -> Figure:
    """How sparsity is spread over pictures, a panel for each named operating point; the line is the mean."""
    fig, axes = plt.subplots(1, len(sparsities), figsize=(TEXT_WIDTH, 2.4), sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes[0], sparsities.items(), strict=True):
        ax.hist(np.asarray(values), bins=np.linspace(0, 1, 21), color=SKY, edgecolor="white")
        ax.axvline(np.mean(values), color=VERMILION)
        ax.set(xlabel="sparsity of a picture", title=f"{name}: mean {np.mean(values):.0%}", xlim=(0, 1))
        ax.xaxis.set_major_formatter(_PERCENT)
    axes[0, 0].set_ylabel("pictures")
    return fig


def resize_comparison(image: np.ndarray, fg_prob: np.ndarray, grid: tuple[int, int], threshold: float) -> Figure:
    """BAViT's map on its own grid and on the detector's by nearest, bilinear and any-overlap (section 3.5).

    `fg_prob` float32 [rows, cols] of one picture, `grid` the detector's; red patches are kept.
    """
    maps = torch.as_tensor(fg_prob)[None]
    own = tuple(maps.shape[1:])
    keeps = {f"BAViT's {own[0]}×{own[1]}": detector_keep(maps, threshold, own)}
    keeps |= {f"{mode}, {grid[0]}×{grid[1]}": detector_keep(maps, threshold, grid, mode=mode)
              for mode in ("nearest", "bilinear", "any")}
    fig, axes = plt.subplots(1, len(keeps), figsize=(TEXT_WIDTH, 2.1))
    for ax, (name, keep) in zip(axes, keeps.items(), strict=True):
        overlay(ax, image, keep[0].numpy())
        ax.set_title(f"{name}\n{keep.float().mean():.0%} kept", fontsize=8)
    return fig


def copies(rows: int, to_rows: int) -> np.ndarray:
    """How many detector patches copy each of BAViT's in nearest resizing (section 3.5), int [rows, rows]."""
    source = torch.arange(rows * rows, dtype=torch.float32).view(1, rows, rows)
    copied = resize_grid(source, (to_rows, to_rows)).flatten().long()
    return torch.bincount(copied, minlength=rows * rows).view(rows, rows).numpy()


def copies_figure(rows: int, to_rows: int) -> Figure:
    """The counts of `copies`, of the first twelve rows and columns: patches count once, twice or four times."""
    counts = copies(rows, to_rows)[:12, :12]
    fig, ax = plt.subplots(figsize=(COLUMN_WIDTH, COLUMN_WIDTH))
    ax.imshow(counts, cmap="Blues", vmin=0, vmax=6)
    for (row, col), count in np.ndenumerate(counts):
        ax.text(col, row, count, ha="center", va="center", fontsize=8)
    ax.set(xlabel="column of BAViT's grid", ylabel="row")
    ax.grid(visible=False)
    return fig


def pruned_detections(image: np.ndarray, keeps: Sequence[np.ndarray], found: Sequence[Mapping], names: Sequence[str],
                      titles: Sequence[str], min_score: float = 0.5) -> Figure:
    """One picture at several thresholds: pruned patches white, and the boxes that the detector still finds.

    `keeps` are boolean [rows, cols], `found` the detections of `yolos.predict`, `names` the classes'.
    """
    fig, axes = plt.subplots(1, len(keeps), figsize=(TEXT_WIDTH, TEXT_WIDTH / len(keeps) + 0.4), squeeze=False)
    for ax, keep, detection, title in zip(axes[0], keeps, found, titles, strict=True):
        show_detections(ax, image, keep, detection, names, min_score)
        ax.set_title(title, fontsize=8)
    return fig


def show_detections(ax: Axes, image: np.ndarray, keep: np.ndarray | None, detection: Mapping, names: Sequence[str],
                    min_score: float = 0.5) -> None:
    """A picture, without its pruned patches if `keep` is given, and its detections of at least `min_score`."""
    show_picture(ax, image) if keep is None else overlay(ax, image, keep, style="white")
    sure = detection["scores"] >= min_score
    found = [names[label] for label in detection["labels"][sure]]
    draw_boxes(ax, detection["boxes"][sure].numpy(), found, ORANGE)  # seen on white as well
