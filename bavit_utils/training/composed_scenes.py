"""Scenes composed from cut-out objects: an endless supply to start a detector on, before pictures as they are.

A few thousand pictures teach detection tokens and heads slowly where objects are. Pasting objects into these pictures
shows them other objects, at other places and sizes, at every visit.
"""

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torchvision.ops import box_convert, box_iou
from tqdm import tqdm

from ..config import Recipe
from ..data.records import Record
from .pictures import DetectionPictures

LEAST_AREA = 0.015  # of a picture, for an object that is worth cutting out
LEAST_SIDE = 32  # pixels, the longer side of such an object
LARGEST_CUTOUT = 256  # pixels, the longer side it is kept at
MOST_OVERLAID = 0.3  # of an object without mask, by the boxes of others: they would be pasted along, unlabelled
_FITS = 0.7  # IoU of a box and a region of the class mask that are the same object
_SOFT = 0.12  # width of the soft edge around an object without mask, in half sides of its box


def cut_out(record: Record) -> list[tuple[int, np.ndarray]]:
    """The larger objects of a picture: (label, uint8 [h, w, 4], RGBA), with the proportions of the picture as a square.

    Alpha is the object's mask where a connected region of the class mask fits its box; elsewhere, the box with round
    corners and soft edges, of objects that hardly overlap with others. Crowds and difficult objects are left out.
    """
    sides = record.boxes[:, 2:] - record.boxes[:, :2]
    large = (sides.prod(axis=1) > LEAST_AREA * np.prod(record.size)) & (sides.max(axis=1) >= LEAST_SIDE)
    chosen = np.flatnonzero(large & ~record.crowd & ~record.difficult)
    if not len(chosen):
        return []
    image = record.image()
    mask = None if record.masks is None else record.mask()
    overlaid = _overlaid(record.boxes)
    found = []
    for j in chosen:
        label, box = int(record.labels[j]), record.boxes[j]
        cut = None if mask is None else _region(mask == label + 1, box)
        if cut is None and overlaid[j] > MOST_OVERLAID:
            continue
        (rows, cols), alpha = cut or _rounded(box, record.size)
        alpha = np.rint(255 * alpha).astype(np.uint8)
        rgba = Image.fromarray(np.concatenate([image[rows, cols], alpha[..., None]], axis=2))
        shares = np.array([rgba.width, rgba.height]) / record.size[::-1]
        size = np.rint(shares * min(max(record.size), LARGEST_CUTOUT / shares.max())).astype(int)
        found.append((label, np.asarray(rgba.resize(tuple(size.clip(min=1).tolist()), Image.Resampling.BILINEAR))))
    return found


def _overlaid(boxes: np.ndarray) -> np.ndarray:
    """The share of each box [n, 4] that the others lie on, those that overlap counted twice: [n]."""
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    return (shared.sum(axis=1) - shared.diagonal()) / shared.diagonal()


def _region(where: np.ndarray, box: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """The connected region of bool [H, W] that fits a box: its window, and alpha [h, w] there; None if none does."""
    regions, _ = ndimage.label(where)
    windows = ndimage.find_objects(regions)
    if not windows:
        return None
    bounds = torch.tensor([(cols.start, rows.start, cols.stop, rows.stop) for rows, cols in windows])
    fit, best = box_iou(bounds.float(), torch.from_numpy(box)[None])[:, 0].max(dim=0)
    if fit < _FITS:
        return None
    inside = regions[windows[best]] == int(best) + 1
    # Masks run along the border or a pixel outside: without the outermost pixel no rim of the old background is left.
    inner = ndimage.binary_erosion(inside, np.ones((3, 3)))
    return windows[best], ndimage.uniform_filter(inner.astype(np.float32), 3)


def _rounded(box: np.ndarray, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window of a box with its soft edge, and alpha [h, w] there: above a half inside a rounded rectangle."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    (x1, y1), (x2, y2) = (np.rint(centre + sign * (1 + _SOFT / 2) * half).astype(int) for sign in (-1, 1))
    rows, cols = slice(max(0, y1), min(size[0], y2)), slice(max(0, x1), min(size[1], x2))
    u = (np.arange(cols.start, cols.stop) + 0.5 - centre[0]) / half[0]
    v = (np.arange(rows.start, rows.stop) + 0.5 - centre[1]) / half[1]
    distance = (u**4 + v[:, None] ** 4) ** 0.25  # 1 on the edge, which touches the middle of each side of the box
    return (rows, cols), np.clip(0.5 + (1 - distance) / _SOFT, 0, 1)


class ComposedScenes(DetectionPictures):
    """Training pictures with further objects of the same pictures pasted in, of all classes alike.

    Items are those of `DetectionPictures`. The pictures keep their own objects as targets, for a scene then holds twice
    as many boxes for the price of one, half of them in their true surroundings. Objects pasted later cover earlier
    ones; a box is the tight box of what is visible, and one of which less than two fifths are is dropped. An epoch has
    one scene per picture; after the recipe's `composed_epochs` the pictures come as they are. Raises ValueError for
    pictures of another split than train, and where there is no object.
    """

    most_pasted = 3
    sides = (0.2, 0.9)  # the longer side of a pasted object, of the picture's

    def __init__(self, records: list[Record], img_size: int, recipe: Recipe, seed: int = 0):
        for record in records:
            if record.split != "train":
                raise ValueError(f"{record.image_path} is of the split {record.split!r}: compose of training pictures")
        super().__init__(records, img_size, recipe, seed)
        self.cutouts: dict[int, list[np.ndarray]] = {}
        for record in tqdm(records, desc="cutting out", unit="picture"):
            for label, rgba in cut_out(record):
                self.cutouts.setdefault(label, []).append(rgba)
        if not self.cutouts:
            raise ValueError(f"no object in {len(records)} pictures is large enough to cut out: take other pictures")

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        pixels, target = super().__getitem__(item)
        if item[1] >= self.recipe.composed_epochs * len(self):
            return pixels, target
        rng, size = np.random.default_rng((self.seed, 2, item[1])), pixels.shape[-1]
        own = box_convert(target["boxes"] * size, "cxcywh", "xyxy").numpy()
        owner = np.zeros((size, size), dtype=np.int64)  # 0 the picture, k the k-th pasted object
        boxes, labels, painted = own, target["class_labels"].tolist(), []
        for k in range(1, 1 + int(rng.integers(1, self.most_pasted + 1))):
            label, rgba = self._draw(rng, size)
            corner = _clear_corner(rng, boxes, rgba.shape[1::-1], size)
            solid, window = self._paste(pixels, rgba, corner, rng)
            owner[window][solid] = k
            boxes = np.concatenate([boxes, np.tile(corner, 2)[None] + [0, 0, *rgba.shape[1::-1]]])
            labels.append(label)
            painted.append(np.count_nonzero(rgba[..., 3] > 127))
        boxes, seen = self._visible(owner, own, painted)
        return pixels, {
            "class_labels": torch.tensor(labels, dtype=torch.int64)[torch.from_numpy(seen)],
            "boxes": box_convert(torch.from_numpy(boxes[seen] / size).float(), "xyxy", "cxcywh"),
        }

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[int, np.ndarray]:
        """An object of any class with equal chance: its label, and RGBA at the scale at which it is pasted."""
        label = list(self.cutouts)[rng.integers(len(self.cutouts))]
        rgba = self.cutouts[label][rng.integers(len(self.cutouts[label]))]
        longest = max(rgba.shape[:2])
        side = min(size * np.exp(rng.uniform(*np.log(self.sides))), 2 * longest)  # enlarged further, it is a blur
        width, height = (max(8, round(n * side / longest)) for n in rgba.shape[1::-1])
        rgba = np.asarray(Image.fromarray(rgba).resize((width, height), Image.Resampling.BILINEAR))
        return label, rgba[:, ::-1] if self._chooses("flip", rng) else rgba

    def _paste(
        self, pixels: Tensor, rgba: np.ndarray, corner: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Blend an object over `pixels`, in place, at (x, y); returns where it is solid, bool, and in which window."""
        (x1, y1), size = corner.tolist(), pixels.shape[-1]
        rgba = rgba[max(0, -y1) : size - y1, max(0, -x1) : size - x1]
        rows, cols = (slice(max(0, start), max(0, start) + n) for start, n in zip((y1, x1), rgba.shape))
        gain = rng.uniform(0.75, 1.25) if "colour" in self.recipe.augment else 1.0
        values = torch.from_numpy(rgba.transpose(2, 0, 1).copy()).float()
        colour = values[:3].mul_(gain / 127.5).sub_(1).clamp_(-1, 1)
        pixels[:, rows, cols].lerp_(colour, values[3] / 255)
        return rgba[..., 3] > 127, (rows, cols)

    def _visible(self, owner: np.ndarray, own: np.ndarray, painted: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes xyxy [n, 4] of what is visible: the picture's own, then the pasted ones; and bool [n], which count.

        `painted` are the pixels of each pasted object, also of those beyond the picture.
        """
        boxes, seen = [], []
        for box in own:
            (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int).clip(min=0), np.ceil(box[2:]).astype(int)
            free = owner[y1:y2, x1:x2] == 0
            seen.append(free.mean() >= self.least_visible)
            if seen[-1] and not free.all():
                box = np.clip(_bounds(free) + [x1, y1, x1, y1], np.tile(box[:2], 2), np.tile(box[2:], 2))
            boxes.append(box)
        for k, whole in enumerate(painted, start=1):
            where = owner == k
            seen.append(where.sum() >= self.least_visible * max(1, whole))
            boxes.append(_bounds(where) if seen[-1] else np.zeros(4))
        return np.stack(boxes), np.array(seen, dtype=bool)


def _clear_corner(rng: np.random.Generator, boxes: np.ndarray, sides: tuple[int, int], size: int) -> np.ndarray:
    """Where to paste a rectangle of (width, height), int64 (x, y): of four random places the one that hides least.

    A fifth of it, at the most, lies beyond each border.
    """
    corners = np.rint(rng.uniform(np.multiply(-0.2, sides), size - np.multiply(0.8, sides), (4, 2))).astype(int)
    low, high = np.maximum(boxes[:, :2], corners[:, None]), np.minimum(boxes[:, 2:], corners[:, None] + sides)
    hidden = np.clip(high - low, 0, None).prod(axis=2) / np.clip(boxes[:, 2:] - boxes[:, :2], 1, None).prod(axis=1)
    return corners[hidden.sum(axis=1).argmin()]


def _bounds(where: np.ndarray) -> np.ndarray:
    """The tight box of bool [H, W], which holds a True: xyxy, the end exclusive."""
    cols, rows = np.flatnonzero(where.any(axis=0)), np.flatnonzero(where.any(axis=1))
    return np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1])
