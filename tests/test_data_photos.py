"""The bundled photographs: credited, licensed, annotated in COCO's form, and readable with VOC's classes."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from bavit_utils.config import PHOTOS_DIR
from bavit_utils.data.pictures import DataError
from bavit_utils.data.records import COCO_CLASSES, VOC_CLASSES, VOID, class_names, load_records, with_classes_of

ANNOTATIONS = PHOTOS_DIR / "annotations" / "instances_val.json"
CREDIT = re.compile(
    r"\| `(?P<file>\d{12}\.jpg)` \| \[(?P<number>\d+)\]\(https://www\.flickr\.com/photo\.gne\?id=(?P=number)\) "
    r"\| \[CC BY 2\.0\]\[by\] \| resized from \d+ x \d+ to (?P<width>\d+) x (?P<height>\d+), re-encoded \|"
)


@pytest.fixture(scope="module")
def content():
    return json.loads(ANNOTATIONS.read_text())


@pytest.fixture(scope="module")
def records():
    return load_records("photos", "val")


def test_nothing_else_lies_there_and_it_is_small(content):
    files = {path.relative_to(PHOTOS_DIR).as_posix(): path for path in PHOTOS_DIR.rglob("*") if path.is_file()}
    pictures = {f"val/{image['file_name']}" for image in content["images"]}
    assert files.keys() == pictures | {"CREDITS.md", "annotations/instances_val.json"}
    assert sum(path.stat().st_size for path in files.values()) < 3_000_000


def test_every_picture_has_its_credit_and_every_credit_its_picture(content):
    text = (PHOTOS_DIR / "CREDITS.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `0")]
    credits = [CREDIT.fullmatch(row) for row in rows]
    assert all(credits), [row for row, credit in zip(rows, credits) if not credit]
    numbers = [re.search(r"/(\d+)_\w+\.jpg$", image["flickr_url"])[1] for image in content["images"]]
    assert [(c["file"], c["number"], int(c["width"]), int(c["height"])) for c in credits] == [
        (image["file_name"], number, image["width"], image["height"])
        for image, number in zip(content["images"], numbers)
    ]
    assert f"\n{len(rows)} pictures of COCO" in text and "[by]: https://creativecommons.org/licenses/by/2.0/" in text


def test_all_are_under_cc_by_2(content):
    (found,) = content["licenses"]
    assert (found["id"], found["url"]) == (4, "http://creativecommons.org/licenses/by/2.0/")
    assert {image["license"] for image in content["images"]} == {4}


def test_pictures_are_plain_jpegs(records):
    for record in records:
        with Image.open(record.image_path) as image:
            assert (image.format, image.mode, max(image.size)) == ("JPEG", "RGB", 480)
            assert not image.getexif() and not image.info.keys() & {"comment", "icc_profile", "xmp", "photoshop"}
        assert record.image().shape == (*record.size, 3)


def test_every_mask_fills_its_area_within_its_box(records):
    coco = COCO(str(ANNOTATIONS))
    for found in coco.anns.values():
        mask, (x, y, width, height) = coco.annToMask(found), found["bbox"]
        ys, xs = np.nonzero(mask)
        assert int(mask.sum()) == pytest.approx(found["area"], rel=0.15), found["id"]
        around = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(around - [x, y, x + width, y + height]).max() < 2.5, found["id"]  # as COCO's own, scaled
    crowded = [record for record in records if record.crowd.any()]
    assert crowded and all((record.mask() == VOID).any() for record in crowded)


def test_they_are_read_with_cocos_classes(records, content):
    assert class_names("photos") == COCO_CLASSES == tuple(found["name"] for found in content["categories"])
    assert [record.image_id for record in records] == [image["id"] for image in content["images"]]
    plane = next(record for record in records if record.image_id == 208901)
    assert [COCO_CLASSES[label] for label in plane.labels] == ["airplane"]
    with pytest.raises(ValueError, match="photos has no split 'train': choose one of val"):
        load_records("photos", "train")


def test_missing_pictures_are_to_be_restored(tmp_path, monkeypatch):
    monkeypatch.setattr("bavit_utils.config.PHOTOS_DIR", tmp_path)
    with pytest.raises(DataError, match=r"instances_val\.json can't be read .*restore data/photos"):
        load_records("photos", "val")


@pytest.mark.parametrize(
    ("image_id", "names"),
    [
        (165518, ["motorbike", "person"]),
        (208901, ["aeroplane"]),
        (255165, ["tvmonitor"] * 3),  # without 14 books, 3 keyboards and more
        (458054, []),
        (520707, ["person"] * 14 + ["tvmonitor"] * 3),  # one of the persons is a crowd
    ],
)
def test_vocs_classes_are_matched_by_name_and_other_objects_dropped(records, image_id, names):
    record = next(record for record in records if record.image_id == image_id)
    seen = with_classes_of(record, "voc2007")
    assert sorted(class_names(seen.dataset)[label] for label in seen.labels) == names
    kept = [np.flatnonzero((record.boxes == box).all(axis=1)).item() for box in seen.boxes]
    for key in ("crowd", "difficult", "areas"):
        np.testing.assert_array_equal(getattr(seen, key), getattr(record, key)[kept])
    assert seen.masks == tuple(record.masks[j] for j in kept)
    assert set(np.unique(seen.mask())) - {0, VOID} == set(seen.labels + 1)


def test_each_of_vocs_classes_is_one_of_cocos(records):
    n = len(COCO_CLASSES)
    flags = {key: np.zeros(n, dtype=bool) for key in ("crowd", "difficult")}
    every = replace(records[0], labels=np.arange(n), boxes=np.ones((n, 4)), areas=np.ones(n), masks=None, **flags)
    assert sorted(with_classes_of(every, "voc2007").labels) == list(range(len(VOC_CLASSES)))
    assert with_classes_of(every, "coco").labels.tolist() == list(range(n))
    with pytest.raises(ValueError, match="unknown data set 'voc'"):
        with_classes_of(every, "voc")
