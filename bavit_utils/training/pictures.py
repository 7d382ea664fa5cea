"""What the training loops read: pictures decoded once, warped once, and changed a little at every visit.

Every random choice is a function of the seed and of the visit's number alone. A training therefore goes on after an
interruption as if there had been none, and several processes see together what one would.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from ..annotations import TAU, labels_for, labels_from_boxes, labels_from_mask
from ..checks import check_number
from ..config import PATCH_SIZE, Recipe
from ..data.records import Record
from ..images import warp

_CACHE_BYTES = 8e9  # warped pictures are kept in memory up to here


class Visits(Sampler):
    """The batches of one epoch: lists of (picture, visit number), from the seed and `epoch` alone.

    The last incomplete batch is left out. `start` skips batches that were done before an interruption.
    """

    drop_last = True

    def __init__(self, n_pictures: int, batch_size: int, seed: int):
        if n_pictures < batch_size:
            raise ValueError(
                f"{n_pictures} pictures don't fill one batch of {batch_size}: give more, or lower batch_size"
            )
        self.n_pictures, self.batch_size, self.seed = n_pictures, batch_size, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.n_pictures // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n_pictures).tolist()
        visits = list(zip(order, range(self.epoch * self.n_pictures, (self.epoch + 1) * self.n_pictures)))
        for batch in range(self.start, len(self)):
            yield visits[batch * self.batch_size : (batch + 1) * self.batch_size]


class Pictures(Dataset):
    """The records' pictures as uint8 [S, S, 3], each decoded once; in memory as long as they fit there.

    `recipe` says how they change from visit to visit, and up to which epoch they are warped to its small size.
    """

    def __init__(self, records: list[Record], img_size: int, recipe: Recipe, seed: int = 0):
        check_number("the seed", seed, 0, 2**32 - 1, whole=True)
        self.records, self.img_size, self.recipe, self.seed = records, img_size, recipe, seed
        self.kept = None
        if len(records) * img_size**2 * 3 < _CACHE_BYTES:
            self.kept = np.empty((len(records), img_size, img_size, 3), dtype=np.uint8)
            for i, record in enumerate(tqdm(records, desc="decoding", unit="picture")):
                self.kept[i] = warp(record.image(), img_size)

    def __len__(self) -> int:
        return len(self.records)

    def picture(self, index: int) -> np.ndarray:
        """The warped picture, uint8 [S, S, 3]."""
        return warp(self.records[index].image(), self.img_size) if self.kept is None else self.kept[index]

    def size_at(self, visit: int) -> int:
        """The side in pixels that a visit asks for."""
        small = visit < self.recipe.small_epochs * len(self)
        return self.recipe.small_img_size if small else self.img_size

    def progress(self, visit: int) -> float:
        """How much of the training lies before a visit's epoch, 0 to 1."""
        return visit // len(self) / self.recipe.epochs

    def _generator(self, visit: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, 1, visit))

    def _chooses(self, change: str, rng: np.random.Generator) -> bool:
        """Whether a visit makes this change: half of them do, where the recipe has it."""
        return change in self.recipe.augment and rng.uniform() < 0.5

    def _window(self, rng: np.random.Generator) -> np.ndarray:
        """A part of the picture, xyxy in 0 to 1."""
        side = rng.uniform(self.recipe.smallest_crop, 1, 2)
        corner = rng.uniform(0, 1 - side)
        return np.concatenate([corner, corner + side])

    def _pixels(self, picture: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Normalised with mean = std = 0.5, with another exposure and white balance if the recipe has it."""
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float().div_(127.5)
        if "colour" in self.recipe.augment:
            gain = torch.from_numpy(rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)).float()
            pixels.mul_(gain.view(3, 1, 1))
        return pixels.sub_(1).clamp_(-1, 1)


def _stretched(picture: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A window (xyxy in pixels) of a picture, brought to (height, width)."""
    window = tuple(float(x) for x in box)
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR, box=window))


class TokenPictures(Pictures):
    """Pictures with the patch labels of section 3.1.

    An item is (pixels float32 [3, S, S], labels int64 [rows, cols]). Whole pictures have the labels of `labels_for`;
    cropped ones are labelled anew in their window, by the mask warped to the square or by the boxes.
    """

    def __init__(self, records: list[Record], img_size: int, recipe: Recipe, rule: str, seed: int = 0, tau=None):
        super().__init__(records, img_size, recipe, seed)
        self.rule, self.tau = rule, TAU.get(rule) if tau is None else tau
        sizes = {img_size, recipe.small_img_size} if recipe.small_epochs else {img_size}
        self.labels = {size: [] for size in sizes}
        self.regions = []  # what crops are labelled from: masks uint8 [S, S], or boxes in pixels of the square
        for record in tqdm(records, desc="labelling", unit="picture"):
            for size in sizes:
                self.labels[size].append(labels_for(record, _grid(size), rule, self.tau))
            if "crop" in recipe.augment:
                self.regions.append(self._region(record))

    def _region(self, record: Record) -> np.ndarray:
        if self.rule == "mask":
            square = (self.img_size, self.img_size)
            return np.asarray(Image.fromarray(record.mask()).resize(square, Image.Resampling.NEAREST))
        return record.boxes * (self.img_size / np.array(record.size[::-1] * 2))

    def _labels_in(self, index: int, box: np.ndarray, size: int) -> np.ndarray:
        """The labels of a window, xyxy in whole pixels of the square."""
        x1, y1, x2, y2 = box
        region = self.regions[index]
        if self.rule == "mask":
            return labels_from_mask(region[y1:y2, x1:x2], _grid(size), self.tau)
        inside = np.clip(region, [x1, y1, x1, y1], [x2, y2, x2, y2]) - [x1, y1, x1, y1]
        seen = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        crowd = self.records[index].crowd[seen]
        return labels_from_boxes(inside[seen], (y2 - y1, x2 - x1), _grid(size), tau=self.tau, crowd=crowd)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, visit = item
        rng, size = self._generator(visit), self.size_at(visit)
        picture, labels = self.picture(index), self.labels[size][index]
        if self._chooses("crop", rng):
            box = np.rint(self._window(rng) * self.img_size).astype(int)
            picture, labels = _stretched(picture, box, (size, size)), self._labels_in(index, box, size)
        picture = warp(picture, size)
        if self._chooses("flip", rng):
            picture, labels = picture[:, ::-1], labels[:, ::-1]
        return self._pixels(picture, rng), torch.from_numpy(labels.copy())


def _grid(size: int) -> tuple[int, int]:
    return (size // PATCH_SIZE,) * 2


class DetectionPictures(Pictures):
    """Pictures with boxes as transformers' loss wants them.

    An item is (pixels float32 [3, S, S], {"class_labels" int64 [n], "boxes" float32 [n, 4] cxcywh in 0 to 1, "step" of
    the training}). Crowds and difficult objects are no targets. A box of which a crop leaves less than two fifths is
    dropped. Where the recipe leaves out half of the patches, the target has "keep", bool [rows, cols], too.
    """

    least_visible = 0.4  # of a box's area

    def __init__(self, records: list[Record], img_size: int, recipe: Recipe, seed: int = 0):
        super().__init__(records, img_size, recipe, seed)
        self.boxes = [r.boxes / np.array(r.size[::-1] * 2, dtype=np.float32) for r in records]  # xyxy in 0 to 1
        self.targets = [~(r.crowd | r.difficult) for r in records]

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        index, visit = item
        rng, size, recipe = self._generator(visit), self.size_at(visit), self.recipe
        if self.progress(visit) < recipe.mosaics_until and rng.uniform() < recipe.mosaics:
            picture, boxes, labels = self._mosaic(index, size, rng)
        else:
            picture, boxes, labels = self._view(index, (size, size), rng)
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        target = {
            "class_labels": torch.from_numpy(labels.copy()),
            "boxes": torch.from_numpy(np.concatenate([centres, sides], axis=1).astype(np.float32)),
            "step": visit // recipe.batch_size,
        }
        if recipe.half and self.progress(visit) < recipe.half_until:
            target["keep"] = torch.from_numpy(half_of_patches(boxes, _grid(size), recipe.half, rng))
        return self._pixels(picture, rng), target

    def _view(
        self, index: int, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A picture as one visit sees it, uint8 of `size`; its boxes, xyxy in 0 to 1; and their labels."""
        picture = self.picture(index)
        boxes, labels = self.boxes[index][self.targets[index]], self.records[index].labels[self.targets[index]]
        if self._chooses("crop", rng):
            window = self._window(rng)
            picture = _stretched(picture, window * self.img_size, size)
            boxes, seen = self._boxes_in(window, boxes)
            labels = labels[seen]
        picture = warp(picture, size)
        if self._chooses("flip", rng):
            picture, boxes = picture[:, ::-1], boxes * [-1, 1, -1, 1] + [1, 0, 1, 0]
            boxes = boxes[:, [2, 1, 0, 3]]
        return picture, boxes, labels

    def _mosaic(self, index: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Four pictures, the visit's among them, in the corners of one: as of `_view`."""
        across, down = np.rint(rng.uniform(0.35, 0.65, 2) * size).astype(int)
        indices = rng.permutation([index, *rng.integers(len(self), size=3)])
        whole, boxes, labels = np.empty((size, size, 3), dtype=np.uint8), [], []
        corners = [(0, 0, across, down), (across, 0, size, down), (0, down, across, size), (across, down, size, size)]
        for part, (x1, y1, x2, y2) in zip(indices, corners):
            whole[y1:y2, x1:x2], inside, seen = self._view(part, (y2 - y1, x2 - x1), rng)
            boxes.append((inside * ([x2 - x1, y2 - y1] * 2) + [x1, y1, x1, y1]) / size)
            labels.append(seen)
        return whole, np.concatenate(boxes), np.concatenate(labels)

    def _boxes_in(self, window: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a window shows of the boxes, in 0 to 1 of it; and bool [n], which it shows."""
        corner, side = window[:2], window[2:] - window[:2]
        inside = np.clip(boxes, np.tile(corner, 2), np.tile(corner + side, 2))
        visible = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        seen = visible >= self.least_visible
        return ((inside - np.tile(corner, 2)) / np.tile(side, 2))[seen], seen


def half_of_patches(boxes: np.ndarray, grid: tuple[int, int], which: str, rng: np.random.Generator) -> np.ndarray:
    """A keep mask of half of the patches, bool [rows, cols], drawn at random.

    `which` are left out: "any", regardless of the boxes (xyxy in 0 to 1), or "background", as far as it goes: then all
    patches that a box touches come first. Every picture keeps the same number, so that batches stay rectangular.
    """
    rows, cols = grid
    order = rng.random(grid)
    if which == "background":
        for x1, y1, x2, y2 in boxes * ([cols, rows] * 2):
            order[int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)] -= 1
    kept = np.zeros(rows * cols, dtype=bool)
    kept[np.argsort(order, axis=None)[: rows * cols // 2]] = True
    return kept.reshape(grid)


def collate_detection(items: list) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Stack the pixels of a batch; targets stay a list, as transformers wants them."""
    return torch.stack([pixels for pixels, _ in items]), [target for _, target in items]
