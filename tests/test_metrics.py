"""Token metrics by hand and by scikit-learn; AP against pycocotools called by hand, on whole and on resampled sets."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bavit_utils.metrics import (
    DetectionEvaluation,
    average_precision,
    bootstrap_ap,
    fg_recall_at,
    interval,
    paired_difference,
    token_metrics,
    with_interval,
)


def random_tokens(seed=0, n=20):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 6, 6))
    labels[rng.random(labels.shape) < 0.1] = -100
    return np.clip(0.3 * (labels == 1) + 0.7 * rng.random(labels.shape), 0, 1), labels


def test_token_metrics_equal_scikit_learn():
    prob, labels = random_tokens()
    y, p = labels[labels >= 0], prob[labels >= 0]
    found = token_metrics(torch.tensor(prob), torch.tensor(labels))
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p >= 0.5))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, p >= 0.5))
    assert found["auroc"] == pytest.approx(roc_auc_score(y, p))
    assert found["fg_share"] == pytest.approx(y.mean())
    assert found["majority"] == pytest.approx(max(y.mean(), 1 - y.mean()))
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert found == token_metrics(prob, labels)


def test_accuracy_interval_is_over_pictures():
    labels = np.zeros((40, 5, 5), int)
    prob = np.zeros((40, 5, 5))
    prob[:20] = 1.0  # half of the pictures all wrong: nearly the interval of 40 coin throws, not of 1000
    found = token_metrics(prob, labels)
    assert (found["accuracy"], found["majority"]) == (0.5, 1.0)
    assert found["accuracy_low"] == pytest.approx(0.345, abs=0.03)
    assert found["accuracy_high"] == pytest.approx(0.655, abs=0.03)


def test_one_class_alone_leaves_some_numbers_undefined():
    found = token_metrics(np.zeros((2, 3, 3)), np.zeros((2, 3, 3), int))
    assert found["accuracy"] == found["majority"] == 1.0
    assert found["auroc"] is found["balanced_accuracy"] is found["fg_recall_at_35"] is None


def test_fg_recall_cuts_each_picture():
    prob = np.array([[[0.9, 0.8], [0.7, 0.6]], [[0.4, 0.3], [0.2, 0.1]]])
    labels = np.array([[[1, 1], [1, 1]], [[1, 0], [0, 0]]])
    # half of each picture goes: two of four FG tokens in the first, none of one in the second
    assert fg_recall_at(prob, labels, 0.5) == pytest.approx(3 / 5)
    assert fg_recall_at(prob, labels, 0.0) == 1.0
    assert fg_recall_at(prob, labels, 1.0) == 0.0
    labels[1, 1] = -100  # ignored tokens are pruned like any other
    assert fg_recall_at(prob, labels, 0.5) == pytest.approx(3 / 5)


def test_bad_tokens_are_refused():
    prob, labels = random_tokens()
    with pytest.raises(ValueError, match="should both be"):
        token_metrics(prob[:1], labels)
    with pytest.raises(ValueError, match="not finite"):
        token_metrics(np.full_like(prob, np.nan), labels)
    with pytest.raises(ValueError, match="1 .FG., 0 .BG."):
        token_metrics(prob, labels + 1)
    with pytest.raises(ValueError, match="not all ignored"):
        token_metrics(prob, np.full_like(labels, -100))


def record(image_id, boxes, labels, difficult=None, crowd=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    none = np.zeros(len(boxes), bool)
    return SimpleNamespace(
        image_id=image_id,
        size=(200, 200),
        boxes=boxes,
        labels=np.array(labels, np.int64),
        difficult=none if difficult is None else np.array(difficult),
        crowd=none if crowd is None else np.array(crowd),
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
    )


def prediction(boxes, labels, scores):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "scores": np.array(scores, np.float32),
    }


def random_set(seed, n=30, classes=4, noise=6.0, extra=4):
    """Pictures with 0 to 5 objects, found more or less well among false detections; scores with ties."""
    rng = np.random.default_rng(seed)
    records, predictions = [], []
    for i in range(n):
        k = int(rng.integers(0, 6))
        corner, side = rng.uniform(0, 100, (k, 2)), rng.uniform(10, 120, (k, 2))
        boxes, labels = np.concatenate([corner, corner + side], 1), rng.integers(0, classes, k)
        difficult, crowd = rng.random((2, k)) < 0.15
        records.append(record(f"picture-{i:03d}", boxes, labels, difficult, crowd))
        corner, side = rng.uniform(0, 100, (extra, 2)), rng.uniform(10, 120, (extra, 2))
        found = np.concatenate([boxes + rng.normal(0, noise, boxes.shape), np.concatenate([corner, corner + side], 1)])
        guessed = np.concatenate([labels, rng.integers(0, classes + 1, extra)])
        scores = np.concatenate([rng.uniform(0.2, 1, k), rng.uniform(0, 0.8, extra)]).round(2)
        predictions.append(prediction(found, guessed, scores))
    return records, predictions


class HandMade(COCOeval):
    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for gt in objects:
                gt["ignore"] = gt["iscrowd"] or gt["hard"]


def by_hand(records, predictions, plain=False):
    """pycocotools' twelve numbers, with its own `loadRes`; `plain` leaves the difficult objects as any other."""

    def xywh(box):
        x0, y0, x1, y1 = (float(v) for v in box)
        return [x0, y0, x1 - x0, y1 - y0]

    objects, found = [], []
    for i, (r, p) in enumerate(zip(records, predictions, strict=True)):
        for j in range(len(r.boxes)):
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": i,
                    "category_id": int(r.labels[j]),
                    "bbox": xywh(r.boxes[j]),
                    "area": float(r.areas[j]),
                    "iscrowd": int(r.crowd[j]),
                    "hard": int(r.difficult[j]),
                }
            )
        for box, label, score in zip(p["boxes"], p["labels"], p["scores"], strict=True):
            found.append({"image_id": i, "category_id": int(label), "bbox": xywh(box), "score": float(score)})
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(records))],
        "annotations": objects,
        "categories": [{"id": k} for k in range(10)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        coco_eval = (COCOeval if plain else HandMade)(gt, gt.loadRes(found), "bbox")
        coco_eval.evaluate(), coco_eval.accumulate(), coco_eval.summarize()
    return coco_eval.stats


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_equals_pycocotools(seed, capsys):
    records, predictions = random_set(seed)
    found = average_precision(records, predictions)
    assert list(found) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert list(found.values()) == pytest.approx(by_hand(records, predictions)[:6], abs=1e-12)
    assert 0.05 < found["AP"] < 0.95 and found["AP"] != pytest.approx(by_hand(records, predictions, plain=True)[0])
    assert capsys.readouterr().out == ""


def test_perfect_and_empty_predictions():
    records, _ = random_set(1)
    perfect = [prediction(r.boxes, r.labels, np.ones(len(r.labels))) for r in records]
    empty = [prediction([], [], []) for _ in records]
    assert average_precision(records, perfect)["AP"] == pytest.approx(1.0)
    assert average_precision(records, empty)["AP"] == 0.0
    assert bootstrap_ap(DetectionEvaluation(records, empty), 20) == {"AP_low": 0.0, "AP_high": 0.0}


def test_pictures_without_objects():
    nothing = [record(i, [], []) for i in range(3)]
    guesses = [prediction([[0, 0, 50, 50]], [0], [0.9])] * 3
    evaluation = DetectionEvaluation(nothing, guesses)
    assert set(evaluation.average_precision().values()) == {None}
    assert bootstrap_ap(evaluation, 10) == {"AP_low": None, "AP_high": None}
    assert paired_difference(evaluation, evaluation, 10)["delta_AP"] is None
    # beside a picture with an object, a confident guess on an empty one is a false detection
    records = nothing[:1] + [record("one", [[0, 0, 50, 50]], [0])]
    found = average_precision(records, [guesses[0], prediction([[0, 0, 50, 50]], [0], [0.5])])
    assert found["AP"] == pytest.approx(0.5) and found["APl"] is None


def test_a_difficult_object_is_neither_right_nor_wrong_and_no_crowd():
    plain, hard = [0, 0, 40, 40], [100, 100, 180, 180]
    inside = [100, 100, 120, 120]  # a small part of the difficult object
    truth = [record("a", [plain, hard], [0, 0], difficult=[False, True])]
    as_crowd = [record("a", [plain, hard], [0, 0], crowd=[False, True])]
    right = ([plain], [0], [0.5])
    assert average_precision(truth, [prediction(*right)])["AP"] == pytest.approx(1.0)
    on_hard = [prediction([hard, plain], [0, 0], [0.9, 0.5])]
    assert average_precision(truth, on_hard)["AP"] == pytest.approx(1.0)  # counted false it would be 0.5
    # a second box on it, and a box on a part of it, are false here; a crowd would swallow both
    for other in (hard, inside):
        two = [prediction([hard, other, plain], [0, 0, 0], [0.9, 0.8, 0.5])]
        assert average_precision(truth, two)["AP"] == pytest.approx(0.5)
        assert average_precision(as_crowd, two)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("n", [8, 25])  # among 8 pictures some draws leave a class without objects
@pytest.mark.parametrize("seed", range(3))
def test_a_picture_drawn_twice_counts_twice(seed, n):
    records, predictions = random_set(seed, n=n, classes=5)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=4)
    found = DetectionEvaluation(records, predictions).weighted_average_precision(weights)
    for drawn, ap in zip(weights, found, strict=True):
        picks = np.repeat(np.arange(n), drawn)
        literal = by_hand([records[i] for i in picks], [predictions[i] for i in picks])
        assert (ap.mean(), ap[0]) == pytest.approx((literal[0], literal[1]), abs=1e-9)


def test_intervals_hold_the_number_and_paired_ones_are_narrower():
    records, good = random_set(0, n=60, noise=4.0)
    _, worse = random_set(0, n=60, noise=8.0)
    a, b = DetectionEvaluation(records, good), DetectionEvaluation(records, worse)
    own, other = bootstrap_ap(a, 200), bootstrap_ap(b, 200)
    assert own["AP_low"] < a.average_precision()["AP"] < own["AP_high"]
    assert own == bootstrap_ap(DetectionEvaluation(records, good), 200)
    found = paired_difference(a, b, 200)
    assert found["delta_AP"] == pytest.approx(a.average_precision()["AP"] - b.average_precision()["AP"])
    assert 0 < found["delta_low"] < found["delta_AP"] < found["delta_high"]
    unpaired = np.hypot(own["AP_high"] - own["AP_low"], other["AP_high"] - other["AP_low"])
    assert found["delta_high"] - found["delta_low"] < unpaired
    assert paired_difference(a, a, 50) == {"delta_AP": 0.0, "delta_low": 0.0, "delta_high": 0.0}


def test_the_interval_of_ap_is_not_shifted_as_resamples_are():
    """Sets of 40 pictures out of 1,000: the basic interval mostly holds the AP of all, percentiles lie above it."""
    records, predictions = random_set(0, n=1000)
    truth, holds = average_precision(records, predictions)["AP"], []
    for start in range(0, 1000, 40):
        part = DetectionEvaluation(records[start : start + 40], predictions[start : start + 40])
        found, ap, resampled = bootstrap_ap(part, 100), part.average_precision()["AP"], part.resampled(100)[1:]
        low, high = np.percentile(resampled, [2.5, 97.5])
        assert (found["AP_low"], found["AP_high"]) == pytest.approx((2 * ap - high, 2 * ap - low))
        holds.append((found["AP_low"] <= truth <= found["AP_high"], low <= truth <= high))
    basic, percentile = np.mean(holds, axis=0)
    assert basic >= 0.8 > percentile


@pytest.mark.parametrize(("ap", "resampled", "expected"), [(0.1, (0.0, 0.4), (0, 0.2)), (0.9, (0.6, 1.0), (0.8, 1))])
def test_the_interval_of_ap_stays_within_nothing_and_everything(ap, resampled, expected):
    made = SimpleNamespace(resampled=lambda n_boot: np.array([ap, *np.repeat(resampled, 50)]))
    assert tuple(bootstrap_ap(made).values()) == pytest.approx(expected)


def test_bad_detections_are_refused():
    records, predictions = random_set(0, n=4)
    with pytest.raises(ValueError, match="4 records and 3 predictions"):
        average_precision(records, predictions[:3])
    with pytest.raises(ValueError, match="appears twice"):
        average_precision(records[:1] * 2, predictions[:2])
    bad = predictions[:3] + [prediction([[0, 0, np.nan, 1]], [0], [0.5])]
    with pytest.raises(ValueError, match="picture-003.*not finite"):
        average_precision(records, bad)
    other = DetectionEvaluation(records[::-1], predictions[::-1])
    with pytest.raises(ValueError, match="same pictures"):
        paired_difference(DetectionEvaluation(records, predictions), other)


def test_sizes_are_of_the_areas_that_are_given():
    """Of a mask, which may be far smaller than its box."""
    box = [0, 0, 100, 100]
    one = record("a", [box], [0])
    assert average_precision([one], [prediction([box], [0], [0.5])])["APl"] == pytest.approx(1.0)
    one.areas = np.array([500.0])
    found = average_precision([one], [prediction([box], [0], [0.5])])
    assert found["APs"] == pytest.approx(1.0) and found["APl"] is None


@pytest.mark.parametrize("sparsity, dropped", [(0.35, 4), (0.5, 6), (0.3, 3), (0.0, 0), (1.0, 11)])
def test_the_cut_of_the_recall_is_to_the_nearest_token(sparsity, dropped):
    prob = np.arange(11.0).reshape(1, 1, 11) / 11
    assert fg_recall_at(prob, np.ones((1, 1, 11)), sparsity) == pytest.approx(1 - dropped / 11)


def test_a_probability_of_one_half_is_foreground():
    assert token_metrics(np.full((2, 1, 2), 0.5), np.ones((2, 1, 2)), n_boot=5)["accuracy"] == 1.0


def test_an_interval_holds_95_of_100_and_leaves_out_what_is_not_defined():
    drawn = np.concatenate([np.arange(1001.0), [np.nan]])
    assert interval(drawn) == (25, 975) and interval(drawn[-1:]) == (None, None)
    columns = with_interval("share", np.concatenate([[7.0], drawn]))
    assert columns == {"share": 7, "share_low": 25, "share_high": 975}
