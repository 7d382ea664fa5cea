"""The sample world is frozen: same seed, same bytes; and its bundle is what it claims to be."""

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from bavit_utils.config import SAMPLE_DIR
from bavit_utils.data import sample_world
from bavit_utils.data.sample_world import CLASSES, SIZES, SPLITS, Scene, make_scene, write_split

# Of pixels, masks and labels, by seed and size; another digest means another world, on which no checkpoint was trained.
SCENES = {
    (0, (120, 160)): "279d626582fc4fec",
    (7, (120, 160)): "359a14f529a6c95d",
    (42, (96, 96)): "065e0c0d42caa2eb",
    (1_000_000, None): "fbec2317b68b1e11",
}
ANNOTATIONS_SHA256 = "ed7e3249e78380c3d903c1fa3621d3383422d80b3f287e7d0f1476aec3bb0c3d"
PICTURES_SHA256 = "f4dcb409d06a93f533e086cd4b811bc688d11b2d1aa23faee0577909c1824b68"
ANNOTATIONS = SAMPLE_DIR / "annotations" / "instances_val.json"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed, (120, 160)) for seed in range(24)]


@pytest.fixture(scope="module")
def bundle() -> dict:
    return json.loads(ANNOTATIONS.read_text())


@pytest.fixture
def small_pictures(monkeypatch):
    """Pictures of a fraction of the size, so that splits are drawn at once."""
    monkeypatch.setattr(sample_world, "SIZES", ((48, 64), (64, 48), (56, 56)))


def files_below(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("seed, size", SCENES)
def test_same_seed_gives_the_same_bytes(seed, size):
    scene = make_scene(seed, size)
    found = hashlib.sha256(scene.image.tobytes() + np.packbits(scene.masks).tobytes() + scene.labels.tobytes())
    assert found.hexdigest()[:16] == SCENES[seed, size]


def test_size_is_asked_for_or_drawn_by_the_seed(scenes):
    assert {scene.image.shape for scene in scenes} == {(120, 160, 3)}
    scene = make_scene(3, (70, 50))
    assert scene.image.shape == (70, 50, 3) and scene.image.dtype == np.uint8
    assert scene.masks.shape[1:] == (70, 50) and scene.masks.dtype == bool
    assert make_scene(3).image.shape[:2] in SIZES


def test_masks_are_disjoint_and_fill_their_boxes(scenes):
    for scene in scenes:
        assert len(scene.masks) == len(scene.labels) == len(scene.boxes)
        assert (scene.masks.sum(axis=0) <= 1).all()
        for mask, (x1, y1, x2, y2) in zip(scene.masks, scene.boxes.astype(int)):
            inside = mask[y1:y2, x1:x2]
            assert inside.sum() == mask.sum() > 0
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_bundle_is_frozen():
    assert hashlib.sha256(ANNOTATIONS.read_bytes()).hexdigest() == ANNOTATIONS_SHA256
    digest = hashlib.sha256()
    for path in sorted((SAMPLE_DIR / "val").glob("*.jpg")):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == PICTURES_SHA256


def test_splits_share_no_seed():
    ranges = sorted((first, first + count) for count, first in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))


def test_bundle_is_what_its_seeds_give(tmp_path, bundle):
    again = json.loads(write_split(tmp_path, "val", 3, workers=1).read_text())
    assert again["images"] == bundle["images"][:3]
    assert again["annotations"] == [a for a in bundle["annotations"] if a["image_id"] <= 3]
    for image in again["images"]:
        drawn, stored = tmp_path / "val" / image["file_name"], SAMPLE_DIR / "val" / image["file_name"]
        np.testing.assert_array_equal(np.asarray(Image.open(drawn)), np.asarray(Image.open(stored)))
        assert drawn.read_bytes() == stored.read_bytes()


def test_written_split_is_coco(tmp_path, small_pictures):
    coco = COCO(str(write_split(tmp_path, "train", 6, workers=1)))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        scene = make_scene(image["seed"])
        picture = np.asarray(Image.open(tmp_path / "train" / image["file_name"]), dtype=float)
        assert picture.shape == (image["height"], image["width"], 3)
        assert np.abs(picture - scene.image).mean() < 15  # JPEG, not another picture
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert [a["category_id"] - 1 for a in annotations] == scene.labels.tolist()
        for annotation, mask, box in zip(annotations, scene.masks, scene.boxes):
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
            assert annotation["bbox"] == [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    assert len(coco.anns) == len({a["id"] for a in coco.anns.values()}) > 0


def test_number_of_workers_changes_nothing(tmp_path, small_pictures):
    write_split(tmp_path / "one", "train", 12, workers=1)
    write_split(tmp_path / "two", "train", 12, workers=2)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
    assert len(files_below(tmp_path / "one")) == 13


def test_split_that_is_there_is_left_alone(tmp_path, small_pictures, monkeypatch):
    path = write_split(tmp_path, "train", 4, workers=1)
    before = files_below(tmp_path)
    monkeypatch.setattr(sample_world, "process_map", None)  # drawing anything would fail
    assert write_split(tmp_path, "train", 4) == write_split(tmp_path, "train", 2) == path
    assert files_below(tmp_path) == before


def test_split_of_another_version_or_too_short_is_drawn_again(tmp_path, small_pictures, monkeypatch):
    path = write_split(tmp_path, "train", 2, workers=1)
    short = files_below(tmp_path)
    write_split(tmp_path, "train", 3, workers=1)
    assert len(files_below(tmp_path)) == len(short) + 1
    assert short.keys() <= files_below(tmp_path).keys()
    monkeypatch.setattr(sample_world, "WORLD_VERSION", sample_world.WORLD_VERSION + 1)
    write_split(tmp_path, "train", 2, workers=1)
    assert json.loads(path.read_text())["info"]["world_version"] == sample_world.WORLD_VERSION
    assert files_below(tmp_path).keys() == short.keys()


@pytest.mark.parametrize("already", [0, 2])
def test_interrupted_write_leaves_nothing_half_written(tmp_path, small_pictures, monkeypatch, already):
    if already:
        write_split(tmp_path, "train", already, workers=1)
    before = files_below(tmp_path)

    def interrupted(draw, seeds, ids, **_):
        draw(seeds[0], ids[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sample_world, "process_map", interrupted)
        write_split(tmp_path, "train", 4, workers=1)
    assert files_below(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"annotations", "train"}  # no folder of half a split
    write_split(tmp_path, "train", 4, workers=1)
    assert len(files_below(tmp_path)) == 5
