"""Composed scenes: boxes fit what is visible, cut-outs bring nothing along, and nothing comes from held-out pictures."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_training_pictures import SIDE, bounds, bright, make_record, xyxy
from torch.utils.data import DataLoader

from bavit_utils.config import Recipe
from bavit_utils.data.records import VOC_CLASSES, load_records
from bavit_utils.training.composed_scenes import LARGEST_CUTOUT, ComposedScenes, cut_out
from bavit_utils.training.pictures import DetectionPictures, Visits, collate_detection

VISITS = range(80)
PLAIN = Recipe(epochs=5, batch_size=1, lr=1.0, augment=("flip",), composed_epochs=1000)
SQUARE = (30, 40, 90, 100)


def make_masked(folder, channel, split="train"):
    """An ellipse of one colour channel in a white picture, with its class mask and its box."""
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5
    x1, y1, x2, y2 = SQUARE
    inside = ((cols - (x1 + x2) / 2) / (x2 - x1) * 2) ** 2 + ((rows - (y1 + y2) / 2) / (y2 - y1) * 2) ** 2 < 1
    image = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    image[inside] = np.eye(3)[channel] * 255
    record = make_record(folder, [SQUARE], [channel])
    Image.fromarray(image).save(record.image_path)
    mask = folder / f"mask-{channel}.png"
    Image.fromarray(inside.astype(np.uint8) * np.uint8(channel + 1)).save(mask)
    return replace(record, masks=mask, split=split)


@pytest.fixture
def scenes(tmp_path) -> ComposedScenes:
    """A red rectangle in a black picture; green rectangles and blue ellipses are pasted, red ones never."""
    records = [make_record(tmp_path, [(8, 20, 56, 68)], [0]), make_record(tmp_path, [SQUARE], [1])]
    data = ComposedScenes([*records, make_masked(tmp_path, 2)], SIDE, PLAIN)
    del data.cutouts[0]
    return data


@pytest.mark.parametrize("recipe", [PLAIN, replace(PLAIN, augment=("flip", "crop", "colour"))])
def test_boxes_are_the_tight_boxes_of_what_is_visible(scenes, recipe, monkeypatch):
    scenes.recipe, draw, drawn = recipe, scenes._draw, []

    def watched(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(scenes, "_draw", watched)
    errors = {0: [], 1: [], 2: []}
    for visit in VISITS:
        drawn.clear()
        pixels, target = scenes[0, visit]
        assert pixels.shape == (3, SIDE, SIDE) and -1 <= pixels.min() and pixels.max() <= 1
        assert target["class_labels"].dtype == torch.int64 and target["boxes"].dtype == torch.float32
        assert ((target["boxes"] >= -1e-6) & (target["boxes"] <= 1 + 1e-6)).all()
        pasted = [label for label, _ in drawn]
        for label, box in zip(target["class_labels"].tolist(), xyxy(target["boxes"])):
            if pasted.count(label) <= 1:  # else what is visible of two objects has one colour
                errors[label].append(abs(bounds(bright(pixels, label)) - box).max())
    for found in errors.values():  # where soft edges cross, a tip may fade
        assert len(found) > 8 and max(found) < 6 and np.mean(np.array(found) > 1.6) < 0.15


def test_hidden_objects_are_dropped_and_no_others(scenes):
    whole, dropped = 48 * 48, 0
    for visit in range(300):
        pixels, target = scenes[0, visit]
        share = bright(pixels, 0).sum() / whole
        if 0 in target["class_labels"]:
            assert share > 0.33
        else:
            dropped += 1
            assert share < 0.47
    assert 3 < dropped < 150


def test_a_cut_out_brings_nothing_of_its_surroundings(scenes):
    scenes.cutouts = {2: scenes.cutouts[2]}
    scenes.most_pasted = 1
    black = replace(scenes.recipe, augment=())
    scenes.recipe, scenes.kept[0] = black, 0
    for visit in VISITS:
        pixels, _ = scenes[0, visit]
        assert bright(pixels, 2).sum() > 100
        assert pixels[:2].max() < -0.8  # the ellipse is blue, what was around it white


def test_pasted_objects_are_of_many_places_and_sizes(scenes):
    scenes.boxes[0], scenes.targets[0], scenes.most_pasted = np.zeros((0, 4)), np.zeros(0, dtype=bool), 1
    found = []
    for visit in range(200):
        (box,) = xyxy(scenes[0, visit][1]["boxes"])
        found.append(np.concatenate([(box[2:] + box[:2]) / 2, [(box[2:] - box[:2]).max()]]) / SIDE)
    x, y, side = np.array(found).T
    assert side.min() < 0.3 and 0.7 < side.max() <= 0.92
    assert np.ptp(x) > 0.6 and np.ptp(y) > 0.6


def test_classes_are_pasted_alike_however_rare(scenes, tmp_path):
    scenes.cutouts[1] = scenes.cutouts[1] * 50
    scenes.boxes[0], scenes.targets[0], scenes.most_pasted = np.zeros((0, 4)), np.zeros(0, dtype=bool), 1
    labels = [scenes[0, visit][1]["class_labels"].item() for visit in range(200)]
    assert 70 < labels.count(2) < 130


def test_scenes_are_a_function_of_seed_and_visit(tmp_path):
    records = [make_record(tmp_path, [SQUARE], [1]), make_masked(tmp_path, 2)]
    data, same = (ComposedScenes(records, SIDE, PLAIN, seed=3) for _ in range(2))
    first = [data[0, visit] for visit in range(8)]
    for visit in reversed(range(8)):
        pixels, target = same[0, visit]
        assert torch.equal(pixels, first[visit][0]) and torch.equal(target["boxes"], first[visit][1]["boxes"])
    assert len({pixels.numpy().tobytes() for pixels, _ in first}) == 8
    assert not torch.equal(ComposedScenes(records, SIDE, PLAIN, seed=4)[0, 0][0], first[0][0])


def test_an_epoch_feeds_a_loader(tmp_path):
    records = [make_record(tmp_path, [], []), make_record(tmp_path, [SQUARE], [1])]
    recipe = replace(PLAIN, small_epochs=1, small_img_size=96)
    data = ComposedScenes(records, SIDE, recipe)
    visits = Visits(len(data), 2, seed=0)
    for visits.epoch, side in ((0, 96), (1, SIDE)):
        ((pixels, targets),) = DataLoader(data, batch_sampler=visits, collate_fn=collate_detection)
        assert pixels.shape == (2, 3, side, side) and len(targets) == 2
        assert all(len(target["boxes"]) == len(target["class_labels"]) > 0 for target in targets)


# ---- cutting out


def test_cut_outs_have_the_proportions_of_the_square(tmp_path):
    record = make_record(tmp_path, [(120, 30, 200, 110)], [1], size=(SIDE, 2 * SIDE))
    ((label, rgba),) = cut_out(record)
    x1, y1, x2, y2 = bounds(rgba[..., 3] > 127)
    assert label == 1 and (x2 - x1) / (y2 - y1) == pytest.approx(0.5, abs=0.03)
    large = make_record(tmp_path, [(10, 10, 590, 390)], [1], size=(400, 600))
    assert max(cut_out(large)[0][1].shape) == LARGEST_CUTOUT


def test_alpha_is_the_mask_where_it_fits_the_box(tmp_path):
    record = make_masked(tmp_path, 2)
    ((_, rgba),) = cut_out(record)
    assert (rgba[..., 3] > 127).mean() == pytest.approx(np.pi / 4, abs=0.08)
    wrong = replace(record, boxes=np.array([(10, 10, 60, 80)], dtype=np.float32))
    ((_, rgba),) = cut_out(wrong)
    assert (rgba[..., 3] > 127).mean() > 0.82  # the box with round corners, less its soft edge


def test_small_difficult_and_crowded_objects_are_not_cut_out(tmp_path):
    boxes = [(0, 0, 12, 12), (20, 20, 60, 60), (70, 20, 110, 60), (20, 70, 60, 110)]
    record = make_record(tmp_path, boxes, [0, 1, 2, 1], difficult=[1], crowd=[2])
    assert [label for label, _ in cut_out(record)] == [1]


def test_objects_under_others_are_not_cut_out_by_their_box(tmp_path):
    record = make_record(tmp_path, [(10, 10, 110, 110), (30, 30, 100, 100)], [0, 1])
    assert cut_out(record) == []
    beside = make_record(tmp_path, [(10, 10, 60, 110), (55, 30, 120, 100)], [0, 1])
    assert [label for label, _ in cut_out(beside)] == [0, 1]


def test_pictures_of_other_splits_or_without_objects_are_an_error(tmp_path):
    held_out = make_masked(tmp_path, 1, split="test")
    with pytest.raises(ValueError, match=r"\.png is of the split 'test': compose of training pictures"):
        ComposedScenes([make_masked(tmp_path, 2), held_out], SIDE, PLAIN)
    with pytest.raises(ValueError, match="no object in 1 pictures is large enough"):
        ComposedScenes([make_record(tmp_path, [], [])], SIDE, PLAIN)


# ---- real pictures


def test_real_scenes_have_targets_of_many_classes(real_data):
    records = load_records("voc2007", "train", 80) + load_records("voc2012", "train", 40)
    data = ComposedScenes(records, 128, PLAIN)
    targets = [data[visit % len(data), visit][1] for visit in range(200)]
    labels = torch.cat([target["class_labels"] for target in targets])
    assert len(labels.unique()) >= 15 and labels.max() < len(VOC_CLASSES)
    assert 2 < len(labels) / len(targets) < 8
    sides = torch.cat([target["boxes"] for target in targets])[:, 2:]
    assert (sides > 0).all() and (sides <= 1 + 1e-6).all()


@pytest.mark.slow
def test_no_held_out_picture_is_in_a_training_list(real_data):
    def digests(*parts):
        records = [record for part in parts for record in load_records(*part)]
        return {hashlib.sha256(record.image_path.read_bytes()).digest() for record in records}

    train = digests(("voc2007", "train"), ("voc2012", "train"))
    assert len(train) > 3000 and train.isdisjoint(digests(("voc2007", "test"), ("voc2012", "val")))


def test_after_the_composed_epochs_pictures_come_as_they_are(tmp_path):
    records = [make_masked(tmp_path, 1), make_masked(tmp_path, 2)]
    recipe = replace(PLAIN, composed_epochs=2)
    scenes, plain = ComposedScenes(records, SIDE, recipe), DetectionPictures(records, SIDE, recipe)
    for visit in range(8):
        same = torch.equal(scenes[0, visit][0], plain[0, visit][0])
        assert same == (visit >= 4)
