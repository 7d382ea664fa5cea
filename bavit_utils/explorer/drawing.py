"""How the threshold explorer looks: images by Pillow and NumPy, quick enough to follow a hand, and numbers in HTML.

Images are uint8 [h, w, 3]; a grid [rows, cols] is stretched over the whole of one.
"""

import html
import io

import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.colors import to_hex
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from ..figures import BLUE, FG_COLOUR, MISSED_COLOUR, ORANGE
from ..images import warp
from .compute import MIN_SCORE, Found, Numbers

_SIDE = 400  # pixels of the longer side
_NARROWEST = 1 / 3  # of a picture's sides, so that a strip still shows something
_CIVIDIS = (255 * colormaps["cividis"](np.arange(256))[:, :3]).round().astype(np.uint8)
_GRADIENT = ", ".join(to_hex(colour / 255) for colour in _CIVIDIS[::15])
_FONT = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 14)
_BOTH, _ALONE = (BLUE, "white"), (ORANGE, "black")  # boxes, and the text on them: detected in both runs, or in one only

STYLE = """<style>
.bavit-explorer {padding: 4px 12px 8px 4px}
.bavit-tiles {display: grid; grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); gap: 6px; line-height: 1.35;
  margin: 6px 0}
.bavit-tiles > div {background: var(--jp-layout-color2, #f3f3f3); border-radius: 6px; padding: 6px 8px}
.bavit-tiles b {display: block; font-size: 18px; font-weight: 600; white-space: nowrap}
.bavit-tiles small {font-size: 11px; font-weight: 400}
.bavit-tiles span, .bavit-small {font-size: 11px; color: var(--jp-ui-font-color1, #333)}
.bavit-caption {font-size: 12px; line-height: 1.35; font-weight: 600}
.bavit-chip {display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 0; border-radius: 2px}
.bavit-key {display: inline-block; white-space: nowrap; margin-right: 8px}
.bavit-bar {position: relative; height: 12px; border-radius: 2px}
.bavit-bar i {position: absolute; top: -3px; height: 18px; width: 3px; margin-left: -1px; outline: 1px solid white}
.bavit-ends {display: flex; justify-content: space-between}
.bavit-view {width: 100%; border-radius: 4px}
.bavit-stale {opacity: 0.4}
</style>"""


def canvas(image: np.ndarray) -> np.ndarray:
    """The picture at the size of the drawings, uint8 [h, w, 3], its longer side 400 pixels."""
    sides = np.array(image.shape[:2]) / max(image.shape[:2])
    height, width = (np.maximum(sides, _NARROWEST) * _SIDE).round().astype(int).tolist()
    return warp(image, (height, width))


def map_view(picture: np.ndarray, fg_prob: np.ndarray, above: np.ndarray) -> bytes:
    """The foreground probability [rows, cols] in cividis, and an outline of what is `above` the cut, as JPEG."""
    view = _stretch(_CIVIDIS[(255 * fg_prob).round().astype(int)], picture)
    return _jpeg(_outlined(view, _stretch(above, picture)))


def keep_view(picture: np.ndarray, keep: np.ndarray, truth: np.ndarray | None) -> bytes:
    """The picture with pruned patches faded, true foreground among them marked, and the kept outlined, as JPEG."""
    view = _faded(picture, keep)
    if truth is not None:
        lost = _stretch((truth == 1) & ~keep, picture)
        view[lost] = picture[lost] // 3 + (np.array(ImageColor.getrgb(MISSED_COLOUR)) * 2 // 3).astype(np.uint8)
    return _jpeg(_outlined(view, _stretch(keep, picture)))


def boxes_view(picture: np.ndarray, keep: np.ndarray | None, found: Found, in_both: list[bool]) -> bytes:
    """The image, pruned patches faded, with what is detected: blue in both runs, orange in this one only; as JPEG.

    Names lie over all boxes, and not over each other where there is room.
    """
    view = Image.fromarray(picture if keep is None else _faded(picture, keep))
    draw = ImageDraw.Draw(view)
    corners = (found.boxes.numpy().clip(0, 1) * (np.tile(view.size, 2) - 1)).tolist()
    colours = [_BOTH if both else _ALONE for both in in_both]
    for (x1, y1, x2, y2), (colour, _) in zip(corners, colours, strict=True):
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=3)
    taken: list[tuple[float, ...]] = []
    for box, (colour, ink), name in zip(corners, colours, found.names, strict=True):
        _, _, right, bottom = draw.textbbox((0, 0), name, _FONT)
        taken.append(_free_place(box, (right + 6, bottom + 4), view.size, taken))
        draw.rectangle(taken[-1], fill=colour)
        draw.text((taken[-1][0] + 3, taken[-1][1] + 1), name, ink, _FONT)
    return _jpeg(np.asarray(view))


def _free_place(box, size, canvas_size, taken) -> tuple[float, ...]:
    """Where a name of `size` goes: at a corner of its box, outside or inside, within the image; free if one is."""
    (x1, y1, x2, y2), (width, height), (right, bottom) = box, size, canvas_size
    corners = [(x, y) for y in (y1 - height, y2, y1, y2 - height) for x in (x1, x2 - width)]
    inside = [(min(max(x, 0), right - width), y) for x, y in corners if 0 <= y <= bottom - height]
    places = [(x, y, x + width, y + height) for x, y in inside or [(0, 0)]]
    overlaps = [any(a < r and l < c and b < d and t < e for l, t, r, d in taken) for a, b, c, e in places]
    return places[overlaps.index(False) if False in overlaps else 0]


def bar(threshold: float) -> str:
    """The probability's colours with a mark where the threshold cuts, in HTML."""
    mark = f'<i style="left: {100 * (1 - threshold):.2f}%; background: {FG_COLOUR}"></i>'
    ends = '<div class="bavit-small bavit-ends"><span>0 % background</span><span>foreground 100 %</span></div>'
    return f'<div class="bavit-bar" style="background: linear-gradient(to right, {_GRADIENT})">{mark}</div>{ends}'


def keep_legend(truth_known: bool) -> str:
    """What the colours of `keep_view` mean, in HTML."""
    lost = [(MISSED_COLOUR, "object lost")] if truth_known else []
    return _legend([("transparent", "kept", FG_COLOUR), ("#ddd", "pruned"), *lost])


def boxes_legend(alone: str) -> str:
    """What the colours of `boxes_view` mean, in HTML; `alone`: of a box found in this run only."""
    return _legend([(_BOTH[0], "detected in both"), (_ALONE[0], alone)])


def caption(text: str) -> str:
    """A view's title in HTML."""
    return f'<div class="bavit-caption">{html.escape(text)}</div>'


def sentences(lines: list[str]) -> str:
    """What has to be said, a line each, in HTML that a screen reader reads out."""
    return f'<div class="bavit-small" role="status">{"<br>".join(map(html.escape, lines))}</div>'


def tiles(n: Numbers, measured_ms: float | None = None, n_found: int | None = None, n_dense: int | None = None) -> str:
    """The numbers, a tile each, in HTML; those of the detector's run on kept patches are None until it is made."""
    recall, note = ("–", "truth not known") if n.fg_recall is None else (f"{n.fg_recall:.0%}", "of true patches")
    if n.fg_recall != n.fg_recall:  # NaN
        recall, note = "–", "no object here"
    cells = [
        ("Pruned (sparsity)", f"{n.sparsity:.0%}", f"{n.kept} of {n.patches} kept"),
        ("Foreground recall", recall, note),
        ("Tokens", f"{n.tokens:,}", f"unpruned: {n.dense_tokens:,}"),
        ("Multiply-adds", f"{n.gmacs:.2f} G", f"unpruned: {n.dense_gmacs:.2f} G"),
    ]
    if n.dense_ms:
        speed = f"{measured_ms:.0f} ms <small>{n.dense_ms / measured_ms:.2f}×</small>" if measured_ms else "…"
        found, dense = ("…" if count is None else count for count in (n_found, n_dense))
        cells += [
            ("Time, predicted", f"{n.dense_ms * n.gmacs / n.dense_gmacs:.0f} ms", "by multiply-adds"),
            ("Time, measured", speed, f"unpruned: {n.dense_ms:.0f} ms"),
            (f"Boxes, ≥ {MIN_SCORE:.0%} sure", found, f"unpruned: {dense}"),
        ]
    shown = (f"<div><span>{title}</span><b>{value}</b><span>{below}</span></div>" for title, value, below in cells)
    return f'<div class="bavit-tiles">{"".join(shown)}</div>'


def _legend(entries: list[tuple[str, ...]]) -> str:
    def key(colour: str, text: str, border: str = "transparent") -> str:
        chip = f'<span class="bavit-chip" style="background: {colour}; border: 2px solid {border}"></span>'
        return f'<span class="bavit-key">{chip}{html.escape(text)}</span>'

    return f'<div class="bavit-small">{"".join(key(*entry) for entry in entries)}</div>'


def _stretch(cells: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Every pixel's cell: [rows, cols, ...] to [h, w, ...]."""
    (height, width), (rows, cols) = picture.shape[:2], cells.shape[:2]
    return cells[np.arange(height) * rows // height][:, np.arange(width) * cols // width]


def _faded(picture: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Pruned patches nearly white, with as much of the picture as tells what went."""
    return np.where(_stretch(keep, picture)[..., None], picture, picture // 5 + np.uint8(204))


def _outlined(view: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The border of `inside`, bool [h, w], two pixels wide and within it."""
    rim = inside & ~binary_erosion(inside, np.ones((3, 3)), iterations=2)
    return np.where(rim[..., None], np.array(ImageColor.getrgb(FG_COLOUR), dtype=np.uint8), view)


def _jpeg(view: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(view).save(buffer, "jpeg", quality=90, subsampling=0)
    return buffer.getvalue()
