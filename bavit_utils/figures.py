"""What a person looks at: one style, figures and tables on disk that stay as they are, and the paper's picture figures.

Pictures are uint8 [H, W, 3] of any size; a grid [rows, cols] is stretched over the whole of one, as pictures are warped
to the square before they are cut into patches. Axes are in pixels of the picture, so that boxes can be drawn on top.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from .annotations import IGNORE_INDEX
from .config import PATCH_SIZE, Profile, figures_dir

# Okabe and Ito's colours, which colour-blind eyes tell apart, and what they stand for here.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = PALETTE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)
GREY = "#8C8C8C"
FG_COLOUR, BG_COLOUR = VERMILION, GREY  # foreground and background patches (Fig. 2)
MISSED_COLOUR, FALSE_COLOUR = ORANGE, SKY  # foreground taken for background (Fig. 6), and the reverse
PAPER_COLOUR, OURS_COLOUR = VERMILION, BLUE  # the paper's numbers beside ours
TEXT_WIDTH = 7.0  # inches, the width of a figure across the page

_STYLE = {
    "axes.prop_cycle": cycler(color=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK]),
    "figure.figsize": (TEXT_WIDTH, 3.6), "figure.dpi": 100, "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is everywhere the same
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#E5E5E5", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "lines.linewidth": 1.6, "lines.markersize": 4,
    "svg.hashsalt": "bavit", "svg.fonttype": "path",
}


def use_style() -> None:
    """Set matplotlib to the one style of all figures."""
    plt.rcParams.update(_STYLE)


def save_figure(fig: Figure, name: str, profile: Profile, shows_pictures: bool = False) -> Path | None:
    """Write `figures/<profile>/<name>.png`, and `.svg` where no pictures are shown; returns the PNG's path.

    A stored figure that looks the same is left untouched: 0.02 % of the pixels may differ visibly, or, with pictures,
    0.2 %, about two patches that another processor's rounding turned. Pictures of VOC and COCO are not ours to store:
    with `shows_pictures` nothing is written for them, and None comes back.
    """
    if shows_pictures and profile.name != "sample":
        return None
    path = figures_dir(profile) / f"{name}.png"
    drawn = io.BytesIO()
    # Saving resets a figure without a layout to the style's: without this, the second file would have another one.
    with plt.rc_context(_STYLE | {"figure.constrained_layout.use": False}):
        fig.savefig(drawn, format="png", metadata={"Software": None})
        unchanged = _looks_like(path, drawn.getvalue(), 2e-3 if shows_pictures else 2e-4)
        if not unchanged:
            path.write_bytes(drawn.getvalue())
        vector = path.with_suffix(".svg")
        if not shows_pictures and not (unchanged and vector.exists()):
            fig.savefig(vector, metadata={"Date": None, "Creator": None})
    return path


def _looks_like(path: Path, png: bytes, tolerance: float) -> bool:
    """Whether at most the share `tolerance` of a stored picture's pixels is visibly off from the PNG in `png`."""
    if not path.exists():
        return False
    try:
        stored = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    except OSError:  # damaged: write it anew
        return False
    new = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)
    return stored.shape == new.shape and (np.abs(stored - new).max(axis=2) > 16).mean() <= tolerance


_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def save_table(frame: pd.DataFrame, name: str, profile: Profile, caption: str) -> pd.DataFrame:
    """Write `figures/<profile>/<name>.md`, with its caption, and `.csv`; returns the table as it is shown, in strings.

    Shown numbers are rounded by column, missing ones are a dash; a row that was not run says so in words of its own
    (`results.NOT_RUN`). The CSV holds all digits. Stored files whose numbers agree within 1e-6 are left untouched.
    """
    shown, markdown = shown_table(frame), f"{caption}\n\n{markdown_table(frame)}"
    path = figures_dir(profile) / f"{name}.md"
    csv = frame.to_csv(index=False, lineterminator="\n")
    if not (_same_numbers(path.with_suffix(".csv"), csv) and _same_form(path, markdown, caption)):
        path.write_text(markdown, encoding="utf-8")
        path.with_suffix(".csv").write_text(csv, encoding="utf-8")
    return shown


def shown_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as a reader sees it: every cell a string, rounded by column, and no index."""
    return pd.DataFrame({column: _shown_column(frame[column]) for column in frame}, index=[""] * len(frame))


def markdown_table(frame: pd.DataFrame) -> str:
    """`shown_table` in GitHub's Markdown, numbers to the right."""
    rule = [":--" if frame[column].map(lambda value: isinstance(value, str)).any() else "--:" for column in frame]
    shown = shown_table(frame).map(lambda cell: cell.replace("|", r"\|")).to_numpy().tolist()
    return "".join(f"| {' | '.join(line)} |\n" for line in [list(frame), rule, *shown])


def _same_numbers(path: Path, csv: str) -> bool:
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    if _NUMBER.sub("#", stored) != _NUMBER.sub("#", csv):
        return False
    old, new = (np.array(_NUMBER.findall(text), dtype=float) for text in (stored, csv))
    return np.allclose(old, new, rtol=1e-6, atol=1e-6)


def _same_form(path: Path, markdown: str, caption: str) -> bool:
    """Whether the stored table has this caption, and this one's cells but for digits."""
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    return stored.startswith(f"{caption}\n\n") and re.sub(r"\d", "0", stored) == re.sub(r"\d", "0", markdown)


def _shown_column(column: pd.Series) -> list[str]:
    numbers = [float(value) for value in column if not isinstance(value, str | bool | np.bool_) and pd.notna(value)]
    largest = max(map(abs, numbers), default=0)
    decimals = 0 if all(map(float.is_integer, numbers)) else 3 if largest < 2 else 2 if largest < 100 else 1

    def cell(value) -> str:
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        return value if isinstance(value, str) else "–" if pd.isna(value) else f"{value:,.{decimals}f}"

    return [cell(value) for value in column]


def overlay(ax: Axes, image: np.ndarray, keep: np.ndarray, style: str = "red", grid_lines: bool = True) -> None:
    """Draw a picture and what a grid of patches, boolean or labels [rows, cols], says of it.

    style "red": foreground tinted and outlined in red, background greyed, patches without a label (-100) left as they
    are (Fig. 2); "grey": background greyed only; "white": background white, as pruned (Fig. 4). Axes are in pixels of
    the picture. Raises ValueError for another style.
    """
    if style not in ("red", "grey", "white"):
        raise ValueError(f"unknown style {style!r}: choose red, grey or white")
    keep = np.asarray(keep).astype(int)
    paint = np.zeros((*keep.shape, 4))
    paint[keep == 0] = (1, 1, 1, 1) if style == "white" else (*to_rgb(BG_COLOUR), 0.72)
    if style == "red":
        paint[keep == 1] = (*to_rgb(FG_COLOUR), 0.25)
    show_picture(ax, image)
    paint_grid(ax, image, paint)
    if grid_lines and style != "white":
        outline(ax, image, keep != IGNORE_INDEX, "white", 0.4)
        if style == "red":
            outline(ax, image, keep == 1, FG_COLOUR, 0.8)


def show_picture(ax: Axes, image: np.ndarray, title: str = "") -> None:
    """Draw a picture without axes, in its own pixels."""
    ax.imshow(image, extent=(0, image.shape[1], image.shape[0], 0), interpolation="antialiased")
    ax.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0), title=title)
    ax.axis("off")


def paint_grid(ax: Axes, image: np.ndarray, paint: np.ndarray) -> None:
    """Lay colours RGBA [rows, cols, 4] in 0..1 over a drawn picture, one a patch."""
    ax.imshow(paint, extent=(0, image.shape[1], image.shape[0], 0), interpolation="nearest")


def outline(ax: Axes, image: np.ndarray, cells: np.ndarray, colour: str, width: float = 0.8) -> None:
    """Draw the borders of the patches where `cells`, boolean [rows, cols], is true."""
    height, width_px = np.array(image.shape[:2]) / cells.shape
    rows, cols = np.nonzero(cells)
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
    polygons = (np.stack([cols, rows], -1)[:, None] + corners) * (width_px, height)
    ax.add_collection(PolyCollection(polygons, facecolors="none", edgecolors=colour, linewidths=width), autolim=False)


def draw_boxes(ax: Axes, boxes: np.ndarray, names: Sequence[str] = (), colour: str = YELLOW) -> None:
    """Draw boxes [n, 4], xyxy in pixels of the picture, and their names."""
    for i, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, dtype=float).reshape(-1, 4)):
        ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.4))
        if len(names):
            ax.text(x1, y1, names[i], fontsize=6, color=BLACK, va="bottom" if y1 > 12 else "top", clip_on=True,
                    bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6})


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


def figure4(images: Sequence[np.ndarray], keeps: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Fig. 4: originals on top; below, a row a named model: pruned patches white, and the share that is pruned."""
    fig, axes = _panels(images, 1 + len(keeps))
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
