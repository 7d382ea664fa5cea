"""The paper's picture figures: labels (Fig. 2), what is kept (Fig. 4), post-processing (Fig. 6), rules side by side.

Pictures are uint8 [H, W, 3] of any size, grids [rows, cols]; each is stretched over the whole picture.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .config import PATCH_SIZE
from .figures import (
    BG_COLOUR,
    BLUE,
    FALSE_COLOUR,
    FG_COLOUR,
    GREY,
    MISSED_COLOUR,
    TEXT_WIDTH,
    VERMILION,
    YELLOW,
    draw_boxes,
    overlay,
    paint_grid,
    show_picture,
)


def _panels(images: Sequence[np.ndarray], rows: int, width: float = TEXT_WIDTH) -> tuple[Figure, np.ndarray]:
    """A figure of one column a picture, all of one height, and `rows` rows: its axes [rows, pictures]."""
    aspects = [image.shape[1] / image.shape[0] for image in images]
    return plt.subplots(rows, len(images), figsize=(width, rows * (width / sum(aspects) + 0.2)), width_ratios=aspects,
                        squeeze=False)


def figure2(images: Sequence[np.ndarray], masks: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Figure:
    """Fig. 2: pictures from left to right; originals, the objects' area in transparency, and the labelled grid.

    `masks` are class masks [H, W], 0 background and 255 void; `labels` [rows, cols] as in `annotations`.
    """
    fig, axes = _panels(images, 3, 0.75 * TEXT_WIDTH)
    for column, image, mask, grid in zip(axes.T, images, masks, labels, strict=True):
        show_picture(column[0], image)
        objects = ((mask > 0) & (mask < 255))[..., None]
        shade = np.where(objects, (*to_rgb(FG_COLOUR), 0.45), (0, 0, 0, 0.45))
        show_picture(column[1], image)
        paint_grid(column[1], image, np.where((mask == 255)[..., None], (1, 1, 1, 0.8), shade))
        overlay(column[2], image, grid)
    return fig


def compare_grids(images: Sequence[np.ndarray], grids: Mapping[str, Sequence[np.ndarray]],
                  boxes: Sequence[np.ndarray] | None = None) -> Figure:
    """One column a picture; on top the picture (with its boxes, if given), then a row for each named list of grids."""
    fig, axes = _panels(images, 1 + len(grids), 0.75 * TEXT_WIDTH)
    for i, image in enumerate(images):
        show_picture(axes[0, i], image)
        if boxes is not None:
            draw_boxes(axes[0, i], boxes[i])
        for ax, found in zip(axes[1:, i], grids.values(), strict=True):
            overlay(ax, image, found[i])
            ax.set_title(f"{np.mean(np.asarray(found[i]) == 1):.0%} FG")
    for ax, name in zip(axes[1:, 0], grids, strict=True):
        ax.text(-0.04, 0.5, name, rotation=90, ha="right", va="center", transform=ax.transAxes)
    return fig


def figure4(
    images: Sequence[np.ndarray], keeps: Mapping[str, Sequence[np.ndarray]], width: float = TEXT_WIDTH
) -> Figure:
    """Figs. 4 and 1: originals on top; below, a row a named model: pruned patches white, and the share that is pruned.

    `width` is in inches.
    """
    fig, axes = _panels(images, 1 + len(keeps), width)
    for ax, image in zip(axes[0], images, strict=True):
        show_picture(ax, image)
    for row, (name, grids) in zip(axes[1:], keeps.items(), strict=True):
        row[0].text(-0.04, 0.5, name, rotation=90, ha="right", va="center", transform=row[0].transAxes)
        for ax, image, keep in zip(row, images, grids, strict=True):
            overlay(ax, image, keep, style="white")
            ax.add_patch(plt.Rectangle((0, 0), *image.shape[1::-1], fill=False, edgecolor=GREY, linewidth=0.8))
            ax.annotate(f"{1 - np.mean(np.asarray(keep)):.0%} sparsity", (0.5, 0), (0, -3), "axes fraction",
                        textcoords="offset points", ha="center", va="top")
    return fig


def figure6(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, filled: np.ndarray, steps: int) -> Figure:
    """Fig. 6: the true grid, the predicted one and the one after `steps` of post-processing, boolean [rows, cols].

    Background is grey. Foreground taken for background is orange, as the paper's text has it (its caption says the
    reverse); background taken for foreground, which the paper does not mark, is sky blue.
    """
    fig, axes = _panels([image] * 3, 1)
    titles = ("ground truth", "prediction", f"after {steps} step{'s' * (steps != 1)}")
    truth = np.asarray(truth).astype(int)
    for ax, title, grid in zip(axes[0], titles, (truth, predicted, filled), strict=True):
        grid = np.asarray(grid).astype(int)
        overlay(ax, image, grid, style="grey")
        paint = np.zeros((*grid.shape, 4))
        paint[(truth == 1) & (grid == 0)] = (*to_rgb(MISSED_COLOUR), 0.85)
        paint[(truth == 0) & (grid == 1)] = (*to_rgb(FALSE_COLOUR), 0.7)
        paint_grid(ax, image, paint)
        ax.set_title(title)
    colours = {"FG taken for BG": MISSED_COLOUR, "BG taken for FG": FALSE_COLOUR, "BG": BG_COLOUR}
    fig.legend(handles=[Patch(color=c, label=n) for n, c in colours.items()], loc="outside lower center", ncols=3)
    return fig


def contact_sheet(images: Sequence[np.ndarray], columns: int, boxes: Sequence[np.ndarray] | None = None,
                  names: Sequence[Sequence[str]] | None = None) -> Figure:
    """Pictures side by side in equal cells, with their boxes [n, 4] and the boxes' names, if given."""
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(TEXT_WIDTH, rows * TEXT_WIDTH / columns), squeeze=False)
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(images):
            show_picture(ax, images[i])
            draw_boxes(ax, boxes[i] if boxes is not None else [], names[i] if names is not None else ())
    return fig


def literal_jaccard(tau: float) -> Figure:
    """Eqs. 1-2 for a patch inside a square box: coverage, and the Jaccard coefficient taken literally, by its side."""
    sides = np.linspace(PATCH_SIZE, 12 * PATCH_SIZE, 400)
    largest = PATCH_SIZE / np.sqrt(tau)
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 2.8))
    ax.plot(sides, np.ones_like(sides), label="coverage |P∩B| / |P|", color=BLUE)
    ax.plot(sides, PATCH_SIZE**2 / sides**2, label="Jaccard |P∩B| / |P∪B|", color=VERMILION)
    ax.axhline(tau, color=GREY, linestyle="--", linewidth=1)
    ax.text(sides[-1], tau + 0.02, f"τ = {tau:g}", ha="right", color=GREY)
    ax.axvspan(PATCH_SIZE, largest, color=YELLOW, alpha=0.35, label=f"J ≥ τ: sides up to {largest:.1f} px")
    ax.set(xlabel="side of the box (px)", ylabel="overlap", xlim=(PATCH_SIZE, sides[-1]), ylim=(0, 1.05))
    ax.legend()
    return fig
