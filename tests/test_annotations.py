"""Patch labels against slow, obvious references."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bavit_utils.annotations import IGNORE_INDEX, VOID, labels_for, labels_from_boxes, labels_from_mask
from bavit_utils.data.records import load_records

SIDES, CELLS = st.integers(1, 30), st.integers(1, 9)


@st.composite
def box_scenes(draw, crowds=False):
    """A picture's size, a grid, up to four boxes with whole coordinates in it, and which of them are crowds."""
    height, width = draw(SIDES), draw(SIDES)
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
    crowd = [crowds and draw(st.booleans()) for _ in boxes]
    return (height, width), (draw(CELLS), draw(CELLS)), boxes, crowd


@st.composite
def mask_scenes(draw):
    """A small random mask of background, objects and void, and a grid."""
    shape, grid = (draw(SIDES), draw(SIDES)), (draw(CELLS), draw(CELLS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = np.array(draw(st.sampled_from([(6, 1, 1), (1, 1, 1), (9, 1, 0), (1, 0, 30)])), dtype=float)
    return rng.choice(np.array([0, 7, VOID], dtype=np.uint8), size=shape, p=weights / weights.sum()), grid


def _patch(r, c, size, grid):
    (height, width), (rows, cols) = size, grid
    x, y = Fraction(width, cols), Fraction(height, rows)
    return c * x, r * y, (c + 1) * x, (r + 1) * y


def _common(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else Fraction(0)


def _area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def _reference_boxes(boxes, size, grid, rule, tau):
    labels = np.zeros(grid, dtype=np.int64)
    for r, c in np.ndindex(*grid):
        patch = _patch(r, c, size, grid)
        for box in boxes:
            common = _common(patch, box)
            whole = _area(patch) if rule == "coverage" else _area(patch) + _area(box) - common
            labels[r, c] |= common / whole >= tau
    return labels


def _pixels(size):
    return [(y, x, (x, y, x + 1, y + 1)) for y, x in np.ndindex(*size)]


@settings(deadline=None, max_examples=60)
@given(box_scenes(), st.sampled_from(["coverage", "jaccard"]), st.sampled_from([0.125, 0.5, 1.0]))
def test_box_labels_equal_exact_fractions(scene, rule, tau):
    size, grid, boxes, _ = scene
    expected = _reference_boxes(boxes, size, grid, rule, tau)
    assert np.array_equal(labels_from_boxes(boxes, size, grid, rule, tau), expected)


@settings(deadline=None, max_examples=40)
@given(box_scenes(crowds=True))
def test_crowds_leave_the_patch_unless_another_box_lies_over_them(scene):
    size, grid, boxes, crowd = scene
    objects = [box for box, c in zip(boxes, crowd) if not c]
    left = np.ones(size, dtype=bool)
    for x1, y1, x2, y2 in [box for box, c in zip(boxes, crowd) if c]:
        left[y1:y2, x1:x2] = False
    for x1, y1, x2, y2 in objects:
        left[y1:y2, x1:x2] = True
    expected = np.zeros(grid, dtype=np.int64)
    for r, c in np.ndindex(*grid):
        patch = _patch(r, c, size, grid)
        area = sum(_common(patch, pixel) for y, x, pixel in _pixels(size) if left[y, x])
        best = max((_common(patch, box) for box in objects), default=0)
        expected[r, c] = IGNORE_INDEX if area == 0 else best * 2 >= area
    assert np.array_equal(labels_from_boxes(boxes, size, grid, crowd=np.array(crowd)), expected)


@settings(deadline=None, max_examples=40)
@given(mask_scenes(), st.sampled_from([0.0, 0.1, 0.5]))
def test_mask_labels_equal_exact_fractions(scene, tau):
    mask, grid = scene
    exact = Fraction(str(tau))
    expected = np.zeros(grid, dtype=np.int64)
    for r, c in np.ndindex(*grid):
        patch = _patch(r, c, mask.shape, grid)
        shares = {value: Fraction(0) for value in (0, 7, VOID)}
        for y, x, pixel in _pixels(mask.shape):
            shares[int(mask[y, x])] += _common(patch, pixel)
        known = shares[0] + shares[7]
        expected[r, c] = IGNORE_INDEX if known == 0 else shares[7] > exact * known
    assert np.array_equal(labels_from_mask(mask, grid, tau), expected)


def test_a_mask_is_its_box_where_it_is_one():
    mask = np.zeros((375, 500), dtype=np.uint8)
    mask[40:260, 111:333] = 1
    from_mask = labels_from_mask(mask, (24, 24), tau=0.37)
    assert np.array_equal(from_mask, labels_from_boxes([(111, 40, 333, 260)], (375, 500), (24, 24), tau=0.37))
    assert 0 < from_mask.sum() < from_mask.size


def test_thresholds_are_at_least_for_boxes_and_more_than_for_masks():
    half = [(0, 0, 8, 16)]
    assert labels_from_boxes(half, (16, 32), (1, 2)).tolist() == [[1, 0]]
    assert labels_from_boxes([(0, 0, 7.99, 16)], (16, 32), (1, 2)).tolist() == [[0, 0]]
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[0, :10] = 1  # exactly a tenth of the first patch
    assert labels_from_mask(mask, (1, 2)).tolist() == [[0, 0]]
    mask[1, 0] = 1
    assert labels_from_mask(mask, (1, 2)).tolist() == [[1, 0]]


def test_the_best_single_box_decides_not_the_union():
    two_thirds_together = [(0, 0, 6, 16), (6, 0, 12, 16)]
    assert labels_from_boxes(two_thirds_together, (16, 16), (1, 1)).tolist() == [[0]]
    assert labels_from_boxes([(0, 0, 12, 16)], (16, 16), (1, 1)).tolist() == [[1]]


def test_literal_jaccard_labels_next_to_nothing_at_384_pixels():
    """Eq. 2 inside a box is 256 / box area: a half is out of reach for all boxes wider than 22.6 pixels."""
    for side, best in ((16, 1.0), (32, 0.25), (64, 0.0625), (192, 256 / 192**2)):
        box = [(96, 96, 96 + side, 96 + side)]
        inside = (side // 16) ** 2
        assert labels_from_boxes(box, (384, 384), (24, 24), "jaccard", best).sum() == inside
        assert labels_from_boxes(box, (384, 384), (24, 24), "jaccard", min(1.0, best * 1.01)).sum() == (side == 16)
        assert labels_from_boxes(box, (384, 384), (24, 24), "jaccard").sum() == (side == 16)
        assert labels_from_boxes(box, (384, 384), (24, 24)).sum() == inside


def test_jaccard_does_not_change_when_the_picture_is_warped():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x1, y1, x2, y2 = np.concatenate([rng.integers(0, 200, 2), rng.integers(201, 400, 2)])
        box = np.array([[x1, y1, x2, y2]])
        a = labels_from_boxes(box, (400, 400), (20, 20), "jaccard", 1 / 64)
        assert np.array_equal(a, labels_from_boxes(box * [2, 1, 2, 1], (400, 800), (20, 20), "jaccard", 1 / 64))


def test_void_leaves_numerator_and_denominator():
    mask = np.full((4, 8), VOID, dtype=np.uint8)
    mask[0, 0], mask[1:3, 0] = 1, 0  # of the first patch a third is foreground
    assert labels_from_mask(mask, (1, 2), tau=0.3).tolist() == [[1, IGNORE_INDEX]]
    assert labels_from_mask(mask, (1, 2), tau=0.34).tolist() == [[0, IGNORE_INDEX]]


def test_fractional_crowd_borders_leave_no_crumbs():
    crowd = [(0.3, 0.7, 499.9, 374.1), (100.01, 33.3, 300.7, 200.9)]
    labels = labels_from_boxes(crowd, (375, 500), (24, 24), crowd=[True, True])
    assert (labels[1:-1, 1:-1] == IGNORE_INDEX).all() and (labels[0] == 0).all()


@pytest.mark.parametrize("rule, share, label", [
    ("mask", 0.09, 0), ("mask", 0.10, 0), ("mask", 0.11, 1), ("mask", 0.14, 1),
    ("box", 0.42, 0), ("box", 0.49, 0), ("box", 0.50, 1), ("box", 0.51, 1),
])  # fmt: skip
def test_the_papers_shares(rule, share, label):
    """Of a patch of 100 pixels: more than 10 % of it under the mask, at least 50 % in the box (section 3.1)."""
    mask = (np.arange(100) < round(100 * share)).astype(np.uint8).reshape(10, 10)
    box = np.array([[0, 0, 10, 10 * share]], dtype=np.float64)
    record = SimpleNamespace(size=(10, 10), boxes=box, mask=lambda: mask, crowd=np.array([False]))
    assert labels_for(record, (1, 1), rule).tolist() == [[label]]


def test_no_objects_is_all_background():
    assert not labels_from_boxes(np.zeros((0, 4)), (30, 40), (3, 5)).any()
    assert not labels_from_mask(np.zeros((30, 40), dtype=np.uint8), (3, 5)).any()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown box rule 'iou'"):
        labels_from_boxes([], (8, 8), (2, 2), "iou")
    with pytest.raises(ValueError, match="tau is 0"):
        labels_from_boxes([], (8, 8), (2, 2), tau=0)
    with pytest.raises(ValueError, match="tau is 1"):
        labels_from_mask(np.zeros((8, 8), dtype=np.uint8), (2, 2), tau=1)


def test_labels_for_takes_mask_or_boxes_with_difficult_ones():
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:16, :3] = 1
    boxes = np.array([[0, 0, 16, 16], [16, 0, 32, 16], [0, 16, 32, 32]], dtype=np.float32)
    record = SimpleNamespace(
        size=(32, 32),
        boxes=boxes,
        mask=lambda: mask,
        difficult=np.array([True, False, False]),
        crowd=np.array([False, False, True]),
    )
    assert labels_for(record, (2, 2)).tolist() == [[1, 0], [0, 0]]
    assert labels_for(record, (2, 2), "box").tolist() == [[1, 1], [IGNORE_INDEX, IGNORE_INDEX]]
    mask[16, 16] = 1  # one pixel: any at all is enough for a share of zero
    assert labels_for(record, (2, 2), tau=0).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="unknown label rule 'boxes'"):
        labels_for(record, (2, 2), "boxes")


def test_real_pictures_show_the_gap_between_coverage_and_literal_jaccard(real_data):
    records = load_records("coco", "val", limit=60)
    shares = {
        rule: np.mean([labels_from_boxes(r.boxes[~r.crowd], r.size, (24, 24), rule) for r in records])
        for rule in ("coverage", "jaccard")
    }
    assert 0.2 < shares["coverage"] < 0.7 and shares["jaccard"] < 0.005
