"""Patch labels from boxes or masks (section 3.1, Eqs. 1 and 2, Fig. 2): 1 is foreground, 0 background, -100 ignored.

Pictures are warped to the square, so a grid of (rows, cols) patches divides the original picture into rows x cols equal
rectangles, whatever its size, and patch borders may cut pixels. Everything is computed in the original picture, in
units of 1/rows and 1/cols of a pixel: every patch is height x width units large and whole pixels have whole
coordinates, so that shares such as exactly one half come out exactly.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from .data.records import Record

VOID = 255  # the mask value of pixels that are neither foreground nor background
IGNORE_INDEX = -100  # the label of a patch that nothing is known about


def labels_from_boxes(
    boxes: np.ndarray,
    image_size: tuple[int, int],
    grid: tuple[int, int],
    rule: str = "coverage",
    tau: float = 0.5,
    crowd: np.ndarray | None = None,
) -> np.ndarray:
    """Label a patch foreground where the best single box reaches `tau` (Eq. 1, max over j): int64 [rows, cols].

    boxes: [n, 4] xyxy in pixels of the original picture, the end exclusive; n may be 0.
    image_size, grid: (height, width) in pixels and (rows, cols) in patches.
    rule: "coverage", the share of the patch inside the box, which is what works; or "jaccard", Eq. 2 taken literally,
        which only boxes about as small as a patch can reach.
    crowd: bool [n], boxes that are no foreground. What they cover beside other boxes leaves the patch's area; a patch
        with nothing left is -100.
    Raises ValueError for an unknown rule or a `tau` outside (0, 1].
    """
    if rule not in ("coverage", "jaccard"):
        raise ValueError(f"unknown box rule {rule!r}: choose coverage or jaccard")
    if not 0 < tau <= 1:
        raise ValueError(f"tau is {tau}: a box rule needs a share in (0, 1]")
    (height, width), (rows, cols) = image_size, grid
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    area = height * width
    if crowd is not None and np.any(crowd):
        crowd = np.asarray(crowd, dtype=bool)
        area = area - _crowd_area(boxes[crowd], boxes[~crowd], image_size, grid)
        boxes = boxes[~crowd]
    x1, y1, x2, y2 = boxes.T
    inside = overlaps(y1, y2, height, rows)[:, :, None] * overlaps(x1, x2, width, cols)[:, None, :]
    whole = area
    if rule == "jaccard":
        whole = area + ((x2 - x1) * cols * (y2 - y1) * rows)[:, None, None] - inside
    labels = (inside >= tau * whole).any(axis=0)
    return np.where(area <= 1e-9 * height * width, IGNORE_INDEX, labels)  # fractional coordinates leave crumbs of area


def labels_from_mask(mask: np.ndarray, grid: tuple[int, int], tau: float = 0.1) -> np.ndarray:
    """Label a patch foreground where more than `tau` of it lies under objects (section 3.1): int64 [rows, cols].

    mask: uint8 [H, W], 0 background, 255 void, anything else an object. Void pixels leave numerator and denominator; a
    patch of nothing else is -100. A pixel on a patch border counts by its parts. Raises ValueError for a `tau` outside
    [0, 1).
    """
    if not 0 <= tau < 1:
        raise ValueError(f"tau is {tau}: the mask rule needs a share in [0, 1)")
    void = mask == VOID
    area = mask.size - _patch_sums(void, grid) if void.any() else mask.size
    foreground = _patch_sums((mask != 0) ^ void, grid)
    return np.where(area == 0, IGNORE_INDEX, foreground > tau * area)


TAU = {"mask": 0.1, "box": 0.5}  # section 3.1


def labels_for(record: "Record", grid: tuple[int, int], rule: str = "mask", tau: float | None = None) -> np.ndarray:
    """Label one picture's patches by its class mask (`rule` "mask", more than 10 %) or boxes ("box", 50 % coverage).

    `tau` sets another share than these. Returns int64 [rows, cols]. Difficult objects are foreground, crowds are
    neither. Raises ValueError for another rule, and DataError where the data set has no masks.
    """
    if rule not in TAU:
        raise ValueError(f"unknown label rule {rule!r}: choose mask or box")
    tau = TAU[rule] if tau is None else tau
    if rule == "mask":
        return labels_from_mask(record.mask(), grid, tau)
    return labels_from_boxes(record.boxes, record.size, grid, tau=tau, crowd=record.crowd)


def stacked_labels(
    records: Iterable["Record"], grid: tuple[int, int], rule: str = "mask", tau: float | None = None
) -> np.ndarray:
    """`labels_for` of several pictures: int64 [N, rows, cols]."""
    return np.stack([labels_for(record, grid, rule, tau) for record in records])


def overlaps(start: np.ndarray, end: np.ndarray, size: int, cells: int) -> np.ndarray:
    """Lengths [n, cells] of intervals [n] in each of `cells` equal parts of `size` pixels, in 1/cells of a pixel."""
    edges = np.arange(cells + 1) * size
    ends = np.minimum(end[:, None] * cells, edges[1:])
    return np.maximum(ends - np.maximum(start[:, None] * cells, edges[:-1]), 0)


def _crowd_area(
    crowds: np.ndarray, objects: np.ndarray, image_size: tuple[int, int], grid: tuple[int, int]
) -> np.ndarray:
    """Area [rows, cols] of each patch under crowd boxes [m, 4] and under no other box [n, 4], in the module's units.

    The borders of all boxes cut the picture into rectangles that are inside or outside each box as a whole.
    """
    (height, width), (rows, cols) = image_size, grid
    boxes = np.concatenate([crowds, objects])
    x, y = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    in_x = (boxes[:, 0, None] <= x[:-1]) & (x[:-1] < boxes[:, 2, None])
    in_y = (boxes[:, 1, None] <= y[:-1]) & (y[:-1] < boxes[:, 3, None])
    covered = in_y[:, :, None] & in_x[:, None, :]
    crowd_only = covered[: len(crowds)].any(axis=0) & ~covered[len(crowds) :].any(axis=0)
    overlap_y, overlap_x = overlaps(y[:-1], y[1:], height, rows), overlaps(x[:-1], x[1:], width, cols)
    return overlap_y.T @ crowd_only.astype(np.float64) @ overlap_x


@lru_cache(maxsize=2048)
def _pixel_weights(size: int, cells: int) -> tuple[sparse.csr_array, np.ndarray]:
    """Overlaps [cells, size] of each of `size` pixels with each of `cells` patches, sparse and dense.

    Cached, as pictures and the windows cropped from them have few sizes. A row sums to `size`: 16 bits hold every sum
    over flags, as a JPEG's sides do not exceed 65,535.
    """
    pixels = np.arange(size)
    weights = overlaps(pixels, pixels + 1, size, cells).T
    return sparse.csr_array(weights.astype(np.uint16)), weights.astype(np.float64)


def _patch_sums(flags: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Area [rows, cols] of the true pixels of bool [H, W] in each patch, in the module's units; exact."""
    (rows, _), (_, cols) = _pixel_weights(flags.shape[0], grid[0]), _pixel_weights(flags.shape[1], grid[1])
    return (rows @ flags.astype(np.uint16)) @ cols.T
