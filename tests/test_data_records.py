"""Readers of VOC, COCO and the sample world, on small folders in the official layouts and on real data."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from bavit_utils import config
from bavit_utils.annotations import VOID
from bavit_utils.data.pictures import DataError
from bavit_utils.data.records import COCO_CLASSES, class_names, fingerprint, load_records

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
OBJECT = "<object><name>{}</name>{}" + BOX + "</object>"


def _picture(path, height=30, width=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)


def _write_xml(root, name, *objects):
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><size><width>4</width><height>3</height></size>{''.join(objects)}</annotation>")
    return path


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """VOC2012 with the pictures `a` (two objects, a mask) and `b` (no object)."""
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in "ab":
        _picture(root / "JPEGImages" / f"{name}.jpg")
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    dog = OBJECT.format("dog", "<difficult>1</difficult>", 5, 6, 20, 26)
    _write_xml(root, "a", dog, OBJECT.format("person", part, 1, 1, 40, 30))
    _write_xml(root, "b")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb  1\n\n")
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[:2], mask[5:9] = VOID, 12
    (root / "SegmentationClass").mkdir()
    Image.fromarray(mask).save(root / "SegmentationClass" / "a.png")
    return root


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """COCO with picture 7 (a polygon, a run-length crowd, a compressed mask) and picture 9 (no object)."""
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    folder = tmp_path / "coco"
    for number in (7, 9):
        _picture(folder / "val2017" / f"{number}.jpg")
    top = np.zeros((30, 40), dtype=np.uint8)
    top[10:15, 10:15] = 1
    rle = coco_mask.encode(np.asfortranarray(top))
    square = [5, 5, 25, 5, 25, 25, 5, 25]
    found = [
        {
            "id": 1,
            "category_id": 90,
            "iscrowd": 0,
            "area": 25,
            "bbox": [10, 10, 5, 5],
            "segmentation": {"size": [30, 40], "counts": rle["counts"].decode()},
        },
        {
            "id": 2,
            "category_id": 1,
            "iscrowd": 0,
            "area": 390,
            "bbox": [5, 5, 20, 20],
            "segmentation": [square, [1, 2, 3, 4]],
        },
        {
            "id": 3,
            "category_id": 1,
            "iscrowd": 1,
            "area": 450,
            "bbox": [0, 0, 15, 30],
            "segmentation": {"size": [30, 40], "counts": [0, 450, 750]},
        },
    ]
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "height": 30, "width": 40} for number in (7, 9)],
        "annotations": [{"image_id": 7, **a} for a in found],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
    }
    path = folder / "annotations" / "instances_val2017.json"
    path.parent.mkdir()

    def edit(change=lambda content: None):
        changed = json.loads(json.dumps(content))
        change(changed)
        path.write_text(json.dumps(changed))
        return path

    edit()
    return edit


def _raises(message, *paths):
    """A DataError whose text matches `message`, a pattern with {} for each path."""
    return pytest.raises(DataError, match=message.format(*map(re.escape, paths)))


def test_voc_record(voc):
    first, empty = load_records("voc2012", "val")
    assert first.image_id == "a" and first.size == (30, 40) == first.image().shape[:2]
    assert first.boxes.tolist() == [[4, 5, 20, 26], [0, 0, 40, 30]]  # from 1-based and inclusive
    assert first.boxes.dtype == np.float32 and first.labels.dtype == np.int64
    assert [class_names("voc2012")[label] for label in first.labels] == ["dog", "person"]
    assert first.difficult.tolist() == [True, False] and not first.crowd.any()
    assert first.areas.tolist() == [16 * 21, 1200]
    assert np.unique(first.mask()).tolist() == [0, 12, VOID]
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == empty.difficult.shape == empty.areas.shape == (0,)


def test_voc2007_has_boxes_only(voc):
    root = voc.rename(voc.with_name("VOC2007"))
    (root / "ImageSets" / "Main").mkdir()
    (root / "ImageSets" / "Main" / "test.txt").write_text("a\n")
    (record,) = load_records("voc2007", "test")
    with _raises("voc2007 has no masks .*use the box rule"):
        record.mask()


def test_boxes_are_clipped_by_rounding_and_refused_beyond(voc):
    _write_xml(voc, "a", OBJECT.format("cat", "", 0, 0, 41.5, 31))
    assert load_records("voc2012", "val")[0].boxes.tolist() == [[0, 0, 40, 30]]
    outside, empty = "lies outside its picture of 40x30", "has no area"
    for box, reason in (
        ((50, 5, 60, 9), outside),
        ((5, 5, 60, 9), outside),
        ((41, 5, 42, 9), outside),
        ((-9, 5, 7, 9), outside),
        ((9, 5, 8, 20), empty),
        ((5, 9, 20, 2), empty),
        ((5, 9, 20, "nan"), empty),
    ):
        path = _write_xml(voc, "a", OBJECT.format("cat", "", *box))
        with _raises("{}: the box .* of cat " + reason + ".*fetch", str(path)):
            load_records("voc2012", "val")


def test_voc_errors_name_file_and_remedy(voc):
    path = _write_xml(voc, "a", OBJECT.format("unicorn", "", 1, 1, 9, 9))
    with _raises("{}: unknown class 'unicorn'; correct it to one of aeroplane", str(path)):
        load_records("voc2012", "val")
    path.write_text("<annotation><object>")
    with _raises("{} is malformed .*correct it or fetch it again", str(path)):
        load_records("voc2012", "val")
    path.unlink()
    with _raises("{} can't be read .*as README.md shows", str(path)):
        load_records("voc2012", "val")
    (voc / "JPEGImages" / "a.jpg").unlink()
    with _raises(r"JPEGImages.a\.jpg is missing: fetch"):
        load_records("voc2012", "val")


def test_voc_masks_that_are_missing_or_wrong(voc):
    record, without = load_records("voc2012", "val")
    with _raises("{} is missing: fetch", str(without.masks)):
        without.mask()
    Image.fromarray(np.zeros((40, 30), dtype=np.uint8)).save(record.masks)
    with _raises("{} is 30x40 pixels where {} says 40x30.*again", str(record.masks), str(record.image_path)):
        record.mask()
    Image.fromarray(np.full((30, 40), 21, dtype=np.uint8)).save(record.masks)
    with _raises("{} holds a class beyond 0 to 20", str(record.masks)):
        record.mask()


@pytest.mark.parametrize(("dataset", "split"), [("voc2007", "train"), ("voc2012", "val"), ("coco", "train")])
def test_a_missing_data_root_says_what_to_do(tmp_path, monkeypatch, dataset, split):
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / "nowhere"))
    with _raises("nowhere.* can't be read .*set BAVIT_DATA_DIR .*as README.md shows"):
        load_records(dataset, split)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown data set 'imagenet': choose one of .*sample"):
        load_records("imagenet", "val")
    with pytest.raises(ValueError, match="voc2007 has no split 'val': choose one of train, trainextra, test"):
        load_records("voc2007", "val")


def test_coco_record_and_its_mask(coco):
    first, empty = load_records("coco", "val")
    assert first.boxes.tolist() == [[10, 10, 15, 15], [5, 5, 25, 25], [0, 0, 15, 30]]
    assert first.labels.tolist() == [79, 0, 0] and first.crowd.tolist() == [False, False, True]
    assert first.areas.tolist() == [25, 390, 450]  # as given, of the mask, not of the box
    mask = first.mask()
    assert mask.shape == (30, 40) and mask.dtype == np.uint8 and mask.flags.c_contiguous
    assert (mask[10:15, 10:15] == 80).all()  # the small object lies on the large one
    assert (mask[16:25, 5:25] == 1).all() and (mask[5:9, 5:15] == 1).all()  # objects lie on the crowd
    assert (mask[:, :5] == VOID).all() and (mask[26:, :15] == VOID).all() and (mask[:, 26:] == 0).all()
    assert len(empty.boxes) == 0 and not empty.mask().any()


def test_coco_classes_are_the_official_eighty():
    assert len(COCO_CLASSES) == 80
    assert [COCO_CLASSES[i] for i in (0, 10, 11, 79)] == ["person", "fire hydrant", "stop sign", "toothbrush"]
    assert len(class_names("voc2007")) == 20 and list(class_names("voc2007")) == sorted(class_names("voc2007"))


def test_what_is_wrong_in_official_files_is_to_be_fetched_or_restored(coco):
    path = coco(lambda c: c["annotations"][0].update(category_id=12))
    with _raises("{}: annotation 1 is of the unknown class 12; fetch or restore it", str(path)):
        load_records("coco", "val")
    path.write_text(path.read_text()[:-9])
    with _raises("{} is malformed .*fetch or restore it", str(path)):
        load_records("coco", "val")
    coco(lambda c: c["annotations"][2].update(segmentation=None))
    with _raises("{}, picture 7, object 3 of 3: it has no mask; fetch", str(path)):
        load_records("coco", "val")[0].mask()


def test_coco_leaves_out_the_two_objects_without_area(coco):
    coco(lambda c: c["annotations"][1].update(id=918, bbox=[5, 5, 3, 0]))
    assert load_records("coco", "val")[0].labels.tolist() == [79, 0]


def test_pictures_that_are_missing_truncated_or_of_another_size(coco, tmp_path):
    record = load_records("coco", "val")[0]
    _picture(record.image_path, 40, 30)
    with _raises("{} is 30x40 pixels where {} says 40x30", str(record.image_path), str(record.annotation_path)):
        record.image()
    record.image_path.write_bytes(record.image_path.read_bytes()[:-20])
    with _raises("{} is truncated", str(record.image_path)):
        record.image()
    record.image_path.unlink()
    with _raises(r"7\.jpg is missing, {} lists it: set BAVIT_DATA_DIR", str(record.annotation_path)):
        load_records("coco", "val")


def test_sample_splits_and_their_remedies(coco, tmp_path, monkeypatch):
    name = class_names("sample")[1]
    path = coco(lambda c: c.update(categories=[{"id": 1, "name": name}, {"id": 90, "name": class_names("sample")[0]}]))
    root = path.parents[1]
    path.rename(path.with_name("instances_val.json"))
    (root / "val2017").rename(root / "val")
    monkeypatch.setattr(config, "SAMPLE_DIR", root)
    monkeypatch.setattr(config, "CACHE", tmp_path / "cache")
    assert load_records("sample", "val")[0].labels.tolist() == [0, 1, 1]
    with _raises("instances_train.json can't be read .*make it with `bavit sample-world`"):
        load_records("sample", "train")


def test_fingerprint_sees_pictures_boxes_masks_and_order(coco, voc):
    records = load_records("coco", "val")
    assert [r.image_id for r in load_records("coco", "val", limit=1)] == [7]
    before = fingerprint(records)
    assert re.fullmatch("[0-9a-f]{12}", before) and before == fingerprint(load_records("coco", "val"))
    assert fingerprint(records[::-1]) != before != fingerprint(records[:1])
    assert fingerprint([dataclasses.replace(records[0], boxes=records[0].boxes + 1), records[1]]) != before
    coco(lambda c: c["annotations"][1]["segmentation"][0].__setitem__(0, 6))
    assert fingerprint(load_records("coco", "val")) != before
    voc_before = fingerprint(load_records("voc2012", "val", 1))
    Image.fromarray(np.zeros((30, 40), dtype=np.uint8)).save(voc / "SegmentationClass" / "a.png")
    assert fingerprint(load_records("voc2012", "val", 1)) != voc_before
    _picture(records[1].image_path, 30, 39)
    assert fingerprint(records) != before


@pytest.mark.parametrize(
    ("dataset", "split", "with_mask"),
    [
        ("voc2007", "train", False),
        ("voc2007", "test", False),
        ("voc2012", "train", True),
        ("voc2012", "val", True),
        ("coco", "train", True),
        ("coco", "val", True),
    ],
)
def test_real_folders_are_read_unchanged(real_data, dataset, split, with_mask):
    records = load_records(dataset, split)
    assert len(records) == len({r.image_id for r in records}) > 100
    for r in records:
        height, width = r.size
        assert (r.boxes >= 0).all() and (r.boxes <= [width, height, width, height]).all()
        assert len(r.boxes) == len(r.labels) == len(r.difficult) == len(r.crowd) == len(r.areas)
    for r in records[:8]:
        assert r.image().shape == (*r.size, 3)
        if with_mask:
            assert r.mask().shape == r.size
            for (x1, y1, x2, y2), label in zip(r.boxes.astype(int), r.labels):
                assert len(r.boxes) > 1 or (r.mask()[y1 : y2 + 1, x1 : x2 + 1] == label + 1).any()
