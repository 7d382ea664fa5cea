"""What a person looks at: one style, figures on disk that stay as they are, and what is laid over pictures.

Pictures are uint8 [H, W, 3] of any size; a grid [rows, cols] is stretched over the whole of one, as pictures are warped
to the square before they are cut into patches. Axes are in pixels of the picture, so that boxes can be drawn on top.
"""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from torch import Tensor
from torchvision.ops import batched_nms

from .annotations import IGNORE_INDEX
from .config import Profile, figures_dir, get_profile
from .pages.tables import save_table

# Okabe and Ito's colours, which colour-blind eyes tell apart, and what they stand for here.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#8C8C8C"
FG_COLOUR, BG_COLOUR = VERMILION, GREY  # foreground and background patches (Fig. 2)
MISSED_COLOUR, FALSE_COLOUR = ORANGE, SKY  # foreground taken for background (Fig. 6), and the reverse
PAPER_COLOUR, OURS_COLOUR = VERMILION, BLUE  # the paper's numbers beside ours
# One colour for one thing in all figures, by the name it has in the stored rows.
COLOURS = {
    "paper": VERMILION, "yolos": BLACK, "yolos-f": PURPLE, "yolos-control": ORANGE, "yolos-sparse": "#7F3C8D",
    "bavit-small": BLUE, "bavit-large": SKY, "random": GREY, "truth": GREEN,
    "resolution": "#B8860B", "tome": "#882255", "sparse-detr": "#44AA99", "focus-detr": "#AA4499",
    "attention": "#999933", "contrast": "#6A51A3", "centre": "#BDBDBD", "later": "#117733",
    "inside": "#332288", "adaptive": "#661100", "coarse": "#66AA00",
}  # fmt: skip
BUNDLED = ("", "sample", "photos")  # no pictures, and those that are ours to store
FRAME_MS = 400  # of one image in an animation
TEXT_WIDTH, COLUMN_WIDTH = 7.0, 3.4  # inches, the width of a figure across the page, and of one in a column

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
}  # fmt: skip


def use_style() -> None:
    """Set matplotlib to the one style of all figures."""
    plt.rcParams.update(_STYLE)


def save(
    item: Figure | pd.DataFrame | Sequence[Image.Image],
    name: str,
    caption: str,
    paper: str = "",
    results: Sequence[str] = (),
    shows: str = "",
) -> pd.DataFrame | None:
    """Write a notebook's figure (PNG, SVG), table (Markdown, CSV, LaTeX) or frames (GIF) to the profile's folder.

    `paper` is the paper's figure or table that it answers ("Fig. 2"), `results` the stored results it is made of: with
    the caption they go into the folder's `index.json`, which figures/README.md is written from. `shows` is the data set
    whose pictures it shows, of which only the bundled ones (`sample`, `photos`) are ours to store. Returns a table as
    it is to be shown.
    """
    profile, shown = get_profile(), None
    kind = "table" if isinstance(item, pd.DataFrame) else "figure" if isinstance(item, Figure) else "animation"
    if kind == "table":
        shown = save_table(item, name, profile, caption)
    elif shows not in BUNDLED:
        return None
    elif kind == "figure":
        save_figure(item, name, profile, bool(shows))
    else:
        _save_animation(item, figures_dir(profile) / f"{name}.gif")
    index = read_index(profile)
    key = f"{name} ({kind})"
    notebook = Path(os.environ.get("JPY_SESSION_NAME", "")).stem or index.get(key, {}).get("notebook", "")
    index[key] = {
        "name": name, "kind": kind, "caption": caption, "paper": paper, "results": list(results), "shows": shows,
        "notebook": notebook,
    }  # fmt: skip
    write_index(profile, index)
    return shown


def read_index(profile: Profile) -> dict[str, dict]:
    """What is known of a profile's stored figures and tables, by name and kind."""
    path = figures_dir(profile) / "index.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_index(profile: Profile, index: dict[str, dict]) -> None:
    """Keep what figures/README.md says of a profile's figures and tables, sorted by name."""
    text = json.dumps(dict(sorted(index.items())), indent=1, ensure_ascii=False) + "\n"
    (figures_dir(profile) / "index.json").write_text(text, encoding="utf-8")


def _save_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """Write images of one size, one after the other, over and over; what looks the same is left untouched."""
    drawn = io.BytesIO()
    first, *others = (frame.convert("RGB").quantize(128, dither=Image.Dither.NONE) for frame in frames)
    first.save(drawn, format="gif", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    if not _looks_like(path, drawn.getvalue(), 2e-3):
        path.write_bytes(drawn.getvalue())


def save_figure(fig: Figure, name: str, profile: Profile, shows_pictures: bool = False) -> Path:
    """Write `figures/<profile>/<name>.png`, and `.svg` where no pictures are shown; returns the PNG's path.

    A stored figure that looks the same is left untouched: 0.02 % of the pixels may differ visibly, or, with pictures,
    0.2 %, about two patches that another processor's rounding turned.
    """
    path = figures_dir(profile) / f"{name}.png"
    drawn = io.BytesIO()
    # Saving resets a figure without a layout to the style's: without this, the second file would have another one.
    with plt.rc_context(_STYLE | {"figure.constrained_layout.use": False}):
        fig.savefig(drawn, format="png", metadata={"Software": None})
        png = in_256_colours(drawn.getvalue())
        tolerance = 2e-3 if shows_pictures else 2e-4
        unchanged = any(_looks_like(path, content, tolerance) for content in (png, drawn.getvalue()))
        if not unchanged:
            path.write_bytes(png)
        vector = path.with_suffix(".svg")
        if not shows_pictures and not (unchanged and vector.exists()):
            fig.savefig(vector, metadata={"Date": None, "Creator": None})
    return path


def in_256_colours(png: bytes) -> bytes:
    """A PNG with a palette instead of a colour for each pixel: a third of the size, and hardly to be seen."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def _looks_like(path: Path, content: bytes, tolerance: float) -> bool:
    """Whether at most the share `tolerance` of a stored PNG's or GIF's pixels is visibly off from that in `content`."""
    if not path.exists():
        return False
    try:
        stored = _frames(path)
    except OSError:  # damaged: write it anew
        return False
    new = _frames(io.BytesIO(content))
    return stored.shape == new.shape and (np.abs(stored - new).max(axis=-1) > 16).mean() <= tolerance


def _frames(file: Path | io.BytesIO) -> np.ndarray:
    """All pictures of a file, int [frames, H, W, 3]."""
    with Image.open(file) as image:
        return np.stack([np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(image)])


def curve(ax: Axes, rows: pd.DataFrame, x: str, y: str, name: str, label: str = "", band: tuple = ()) -> None:
    """A curve over stored rows in its own colour (`COLOURS`), with a marker a row.

    `band` names the columns of the interval's two ends, which are drawn as a shade.
    """
    rows, colour = rows.sort_values(x), COLOURS[name]
    ax.plot(rows[x], rows[y], color=colour, marker="o", label=label or name)
    if band:
        ax.fill_between(rows[x], rows[band[0]], rows[band[1]], color=colour, alpha=0.15, linewidth=0)


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


def to_draw(found: dict[str, Tensor], min_score: float) -> Tensor:
    """Which of an image's detections are drawn, best first: indices of a score of `min_score` and more.

    Of boxes of one class that overlap by more than IoU 0.3 the best is drawn. For the eye alone: AP counts them all.
    """
    best = batched_nms(found["boxes"], found["scores"], found["labels"], 0.3)
    return best[found["scores"][best] >= min_score]


def draw_boxes(ax: Axes, boxes: np.ndarray, names: Sequence[str] = (), colour: str = YELLOW) -> None:
    """Draw boxes [n, 4], xyxy in pixels of the picture, and their names, but for one that would cover another's."""
    width, named = abs(np.diff(ax.get_xlim())[0]), []
    for i, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, dtype=float).reshape(-1, 4)):
        ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.4))
        if len(names):
            ends = x1, x1 + 0.035 * width * len(names[i])  # of the text, in a panel as wide as ours are
            if any(abs(y1 - y) < 0.07 * width and ends[0] < end and start < ends[1] for start, end, y in named):
                continue
            named.append((*ends, y1))
            plate = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
            above = "bottom" if y1 > 12 else "top"
            ax.text(x1, y1, names[i], fontsize=6, color=BLACK, va=above, clip_on=True, bbox=plate)
