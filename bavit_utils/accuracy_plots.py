"""Table 1 and the ablations as figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .figures import BLACK, GREEN, OURS_COLOUR, PAPER_COLOUR, TEXT_WIDTH
from .results import NOT_RUN

_ABLATIONS = {
    "depth": "transformer blocks",
    "size": "input side (px)",
    "init": "initial blocks",
    "pictures": "training pictures (equal steps)",
    "rule": "labels",
    "recipe": "recipe",
}


def table1_figure(table: pd.DataFrame) -> Figure:
    """Table 1 as points: the paper's, ours with its 95 % interval over pictures, and always one class as a stroke.

    `table` is `accuracy.table1`'s; rows that were not run are left out.
    """
    table = table[table["ours (%)"] != NOT_RUN]
    y = np.arange(len(table))[::-1]
    ours = table["ours (%)"].astype(float)
    low, high = table["95 % interval"].str.split(" to ", expand=True).astype(float).to_numpy().T
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 0.3 * len(table) + 0.8))
    ax.hlines(y, low, high, color=OURS_COLOUR, lw=1.2)
    ax.plot(ours, y, "o", color=OURS_COLOUR, label="ours, 95 % over pictures")
    ax.plot(table["paper (%)"].astype(float), y, "D", color=PAPER_COLOUR, label="paper")
    ax.plot(table["always one class (%)"].astype(float), y, "|", color=BLACK, markersize=14, label="always one class")
    names = table["model"] + ", " + table["data set"] + " " + table["labels"]
    names += table["recipe"].map(lambda recipe: ", paper's recipe" if recipe == "paper" else "")
    ax.set(yticks=y, yticklabels=names, xlabel="token accuracy (%)", xlim=(50, 100), ylim=(-0.6, len(y) - 0.4))
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def ablation_figure(what: str, rows: pd.DataFrame) -> Figure:
    """Token accuracy with one thing varied, 95 % over pictures, and always one class: rows of `ablation-<what>.json`.

    Where the labels themselves differ (`what` "rule"), the AUROC by mask labels stands beside the accuracy by a
    variant's own.
    """
    x = np.arange(len(rows))
    panels = 2 if what == "rule" else 1
    fig, axes = plt.subplots(1, panels, figsize=(TEXT_WIDTH * (0.55 if panels == 1 else 1), 2.6), squeeze=False)
    accuracy, low, high = (100 * rows[key].astype(float) for key in ("accuracy", "accuracy_low", "accuracy_high"))
    axes[0, 0].errorbar(x, accuracy, yerr=[accuracy - low, high - accuracy], fmt="o", color=OURS_COLOUR, capsize=2)
    axes[0, 0].plot(x, 100 * rows["majority"].astype(float), "_", color=BLACK, markersize=14, label="always one class")
    axes[0, 0].set(ylabel="token accuracy (%)")
    fig.legend(loc="outside upper left")
    if panels == 2:
        axes[0, 1].plot(x, rows["mask_auroc"].astype(float), "o", color=GREEN)
        axes[0, 1].set(ylabel="AUROC by mask labels")
    for ax in axes.flat:
        labels = [f"{value}" if what != "pictures" else f"{n}" for value, n in zip(rows["value"], rows["n_train"])]
        tilted = max(map(len, labels)) > 9
        ax.set_xticks(x, labels, rotation=20 if tilted else 0, ha="right" if tilted else "center")
        ax.set(xlabel=_ABLATIONS[what], xlim=(-0.5, len(x) - 0.5))
        ax.grid(axis="x", visible=False)
    return fig
