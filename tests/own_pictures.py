"""Pictures to test with: a data set of two classes that no other one has, and small VOC and COCO folders."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

OWN_CLASSES = ("bolt", "nut")
SIDE = 96  # pixels; an object is a third to a half of it
_COLOURS = ((200, 60, 40), (40, 90, 200))
_BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def draw(path: Path, seed: int, side: int = SIDE) -> tuple[int, list[int]]:
    """A picture of one coloured rectangle on noise: its label, 0 or 1, and its box, xyxy."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (side, side, 3), dtype=np.uint8)
    label, (x, y), (width, height) = seed % 2, rng.integers(0, side // 3, 2), rng.integers(side // 3, side // 2, 2)
    pixels[y : y + height, x : x + width] = _COLOURS[label]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return label, [int(x), int(y), int(x + width), int(y + height)]


def write_coco(root: Path, counts: dict[str, int], names=OWN_CLASSES, year: str = "", masks: bool = False) -> None:
    """COCO's form: so many pictures of each split; without masks as most tools write it, with boxes and little else."""
    for number, (split, count) in enumerate(counts.items()):
        images, annotations = [], []
        for i in range(count):
            name = f"{i:04}.jpg"
            label, (x1, y1, x2, y2) = draw(root / f"{split}{year}" / name, 1000 * number + i)
            images.append({"id": i, "file_name": name, "height": SIDE, "width": SIDE})
            annotation = {"id": i + 1, "image_id": i, "category_id": 10 + label, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            if masks:
                outline = [x1, y1, x2, y1, x2, y2, x1, y2]
                annotation |= {"iscrowd": 0, "area": (x2 - x1) * (y2 - y1), "segmentation": [outline]}
            annotations.append(annotation)
        categories = [{"id": 10 + label, "name": name} for label, name in reversed([*enumerate(names)])]
        path = root / "annotations" / (f"instances_{split}{year}.json" if year else f"{split}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_voc(
    root: Path, counts: dict[str, int], names=OWN_CLASSES, lists: str = "Main", masks: bool = False, suffix: str = "jpg"
) -> None:
    """VOC's form: so many pictures of each list; with masks of the classes 1 and 2 where they are wanted."""
    for number, (split, count) in enumerate(counts.items()):
        listed = [f"{split}{i:04}" for i in range(count)]
        for i, name in enumerate(listed):
            label, (x1, y1, x2, y2) = draw(root / "JPEGImages" / f"{name}.{suffix}", 1000 * number + i)
            found = f"<object><name>{names[label]}</name>{_BOX.format(x1 + 1, y1 + 1, x2, y2)}</object>"
            (root / "Annotations").mkdir(parents=True, exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{found}</annotation>")
            if masks:
                mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
                mask[y1:y2, x1:x2] = label + 1
                (root / "SegmentationClass").mkdir(exist_ok=True)
                Image.fromarray(mask).save(root / "SegmentationClass" / f"{name}.png")
        listing = root / "ImageSets" / lists / f"{split}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(listed) + "\n")
