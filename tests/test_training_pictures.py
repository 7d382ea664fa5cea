"""What the training loops read: the order of visits, and labels that stay on their objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bavit_utils.config import Recipe
from bavit_utils.data.records import Record
from bavit_utils.training import pictures as training_data
from bavit_utils.training.pictures import DetectionPictures, TokenPictures, Visits, collate_detection

SIDE = 128
VISITS = range(60)
RECIPE = Recipe(epochs=5, batch_size=1, lr=1.0)
PLAIN = replace(RECIPE, augment=("flip", "colour"))


def make_record(folder, boxes, channels, size=(SIDE, SIDE), difficult=(), crowd=()) -> Record:
    """A black picture with a bright rectangle at each box, of the one colour channel that is its label."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    for (x1, y1, x2, y2), channel in zip(boxes, channels):
        image[y1:y2, x1:x2, channel] = 255
    path = folder / f"{len(list(folder.iterdir()))}.png"
    Image.fromarray(image).save(path)
    n, boxes = len(boxes), np.array(boxes, dtype=np.float32).reshape(-1, 4)
    flags = [np.isin(np.arange(n), which) for which in (difficult, crowd)]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    labels = np.array(channels, dtype=np.int64)
    return Record("coco", "train", path.stem, path, path, size, boxes, labels, *flags, areas)


@pytest.fixture
def record(tmp_path) -> Record:
    """A red rectangle near a corner and a green one elsewhere, in a picture that is wider than high."""
    return make_record(tmp_path, [(8, 20, 56, 68), (120, 30, 200, 110)], [0, 1], size=(SIDE, 2 * SIDE))


def bright(pixels: torch.Tensor, channel: int) -> np.ndarray:
    """Where a channel is nearer to its brightest than to black, bool [S, S]; black is -1."""
    values = pixels[channel].numpy() + 1
    return values > 0.5 * max(values.max(), 0.5)


def bounds(where: np.ndarray) -> np.ndarray:
    rows, cols = np.nonzero(where)
    return np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])


def xyxy(boxes: torch.Tensor, side: int = SIDE) -> np.ndarray:
    centres, sides = boxes.numpy()[:, :2], boxes.numpy()[:, 2:]
    return side * np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


# ---- the order of visits


def test_visits_are_a_function_of_seed_and_epoch():
    a, b, other = Visits(20, 4, seed=3), Visits(20, 4, seed=3), Visits(20, 4, seed=4)
    assert list(a) == list(a) == list(b) != list(other)
    first = list(a)
    a.epoch = 1
    assert list(a) != first
    a.epoch = 0
    assert list(a) == first


def test_an_epoch_visits_every_picture_once_and_no_visit_number_comes_again():
    visits = Visits(23, 4, seed=0)
    numbers = set()
    for visits.epoch in range(3):
        batches = list(visits)
        assert len(batches) == len(visits) == 5 and {len(batch) for batch in batches} == {4}
        pairs = [pair for batch in batches for pair in batch]
        assert len({picture for picture, _ in pairs}) == 20 and max(picture for picture, _ in pairs) < 23
        assert numbers.isdisjoint(number for _, number in pairs)
        numbers |= {number for _, number in pairs}
    assert len(numbers) == 60


def test_visits_resume_in_the_middle_of_an_epoch():
    visits = Visits(20, 4, seed=1)
    visits.epoch = 2
    whole = list(visits)
    visits.start = 3
    assert list(visits) == whole[3:]


def test_fewer_pictures_than_a_batch_is_an_error():
    with pytest.raises(ValueError, match="3 pictures don't fill one batch of 4: give more, or lower batch_size"):
        Visits(3, 4, seed=0)


def test_pictures_depend_on_seed_and_visit_alone(record, monkeypatch):
    data, same = (DetectionPictures([record], SIDE, RECIPE, seed=5) for _ in range(2))
    first = [data[0, visit][0] for visit in range(8)]
    assert all(torch.equal(first[visit], same[0, visit][0]) for visit in reversed(range(8)))
    assert len({pixels.numpy().tobytes() for pixels in first}) == 8
    assert not torch.equal(first[0], DetectionPictures([record], SIDE, RECIPE, seed=6)[0, 0][0])
    monkeypatch.setattr(training_data, "_CACHE_BYTES", 0)
    decoded_each_time = DetectionPictures([record], SIDE, RECIPE, seed=5)
    assert decoded_each_time.kept is None and torch.equal(first[3], decoded_each_time[0, 3][0])


def test_changing_an_item_leaves_the_kept_picture_alone(record):
    data = DetectionPictures([record], SIDE, RECIPE)
    before = data.picture(0).copy()
    for visit in VISITS:
        data[0, visit][0].zero_()
    np.testing.assert_array_equal(data.picture(0), before)


# ---- boxes


def test_flips_and_crops_keep_boxes_on_their_objects(record):
    data = DetectionPictures([record], SIDE, RECIPE)
    places, complete = set(), 0
    for visit in VISITS:
        pixels, target = data[0, visit]
        assert pixels.shape == (3, SIDE, SIDE) and -1 <= pixels.min() and pixels.max() <= 1
        boxes = xyxy(target["boxes"])
        for channel, box in zip(target["class_labels"].tolist(), boxes):
            np.testing.assert_allclose(bounds(bright(pixels, channel)), box, atol=1.6)
        places |= {tuple(box.round()) for box in boxes}
        complete += len(boxes) == 2
    assert len(places) > 30 and complete > 20  # it did move, and it did see both


def test_the_first_epochs_are_small_where_the_recipe_says_so(record):
    recipe = Recipe(epochs=5, batch_size=1, lr=1.0, small_epochs=2, small_img_size=96)
    data = DetectionPictures([record] * 10, SIDE, recipe)
    for visit in range(40):
        pixels, target = data[visit % 10, visit]
        side = 96 if visit < 20 else SIDE
        assert pixels.shape == (3, side, side)
        for channel, box in zip(target["class_labels"].tolist(), xyxy(target["boxes"], side)):
            np.testing.assert_allclose(bounds(bright(pixels, channel)), box, atol=1.6)


def test_both_flips_of_the_whole_picture_occur(record):
    data = DetectionPictures([record], SIDE, RECIPE)
    whole = record.boxes / [2, 1, 2, 1]  # warped to the square
    flipped = whole[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [SIDE, 0, SIDE, 0]
    found = [xyxy(data[0, visit][1]["boxes"]) for visit in VISITS]
    for wanted in (whole, flipped):
        assert any(boxes.shape == wanted.shape and np.allclose(boxes, wanted, atol=1e-3) for boxes in found)


def test_a_box_that_a_crop_hides_mostly_is_dropped_and_no_other(tmp_path):
    corner = make_record(tmp_path, [(0, 0, 24, 24)], [2])
    data = DetectionPictures([corner], SIDE, RECIPE)
    dropped = 0
    for visit in range(200):
        pixels, target = data[0, visit]
        shown = bright(pixels, 2).sum()
        if len(target["boxes"]):
            assert shown > 0.35 * 24 * 24  # two fifths, less the rounding of pixels; a crop only enlarges
        else:
            dropped += 1
            assert target["boxes"].shape == (0, 4) and target["class_labels"].shape == (0,)
            assert shown < 0.45 * 24 * 24 / RECIPE.smallest_crop**2
    assert 10 < dropped < 100


def test_targets_are_what_transformers_wants(record):
    _, target = DetectionPictures([record], SIDE, RECIPE)[0, 0]
    assert target["class_labels"].dtype == torch.int64 and target["boxes"].dtype == torch.float32
    assert ((target["boxes"] >= 0) & (target["boxes"] <= 1)).all()


def test_crowds_and_difficult_objects_are_no_targets(tmp_path):
    boxes = [(10, 10, 40, 40), (60, 10, 100, 50), (20, 70, 90, 120)]
    data = DetectionPictures([make_record(tmp_path, boxes, [0, 1, 2], difficult=[0], crowd=[2])], SIDE, RECIPE)
    labels = [data[0, visit][1]["class_labels"].tolist() for visit in VISITS]
    assert {label for found in labels for label in found} == {1}


def test_a_picture_without_objects_has_empty_targets(tmp_path):
    data = DetectionPictures([make_record(tmp_path, [], [])], SIDE, RECIPE)
    for visit in VISITS:
        _, target = data[0, visit]
        assert target["boxes"].shape == (0, 4) and target["class_labels"].dtype == torch.int64


def test_collate_stacks_pixels_and_lists_targets(record, tmp_path):
    data = DetectionPictures([record, make_record(tmp_path, [], [])], SIDE, RECIPE)
    visits = Visits(2, 2, seed=0)
    ((pixels, targets),) = DataLoader(data, batch_sampler=visits, collate_fn=collate_detection)
    assert pixels.shape == (2, 3, SIDE, SIDE) and len(targets) == 2
    for item, picture, target in zip(next(iter(visits)), pixels, targets):
        assert torch.equal(picture, data[item][0]) and torch.equal(target["boxes"], data[item][1]["boxes"])


# ---- patch labels


def test_patch_labels_flip_with_their_picture(tmp_path):
    data = TokenPictures([make_record(tmp_path, [(16, 32, 64, 112)], [1])], SIDE, PLAIN, "box")
    seen = set()
    for visit in VISITS:
        pixels, labels = data[0, visit]
        assert labels.shape == (8, 8) and labels.dtype == torch.int64
        patches = bright(pixels, 1).reshape(8, 16, 8, 16).mean(axis=(1, 3))
        np.testing.assert_array_equal(labels.numpy() == 1, patches > 0.5)
        seen.add(labels.numpy().tobytes())
    assert len(seen) == 2


def test_recolouring_stays_near_the_picture(record):
    data = TokenPictures([record], SIDE, PLAIN, "box")
    levels = [float(data[0, visit][0].max()) for visit in VISITS]
    assert min(levels) >= 2 * 0.75 * 0.9 - 1 - 1e-6 and max(levels) <= 1
    assert np.std(levels) > 0.02


def patches_of(pixels, channels=(0, 1, 2)) -> np.ndarray:
    """The share of each 16-pixel patch that is bright in one of the channels, [rows, cols]."""
    where = np.any([bright(pixels, channel) for channel in channels], axis=0)
    rows = len(where) // 16
    return where.reshape(rows, 16, rows, 16).mean(axis=(1, 3))


@pytest.mark.parametrize(("rule", "tau"), [("box", 0.5), ("mask", 0.3), ("mask", 0.5)])
def test_patch_labels_follow_crops(tmp_path, rule, tau):
    record = make_record(tmp_path, [(20, 34, 64, 112)], [1], size=(SIDE, 2 * SIDE))
    mask = tmp_path / "mask.png"
    Image.fromarray((record.image()[..., 1] > 0).astype(np.uint8)).save(mask)
    data = TokenPictures([replace(record, masks=mask)], SIDE, replace(RECIPE, augment=("crop", "flip")), rule, tau=tau)
    seen, wrong = set(), 0
    for visit in VISITS:
        pixels, labels = data[0, visit]
        shares = patches_of(pixels, (1,))
        sure = abs(shares - tau) > 0.2  # a stretched border is a pixel or two here or there
        assert sure.sum() > 40
        wrong += ((labels.numpy() == 1) != (shares > tau))[sure].sum()
        seen.add(labels.numpy().tobytes())
    assert wrong == 0 and len(seen) > 15


def test_void_pixels_of_a_crop_are_ignored(tmp_path):
    record = make_record(tmp_path, [(0, 0, 64, 128)], [1])
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[:, :64], mask[:, 64:] = 1, 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    data = TokenPictures([replace(record, masks=tmp_path / "mask.png")], SIDE, RECIPE, "mask")
    for visit in VISITS:
        assert set(data[0, visit][1].unique().tolist()) <= {1, -100}


def test_the_first_epochs_of_patches_are_small_where_the_recipe_says_so(record):
    recipe = replace(RECIPE, small_epochs=2, small_img_size=64)
    data = TokenPictures([record] * 10, SIDE, recipe, "box")
    for visit in range(40):
        pixels, labels = data[visit % 10, visit]
        side = 64 if visit < 20 else SIDE
        assert pixels.shape == (3, side, side) and labels.shape == (side // 16,) * 2
        shares = patches_of(pixels, (0, 1))
        sure = abs(shares - 0.5) > 0.15
        assert ((labels.numpy() == 1) == (shares > 0.5))[sure].all()


def test_a_recipe_without_changes_shows_the_picture_as_it_is(record):
    data = TokenPictures([record], SIDE, replace(RECIPE, augment=()), "box")
    first, labels = data[0, 0]
    expected = torch.from_numpy(data.picture(0)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(first, expected)
    for visit in VISITS:
        assert torch.equal(data[0, visit][0], first) and torch.equal(data[0, visit][1], labels)
