"""Pictures of one's own, of classes that no other data set has: read in both forms, trained on, swept, explored."""

import json
import re
import shutil

import pytest
from own_pictures import OWN_CLASSES, SIDE, draw, write_coco, write_voc
from workshop import OWN_FOLDER, run

from bavit_utils.config import get_profile
from bavit_utils.data.pictures import DataError
from bavit_utils.data.records import class_names, load_records
from bavit_utils.explorer.compute import Detector, Pruner, choices
from bavit_utils.explorer.pictures import picture_sources
from bavit_utils.results import load_rows
from bavit_utils.yolos import load_yolos

COUNTS = {"train": 3, "val": 2}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / "my pictures"))
    return tmp_path / "my pictures"


def in_coco_form(folder):
    write_coco(folder, COUNTS)


def in_cocos_own_names(folder):
    write_coco(folder, COUNTS, year="2017", masks=True)


def in_voc_form(folder):
    write_voc(folder, COUNTS, suffix="png")


@pytest.mark.parametrize("write", [in_coco_form, in_cocos_own_names, in_voc_form])
def test_both_forms_give_the_same_records(folder, tmp_path, write):
    write(folder)
    assert class_names("own") == OWN_CLASSES
    for number, (split, count) in enumerate(COUNTS.items()):
        records = load_records("own", split)
        assert len(records) == count
        for i, record in enumerate(records):
            label, box = draw(tmp_path / "again.png", 1000 * number + i)
            assert record.labels.tolist() == [label] and record.boxes.tolist() == [box] and record.size == (SIDE, SIDE)
            assert record.areas.tolist() == [(box[2] - box[0]) * (box[3] - box[1])] and not record.crowd.any()
            assert record.image().shape == (SIDE, SIDE, 3)
    assert len(load_records("own", "train", 2)) == 2


def test_masks_are_used_where_every_object_has_one(folder):
    in_cocos_own_names(folder)
    (record,) = load_records("own", "train", 1)
    x1, y1, x2, y2 = record.boxes[0].astype(int)
    assert (record.mask()[y1:y2, x1:x2] == 1 + record.labels[0]).all()
    shutil.rmtree(folder)
    in_coco_form(folder)
    with pytest.raises(DataError, match="own has no masks .*train.json.*: use the box rule"):
        load_records("own", "train", 1)[0].mask()


def test_pictures_may_lie_in_folders_of_their_own(folder):
    in_coco_form(folder)
    path = folder / "annotations" / "train.json"
    (folder / "train" / "monday").mkdir()
    (folder / "train" / "0000.jpg").rename(folder / "train" / "monday" / "0000.jpg")
    path.write_text(path.read_text().replace("0000.jpg", "monday/0000.jpg"))
    assert load_records("own", "train")[0].image_path == folder / "train" / "monday" / "0000.jpg"


def test_classes_follow_the_files(folder):
    in_coco_form(folder)
    for split in COUNTS:
        path = folder / "annotations" / f"{split}.json"
        path.write_text(path.read_text().replace('"bolt"', '"screw"'))
    assert class_names("own") == ("screw", "nut")


def test_a_list_that_is_missing_is_named_with_the_folders_form(folder):
    in_coco_form(folder)
    (folder / "val" / "0001.jpg").unlink()
    with pytest.raises(DataError, match="0001.jpg is missing, .*val.json lists it: set BAVIT_DATA_DIR"):
        load_records("own", "val")
    (folder / "annotations" / "val.json").unlink()
    with pytest.raises(DataError, match="no list of your own val pictures .*annotations/train.json and val.json"):
        load_records("own", "val")
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="no list of your own train pictures.*BAVIT_DATA_DIR .*my pictures.*"):
        load_records("own", "val")


def test_what_is_wrong_with_a_voc_folder_is_said(folder):
    in_voc_form(folder)
    (folder / "JPEGImages" / "val0000.png").unlink()
    with pytest.raises(DataError, match="val0000.jpg is missing"):
        load_records("own", "val")
    (folder / "Annotations" / "train0001.xml").unlink()
    in_another = folder / "ImageSets" / "Main" / "val.txt"
    in_another.write_text("")  # the classes are read anew, as a list has changed
    with pytest.raises(DataError, match="train0001.xml can't be read .*ImageSets/Main/train.txt"):
        load_records("own", "train")


def test_two_folders_share_no_training(monkeypatch, tmp_path):
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / "my screws"))
    profile = get_profile("own")
    assert re.fullmatch(r"yolos-own-my-screws-\w{4}\.safetensors", profile.checkpoint("yolos").name)
    assert re.fullmatch(r"bavit-small-own-box-my-screws-\w{4}\.safetensors", profile.checkpoint("bavit-small").name)
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / "my-nuts"))
    assert get_profile("own").checkpoint("yolos").name == "yolos-own-my-nuts.safetensors"


def test_train_sweep_and_explore(workplace, monkeypatch):
    monkeypatch.setenv("BAVIT_PROFILE", "own")
    monkeypatch.setenv("BAVIT_DATA_DIR", str(OWN_FOLDER))
    profile = get_profile()
    for path in (workplace / "data" / "checkpoints").glob("*-own*"):
        path.unlink()
    assert run("train-bavit --store") == 0
    assert run("train-yolos --start data/checkpoints/yolos-sample.safetensors --store") == 0
    assert tuple(load_yolos(profile.checkpoint("yolos")).config.id2label.values()) == OWN_CLASSES
    assert run("sweep --store") == 0
    rows = load_rows("table2-own")
    assert set(rows.bavit) == {"bavit-small", "random", "oracle-exact"} and set(rows.n_images) == {3}

    sources, missing = picture_sources(profile)
    picture = next(iter(sources["own, val"].values()))()
    assert not missing and picture.record.dataset == "own"
    assert "BAViT-small, trained on own, 96 px" in choices(profile) and Detector.missing(profile) is None
    pruner = Pruner(profile, "bavit-small", Detector(profile))
    numbers = pruner.numbers(picture, pruner.keep(picture, 0.5))
    assert numbers.patches == 64 and numbers.fg_recall is not None
    assert set(pruner.detector.found(picture).names) <= {*OWN_CLASSES}


def test_all_who_choose_tokens_compare_on_pictures_with_boxes_alone(workplace, monkeypatch, capsys):
    assert run("compare --profile own --store", {"BAVIT_DATA_DIR": str(OWN_FOLDER)}) == 0
    assert "oracle-mask: not run here, as these pictures have boxes alone" in capsys.readouterr().out
    assert {"bavit-small", "sparse-detr", "focus-detr", "oracle-box", "tome"} <= {*load_rows("selectors-own").selector}


def test_val_pictures_without_any_object_are_measured_all_the_same(workplace, monkeypatch, capsys):
    monkeypatch.setenv("BAVIT_DATA_DIR", str(OWN_FOLDER))
    path = OWN_FOLDER / "annotations" / "val.json"
    content = json.loads(path.read_text())
    path.unlink()  # it is a link
    path.write_text(json.dumps(content | {"annotations": []}))
    for command in ("train-bavit --profile own --store", "sweep --profile own --store"):
        assert run(command) == 0, capsys.readouterr().err
    assert "undefined" in capsys.readouterr().out
    (row,) = load_rows("table1").to_dict("records")
    assert row["auroc"] is None and row["majority"] == 1.0
    rows = load_rows("table2-own")
    assert rows.AP.isna().all() and rows.fg_recall.isna().all() and (rows.tokens > 0).all()
