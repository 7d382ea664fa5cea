"""The paper's diagrams in our own drawing: BAViT (Fig. 3 left), BAViT before YOLOS (Fig. 3 right), the kernel (Fig. 5).

The drawn boat is a real little input: its foreground map is the mask rule, the finer map `pruning.resize_grid` of the
coarse one, and Fig. 5's cells are `pruning.fill_neighbours`. Drawn grids stand for larger ones: 6x6 for 24x24, 8x8 for
32x32.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.path import Path

from .annotations import labels_from_mask
from .figures import BLUE, FG_COLOUR, GREEN, GREY, PURPLE, TEXT_WIDTH
from .pruning import fill_neighbours, resize_grid

_INK, _QUIET, _EMPTY = "#222222", "#777777", "#E3E3E3"
_FONT = 7  # points, at the width of a page
_COARSE, _FINE = 6, 8  # patches along a side of the drawn grids
# The boat in a unit square with y upwards: hull, main sail, jib.
_BOAT = tuple(np.array(part) for part in (
    ((0.18, 0.36), (0.82, 0.36), (0.70, 0.19), (0.30, 0.19)),
    ((0.52, 0.40), (0.52, 0.88), (0.80, 0.40)),
    ((0.48, 0.40), (0.48, 0.78), (0.24, 0.40)),
))
_BOAT_COLOURS = ("#8C4A2F", "#FFFFFF", "#F3D9B1")
_SKY, _SEA, _HORIZON = "#BFE0F5", "#5B9BC8", 0.30
# Fig. 5's worked example: an object with holes, and a lonely patch.
_EXAMPLE = (
    (0, 0, 0, 0, 0, 0, 0),
    (0, 1, 1, 0, 1, 0, 0),
    (0, 1, 0, 0, 1, 1, 0),
    (0, 1, 1, 1, 0, 1, 0),
    (0, 0, 1, 0, 1, 0, 0),
    (1, 0, 0, 0, 0, 0, 0),
)


def draw_bavit() -> Figure:
    """BAViT part by part (Fig. 3 left): picture, patches, embedding, two blocks, two outputs a token, FG/BG map."""
    fig, ax = _canvas(100, 34)
    keep, middle = _foreground(_COARSE), 17.5
    _scene(ax, 0.5, 11, 13)
    _caption(ax, 7, 10.2, "picture\n384 × 384")
    _arrow(ax, (13.8, middle), (16.2, middle))
    _scene(ax, 16.5, 11, 13, _COARSE)
    _caption(ax, 23, 10.2, "16 × 16 px\npatches:\n24 × 24 = 576")
    _arrow(ax, (29.8, middle), (32.2, middle))
    _box(ax, 32.6, 6, 4.4, 23, "linear embedding", BLUE, rotation=90)
    _arrow(ax, (34.8, 31.2), (34.8, 29.3))
    _caption(ax, 34.8, 31.5, "+ positions", va="bottom")
    _arrow(ax, (37.3, middle), (39.4, middle))
    _column(ax, 39.8, 6, 2.6, 23, [BLUE] * 8)
    _caption(ax, 41.1, 5.2, "tokens\n576 × 192")
    for index, x in enumerate((45.2, 60)):
        _arrow(ax, (x - 2.5, middle), (x - 0.3, middle))
        _transformer_block(ax, x, 6, 12.2, 23, f"block {index + 1}")
    _caption(ax, 58.8, 31.5, "no class token: an answer for every patch", va="bottom", color=_QUIET)
    _arrow(ax, (72.5, middle), (74.6, middle))
    _box(ax, 74.9, 6, 4.4, 23, "linear head 192 → 2", FG_COLOUR, rotation=90)
    _arrow(ax, (79.6, middle), (81.5, middle))
    answers = (False, False, True, True, True, False, False, True)
    _column(ax, 81.9, 6, 1.7, 23, ["#FFFFFF" if is_fg else GREY for is_fg in answers])
    _column(ax, 83.8, 6, 1.7, 23, [FG_COLOUR if is_fg else "#FFFFFF" for is_fg in answers])
    _caption(ax, 83.7, 5.2, "BG | FG\n576 × 2")
    _arrow(ax, (85.9, middle), (87.7, middle))
    _grid(ax, 88, 11.7, 11.5, keep)
    _caption(ax, 93.75, 10.9, "FG / BG map\n24 × 24")
    return fig


def draw_bavit_yolos() -> Figure:
    """BAViT in front of YOLOS (Fig. 3 right, section 3.5): only kept patches are embedded and go through the layers."""
    fig, ax = _canvas(100, 53)
    keep = _foreground(_COARSE)
    fine = resize_grid(torch.from_numpy(keep)[None], (_FINE, _FINE))[0].numpy()
    _pruner_row(ax, keep, fine)
    middle = 16.5
    _scene(ax, 0.5, 9.5, 14, _FINE)
    _caption(ax, 7.5, 8.7, "512 × 512\n32 × 32 patches")
    _arrow(ax, (14.8, middle), (18.2, middle))
    _scene(ax, 18.5, 9.5, 14, _FINE, fine)
    _caption(ax, 25.5, 8.7, "gather: kept\npatches only")
    _arrow(ax, (32.8, middle), (35.4, middle))
    _column(ax, 35.8, 24.7, 2.6, 2.3, [PURPLE])
    _column(ax, 35.8, 13.1, 2.6, 10.8, [BLUE] * 4)
    _column(ax, 35.8, 6.9, 2.6, 5.4, [GREEN] * 2)
    for y, text in ((25.8, "class token"), (18.5, "kept patches\n+ positions"), (9.6, "100 detection\ntokens")):
        _caption(ax, 39.2, y, text, ha="left", va="center")
    _arrow(ax, (50.6, middle), (53.2, middle))
    _box(ax, 53.6, 6.1, 13, 22, "", BLUE)
    for y, text in ((23.5, "layer 1"), (19.5, "layer 2"), (15.5, "layer 3"), (7.4, "layer 12")):
        _box(ax, 54.9, y, 10.4, 3, text, BLUE, face="#FFFFFF")
    ax.text(60.1, 12.9, "⋮", ha="center", va="center", fontsize=10, color=_INK)
    _caption(ax, 60.1, 5.3, "YOLOS-tiny\non kept tokens")
    _arrow(ax, (67, 23.5), (69.4, 23.5))
    _box(ax, 69.8, 19.5, 13, 8, "zeros for\npruned patches", GREY, dashed=True)
    _caption(ax, 83.6, 23.5, "no head\nreads them", ha="left", va="center", color=_QUIET)
    _arrow(ax, (67, 10.6), (69.4, 10.6))
    _box(ax, 69.8, 6.1, 11, 9, "class and\nbox heads", PURPLE)
    _arrow(ax, (81.1, 10.6), (84.4, 10.6))
    _scene(ax, 84.8, 4.5, 14)
    _detection(ax, 84.8, 4.5, 14)
    _caption(ax, 91.8, 3.7, "boxes, classes")
    return fig


def _pruner_row(ax: Axes, keep: np.ndarray, fine: np.ndarray) -> None:
    """The upper row of Fig. 3 right: the small picture to the keep mask, which goes down to the gathering."""
    middle = 45
    _scene(ax, 1.5, 39, 12)
    _caption(ax, 7.5, 38.2, "384 × 384")
    _arrow(ax, (13.8, middle), (18.2, middle))
    _box(ax, 18.5, 39, 14, 12, "BAViT-small\n2 blocks", FG_COLOUR)
    _arrow(ax, (32.8, middle), (37.1, middle))
    _grid(ax, 37.5, 39, 12, keep)
    _caption(ax, 43.5, 38.2, "FG map\n24 × 24")
    _arrow(ax, (49.8, middle), (58.6, middle))
    _caption(ax, 54.2, 45.7, "nearest", va="bottom")
    _grid(ax, 59, 39, 12, fine)
    _caption(ax, 65, 38.2, "keep mask\n32 × 32")
    ax.plot((65, 65, 25.5), (33.4, 31, 31), color=_INK, lw=1)
    _arrow(ax, (25.5, 31), (25.5, 23.9))


def draw_kernel() -> Figure:
    """The appendix's convolution, worked (Fig. 5): patches, the foreground neighbours of each, after one step."""
    before = torch.tensor(_EXAMPLE, dtype=torch.bool)[None]
    counts = F.conv2d(before[:, None].float(), torch.ones(1, 1, 3, 3), padding=1)[0, 0].int().numpy()
    after = fill_neighbours(before, steps=1)[0].numpy()
    before = before[0].numpy()
    turned = after & ~before
    fig, ax = _canvas(100, 28)
    rows, cols = before.shape
    cell = 22 / rows
    for x, state, marked in ((0.5, before, None), (42, before, None), (73.8, after, turned)):
        _grid(ax, x, 5.5, cell * cols, state, marked)
    for row, col in zip(*np.nonzero(~before), strict=True):
        ax.text(42 + cell * (col + 0.5), 27.5 - cell * (row + 0.5), counts[row, col], ha="center", va="center",
                fontsize=_FONT, weight="bold" if turned[row, col] else "normal",
                color=BLUE if turned[row, col] else _INK)
    for row in range(3):
        for col in range(3):
            ax.add_patch(Rectangle((29.2 + 3 * col, 12 + 3 * row), 3, 3, fc="#FFFFFF", ec=_INK, lw=0.8))
            ax.text(30.7 + 3 * col, 13.5 + 3 * row, "1", ha="center", va="center", fontsize=_FONT, color=_INK)
    ax.text(27.9, 16.5, "∗", ha="center", va="center", fontsize=12, color=_INK)
    _arrow(ax, (38.6, 16.5), (41.4, 16.5))
    _arrow(ax, (68.3, 16.5), (73.2, 16.5))
    _caption(ax, 70.6, 17.5, "> 2", va="bottom")
    _caption(ax, 33.7, 11.2, "kernel")
    texts = {13.3: "before: FG = 1, BG = 0", 54.8: "FG neighbours of each BG patch", 86.6: "after one step"}
    for x, text in texts.items():
        _caption(ax, x, 4.7, text)
    return fig


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    fig = plt.figure(figsize=(TEXT_WIDTH, TEXT_WIDTH * height / width), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def _tint(colour: str, share: float = 0.22) -> tuple[float, ...]:
    """The colour on white, `share` of it."""
    return tuple(1 - share * (1 - channel) for channel in to_rgb(colour))


def _caption(ax: Axes, x: float, y: float, text: str, ha: str = "center", va: str = "top", color: str = _INK) -> None:
    ax.text(x, y, text, ha=ha, va=va, fontsize=_FONT, color=color, linespacing=1.25)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, lw=1, color=_INK, shrinkA=0,
                                 shrinkB=0))


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, rotation: float = 0,
         face: str | None = None, dashed: bool = False) -> None:
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", lw=1.1, ec=colour,
                                fc=face or _tint(colour), ls="--" if dashed else "-"))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=_FONT, rotation=rotation,
            color=_INK)


def _transformer_block(ax: Axes, x: float, y: float, width: float, height: float, name: str) -> None:
    """A pre-norm block: attention, then the MLP, each behind a norm."""
    _box(ax, x, y, width, height, "", BLUE)
    ax.text(x + width / 2, y + height - 1.9, name, ha="center", va="center", fontsize=_FONT, weight="bold", color=_INK)
    parts = ("norm", "self-attention", "norm", "MLP ×4")
    for index, part in enumerate(parts):
        _box(ax, x + 0.9, y + height - 7.6 - 4.7 * index, width - 1.8, 3.4, "", BLUE, face="#FFFFFF")
        ax.text(x + width / 2, y + height - 5.9 - 4.7 * index, part, ha="center", va="center", fontsize=_FONT,
                color=_INK)


def _column(ax: Axes, x: float, y: float, width: float, height: float, colours: list) -> None:
    """Tokens one above the other, the first on top."""
    step = height / len(colours)
    for index, colour in enumerate(colours):
        ax.add_patch(Rectangle((x, y + height - (index + 1) * step + 0.15), width, step - 0.3, lw=0.7, ec=_INK,
                               fc=_tint(colour, 0.45) if colour in (BLUE, GREEN, PURPLE) else colour))


def _grid(ax: Axes, x: float, y: float, width: float, state: np.ndarray, turned: np.ndarray | None = None) -> None:
    """A map of FG and BG patches; `turned` ones have a colour of their own."""
    cell = width / state.shape[1]
    for (row, col), is_fg in np.ndenumerate(state):
        colour = BLUE if turned is not None and turned[row, col] else FG_COLOUR if is_fg else _EMPTY
        corner = (x + col * cell, y + (state.shape[0] - 1 - row) * cell)
        ax.add_patch(Rectangle(corner, cell, cell, fc=colour, ec="#FFFFFF", lw=1))


def _scene(ax: Axes, x: float, y: float, side: float, cells: int = 0, keep: np.ndarray | None = None) -> None:
    """The boat at sea, `side` wide; cut into cells x cells patches, and without those that `keep` drops."""
    shapes = [Rectangle((x, y), side, side, fc=_SKY), Rectangle((x, y), side, _HORIZON * side, fc=_SEA),
              Circle((x + 0.16 * side, y + 0.84 * side), 0.08 * side, fc="#F7DC6F")]
    shapes += [Polygon(np.array((x, y)) + side * part, fc=colour)
               for part, colour in zip(_BOAT, _BOAT_COLOURS, strict=True)]
    for shape in shapes:
        ax.add_patch(shape)
    for cut in side * np.arange(1, cells) / max(cells, 1):
        ax.plot((x + cut, x + cut), (y, y + side), color="#FFFFFF", lw=1.8, solid_capstyle="butt")
        ax.plot((x, x + side), (y + cut, y + cut), color="#FFFFFF", lw=1.8, solid_capstyle="butt")
    if keep is not None:
        cell = side / cells
        for row, col in zip(*np.nonzero(~keep), strict=True):
            corner = (x + col * cell, y + (cells - 1 - row) * cell)
            ax.add_patch(Rectangle(corner, cell, cell, fc="#F2F2F2", ec="#FFFFFF", lw=1.8, zorder=2.5))


def _detection(ax: Axes, x: float, y: float, side: float) -> None:
    low = np.min([part.min(axis=0) for part in _BOAT], axis=0) * side + (x, y) - 0.4
    high = np.max([part.max(axis=0) for part in _BOAT], axis=0) * side + (x, y) + 0.4
    ax.add_patch(Rectangle(low, *(high - low), fill=False, ec=PURPLE, lw=1.8, zorder=3))
    ax.text(low[0], high[1], "boat 0.98", fontsize=6, color="#FFFFFF", ha="left", va="bottom",
            bbox={"boxstyle": "square,pad=0.2", "fc": PURPLE, "ec": PURPLE})


def _foreground(cells: int, pixels: int = 240) -> np.ndarray:
    """The boat's patches by the mask rule, more than 10 % (section 3.1): bool [cells, cells], the top row first."""
    centre = (np.arange(pixels) + 0.5) / pixels
    points = np.stack(np.meshgrid(centre, centre[::-1]), axis=-1).reshape(-1, 2)
    inside = np.any([Path(part).contains_points(points) for part in _BOAT], axis=0)
    return labels_from_mask(inside.reshape(pixels, pixels).astype(np.uint8), (cells, cells)) == 1
