"""What the training loops read: pictures decoded once, warped once, and changed a little at every visit.

Every random choice is a function of the seed and of the visit's number alone. A training therefore goes on after an
interruption as if there had been none, and several processes see together what one would.
"""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from .annotations import labels_for
from .config import Recipe
from .datasets import Record
from .images import warp

_CACHE_BYTES = 8e9  # warped pictures are kept in memory up to here


class Visits(Sampler):
    """The batches of one epoch: lists of (picture, visit number), from the seed and `epoch` alone.

    The last incomplete batch is left out. `start` skips batches that were done before an interruption.
    """

    drop_last = True

    def __init__(self, n_pictures: int, batch_size: int, seed: int):
        if n_pictures < batch_size:
            raise ValueError(f"{n_pictures} pictures don't fill one batch of {batch_size}: lower batch_size")
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
    """The records' pictures as uint8 [S, S, 3], each decoded once; in memory as long as they fit there."""

    def __init__(self, records: list[Record], img_size: int, seed: int = 0):
        self.records, self.img_size, self.seed = records, img_size, seed
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

    def _generator(self, visit: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, 1, visit))


def _recolour(picture: np.ndarray, rng: np.random.Generator) -> Tensor:
    """The picture with another exposure and white balance, normalised with mean = std = 0.5: float32 [3, S, S]."""
    gain = torch.from_numpy(rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)).float()
    pixels = torch.from_numpy(picture).permute(2, 0, 1).float().div_(127.5)
    return pixels.mul_(gain.view(3, 1, 1)).sub_(1).clamp_(-1, 1)


class TokenPictures(Pictures):
    """Pictures with the patch labels of section 3.1; flipped half the time, and recoloured.

    An item is (pixels float32 [3, S, S], labels int64 [rows, cols]).
    """

    def __init__(self, records: list[Record], img_size: int, grid: tuple[int, int], rule: str, seed: int = 0):
        super().__init__(records, img_size, seed)
        self.labels = np.stack(
            [labels_for(record, grid, rule) for record in tqdm(records, desc="labelling", unit="picture")]
        )

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, visit = item
        rng = self._generator(visit)
        picture, labels = self.picture(index), self.labels[index]
        if rng.uniform() < 0.5:
            picture, labels = picture[:, ::-1], labels[:, ::-1]
        return _recolour(picture.copy(), rng), torch.from_numpy(labels.copy())


class DetectionPictures(Pictures):
    """Pictures with boxes as transformers' loss wants them; flipped, cropped and recoloured.

    With a `recipe`, its first epochs are warped to its small size.

    An item is (pixels float32 [3, S, S], {"class_labels" int64 [n], "boxes" float32 [n, 4] cxcywh in 0 to 1}). Crowds
    and difficult objects are no targets. A box of which a crop leaves less than two fifths is dropped.
    """

    smallest_crop = 0.6  # of a side
    least_visible = 0.4  # of a box's area

    def __init__(self, records: list[Record], img_size: int, seed: int = 0, recipe: Recipe | None = None):
        super().__init__(records, img_size, seed)
        self.recipe = recipe
        self.boxes = [r.boxes / np.array(r.size[::-1] * 2, dtype=np.float32) for r in records]  # xyxy in 0 to 1
        self.targets = [~(r.crowd | r.difficult) for r in records]

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        index, visit = item
        rng = self._generator(visit)
        picture = self.picture(index)
        boxes, labels = self.boxes[index][self.targets[index]], self.records[index].labels[self.targets[index]]
        small = self.recipe and visit < self.recipe.small_epochs * len(self)
        size = self.recipe.small_img_size if small else self.img_size
        if rng.uniform() < 0.5:
            picture, boxes, labels = self._crop(picture, size, boxes, labels, rng)
        if rng.uniform() < 0.5:
            picture, boxes = picture[:, ::-1], boxes * [-1, 1, -1, 1] + [1, 0, 1, 0]
            boxes = boxes[:, [2, 1, 0, 3]]
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        target = {
            "class_labels": torch.from_numpy(labels.copy()),
            "boxes": torch.from_numpy(np.concatenate([centres, sides], axis=1).astype(np.float32)),
        }
        return _recolour(warp(np.ascontiguousarray(picture), size).copy(), rng), target

    def _crop(self, picture: np.ndarray, size: int, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator):
        """A window of the picture, stretched to the square again, and what it shows of the boxes."""
        side = rng.uniform(self.smallest_crop, 1, 2)
        corner = rng.uniform(0, 1 - side)
        window = np.concatenate([corner, corner + side])
        inside = np.clip(boxes, np.tile(corner, 2), np.tile(corner + side, 2))
        visible = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        seen = visible >= self.least_visible
        cropped = Image.fromarray(picture).resize(
            (size, size), Image.Resampling.BILINEAR, box=tuple(float(x) for x in window * self.img_size)
        )
        return np.asarray(cropped), ((inside - np.tile(corner, 2)) / np.tile(side, 2))[seen], labels[seen]


def collate_detection(items: list) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Stack the pixels of a batch; targets stay a list, as transformers wants them."""
    return torch.stack([pixels for pixels, _ in items]), [target for _, target in items]
