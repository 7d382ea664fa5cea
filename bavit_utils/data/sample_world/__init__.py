"""The bundled data set: seeded scenes with instance masks, in COCO format. `canvas.py` paints them."""

import json
import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm.contrib.concurrent import process_map

from ... import config
from ...checks import write_whole, writing
from .canvas import Canvas
from .shapes import SHAPES

CLASSES = tuple(SHAPES)
WORLD_VERSION = 1  # raise it when a scene of the same seed changes: generated splits are then made again
SIZES = ((240, 320), (320, 240), (256, 256))  # (height, width)
SPLITS = {"val": (200, 1_000_000), "train": (8_000, 2_000_000)}  # pictures, first seed
OBJECT_COUNTS = np.array([4, 9, 13, 16, 17, 15, 11, 8, 7]) / 100  # share of pictures with 0 to 8 objects


@dataclass(frozen=True)
class Scene:
    """One picture: `image` uint8 [H, W, 3], `masks` bool [n, H, W] of what is visible, `labels` int64 [n]."""

    image: np.ndarray
    masks: np.ndarray
    labels: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """The tight boxes of the visible parts, float32 [n, 4], xyxy in pixels, the end exclusive."""
        boxes = [(c.min(), r.min(), c.max() + 1, r.max() + 1) for r, c in (np.nonzero(m) for m in self.masks)]
        return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def make_scene(seed: int, size: tuple[int, int] | None = None) -> Scene:
    """The scene of one seed; `size` (height, width) in pixels is one of `SIZES` by the seed, unless it is given."""
    rng = np.random.default_rng(seed)
    drawn_size = SIZES[rng.integers(len(SIZES))]
    canvas = Canvas(rng, size or drawn_size)
    canvas.scatter_clutter(int(rng.integers(15, 70)))
    objects = int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))
    things = ["object"] * objects + ["distractor"] * int(rng.integers(2, 7))
    for thing in rng.permutation(things):
        canvas.add_object() if thing == "object" else canvas.add_distractor()
    return Scene(*canvas.finish())


def _write_scene(folder: Path, seed: int, image_id: int) -> tuple[dict, list[dict]]:
    """Write one picture and return its COCO records."""
    scene = make_scene(seed)
    height, width = scene.image.shape[:2]
    name = f"scene-{image_id:05d}.jpg"
    Image.fromarray(scene.image).save(folder / name, quality=80)
    annotations = []
    for mask, label, (x1, y1, x2, y2) in zip(scene.masks, scene.labels.tolist(), scene.boxes.tolist()):
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotations.append({
            "image_id": image_id, "category_id": label + 1, "iscrowd": 0, "area": int(mask.sum()),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
        })  # fmt: skip
    return {"id": image_id, "file_name": name, "height": height, "width": width, "seed": seed}, annotations


def write_split(folder: Path, split: str, count: int | None = None, workers: int | None = None) -> Path:
    """Write `count` pictures of a split and their COCO annotations below `folder`; returns the annotation file.

    A split that is already there, of this version and at least as long, is left alone. Pictures are drawn in parallel,
    each from its own seed; an interrupted call leaves nothing half-written. OSError, with the remedy, on a full disk.
    """
    full, first_seed = SPLITS[split]
    count = count or full
    target = Path(folder) / "annotations" / f"instances_{split}.json"
    if target.exists():
        stored = json.loads(target.read_text())
        if stored["info"]["world_version"] == WORLD_VERSION and len(stored["images"]) >= count:
            return target
    pictures = Path(folder) / split
    with writing(pictures):
        drawn = _draw(pictures, count, first_seed, workers)
    content = {
        "info": {"description": f"BAViT sample world, {split}", "world_version": WORLD_VERSION},
        "images": [image for image, _ in drawn],
        "annotations": [{"id": i, **a} for i, a in enumerate((a for _, found in drawn for a in found), start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
    }
    return write_whole(target, json.dumps(content, separators=(",", ":")).encode())


def _draw(pictures: Path, count: int, first_seed: int, workers: int | None) -> list[tuple[dict, list[dict]]]:
    """Write the folder of pictures, whole or not at all; returns their COCO records."""
    part = pictures.with_name(f".{pictures.name}-{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    try:
        seeds, ids = range(first_seed, first_seed + count), range(1, count + 1)
        shown = {"desc": f"drawing {pictures.name}", "unit": "picture"}
        drawn = process_map(partial(_write_scene, part), seeds, ids, max_workers=workers, chunksize=8, **shown)
        shutil.rmtree(pictures, ignore_errors=True)
        os.replace(part, pictures)
        return drawn
    finally:
        shutil.rmtree(part, ignore_errors=True)


def ensure_train_split(count: int | None = None) -> Path:
    """Draw the training split into the cache if it isn't there; returns the annotation file."""
    return write_split(config.CACHE / "sample", "train", count)
