"""What pruning loses, object by object: on two pictures whose answers can be counted by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bavit_utils.experiments.objects import object_rows, object_table


def record(boxes, labels, difficult=()):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    n = len(boxes)
    return SimpleNamespace(
        size=(100, 200), boxes=boxes, labels=np.array(labels, dtype=np.int64), crowd=np.zeros(n, dtype=bool),
        difficult=np.isin(np.arange(n), difficult), areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )  # fmt: skip


def found(*boxes_labels_scores):
    boxes, labels, scores = zip(*boxes_labels_scores) if boxes_labels_scores else ((), (), ())
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
    }


LEFT, RIGHT, FALSE = (20, 20, 80, 80), (100, 0, 200, 100), (90, 40, 110, 60)


@pytest.fixture
def scene():
    """Two objects, the right one cut by the border; only the left half of the picture's patches is kept."""
    keep = torch.zeros(1, 2, 4, dtype=torch.bool)
    keep[:, :, :2] = True
    dense = found((LEFT, 0, 0.9), (RIGHT, 1, 0.8), (FALSE, 0, 0.7))
    return record([LEFT, RIGHT], [0, 1]), keep, dense


def test_an_object_whose_patches_go_is_counted_as_lost(scene):
    one, keep, dense = scene
    table, wrong = object_table([one], keep, [dense], [found((LEFT, 0, 0.9))])
    assert table["kept"].tolist() == [1, 0]
    assert table["truncated"].tolist() == [False, True]
    assert table["size"].tolist() == ["medium", "large"]
    assert table["found_dense"].tolist() == [True, True] and table["found_pruned"].tolist() == [True, False]
    assert wrong == {"n_dense": 1, "removed": 1, "new": 0}
    rows = {(row["size"], row["kept_low"]): row for row in object_rows(table)}
    assert rows["medium", 0.75]["lost"] == 0 and rows["large", 0.0]["lost"] == 1
    assert sum(row["n"] for row in rows.values()) == 2


def test_another_class_a_far_box_and_a_low_score_find_nothing(scene):
    one, keep, dense = scene
    far = tuple(x + 45 for x in LEFT)
    pruned = found((LEFT, 1, 0.9), (far, 0, 0.9), (RIGHT, 1, 0.29))
    table, wrong = object_table([one], keep, [dense], [pruned])
    assert not table["found_pruned"].any()
    assert wrong == {"n_dense": 1, "removed": 1, "new": 2}


def test_an_object_is_found_once_and_a_second_box_on_it_is_false(scene):
    one, keep, dense = scene
    near = (LEFT[0] + 4, *LEFT[1:])
    _, wrong = object_table([one], keep, [dense], [found((LEFT, 0, 0.9), (near, 0, 0.8))])
    assert wrong["new"] == 1


def test_difficult_objects_are_neither_objects_nor_mistakes():
    one = record([LEFT, RIGHT], [0, 1], difficult=[1])
    keep = torch.ones(1, 2, 4, dtype=torch.bool)
    table, wrong = object_table([one], keep, [found((RIGHT, 1, 0.9))], [found()])
    assert len(table) == 1 and not table["found_dense"].any()
    assert wrong == {"n_dense": 0, "removed": 0, "new": 0}


def test_the_kept_share_counts_parts_of_patches():
    one = record([(25, 25, 75, 75)], [0])
    keep = torch.zeros(1, 2, 4, dtype=torch.bool)
    keep[0, 0, 0] = True  # 25 x 25 of the object's 50 x 50 pixels
    table, _ = object_table([one], keep, [found()], [found()])
    assert table["kept"].tolist() == [pytest.approx(0.25)]
