"""The rows of the appendix's filling against counts by hand."""

import pytest
import torch

from bavit_utils.annotations import IGNORE_INDEX
from bavit_utils.postprocessing import postprocessing_rows
from bavit_utils.pruning import fill_neighbours, keep_mask


@pytest.fixture
def maps_and_labels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(12, 12, 12, dtype=torch.int64)
    labels[:, 3:9, 2:8] = 1
    maps = (2 * labels - 1 + torch.randn(labels.shape, generator=generator)).sigmoid()
    return maps, labels


def test_step_zero_is_the_threshold_itself(maps_and_labels):
    maps, labels = maps_and_labels
    row = postprocessing_rows(maps, labels, steps=[0])[0]
    keep = maps >= 0.5
    assert row["sparsity"] == pytest.approx(1 - keep.float().mean().item())
    assert row["fg_recall"] == row["fg_recall_alone"] == pytest.approx(keep[labels == 1].float().mean().item())
    assert row["accuracy"] == row["accuracy_alone"] == pytest.approx((keep == (labels == 1)).float().mean().item())


def test_filling_recalls_more_and_prunes_less_with_every_step(maps_and_labels):
    rows = postprocessing_rows(*maps_and_labels)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    recall, sparsity = [row["fg_recall"] for row in rows], [row["sparsity"] for row in rows]
    assert recall == sorted(recall) and recall[1] > recall[0]
    assert sparsity == sorted(sparsity, reverse=True) and sparsity[1] < sparsity[0]


def test_threshold_alone_gives_the_same_sparsity(maps_and_labels):
    maps, labels = maps_and_labels
    for row in postprocessing_rows(maps, labels):
        alone = keep_mask(maps, row["threshold_alone"])
        assert 1 - alone.float().mean().item() == pytest.approx(row["sparsity"], abs=2 / maps.numel())


def test_four_neighbours_and_a_higher_count_fill_less(maps_and_labels):
    eight, four, six = (postprocessing_rows(*maps_and_labels, steps=[3], **kwargs)[0]["sparsity"]
                        for kwargs in ({}, {"neighbours": 4}, {"more_than": 6}))
    assert eight < four and eight < six


def test_unlabelled_tokens_count_for_sparsity_alone(maps_and_labels):
    maps, labels = maps_and_labels
    labels = labels.clone()
    labels[:6] = IGNORE_INDEX
    row = postprocessing_rows(maps, labels, steps=[2])[0]
    filled = fill_neighbours(keep_mask(maps, 0.5), 2)
    assert row["sparsity"] == pytest.approx(1 - filled.float().mean().item())
    assert row["accuracy"] == pytest.approx((filled == (labels == 1))[6:].float().mean().item())


def test_unequal_shapes_are_refused(maps_and_labels):
    maps, labels = maps_and_labels
    with pytest.raises(ValueError, match="should both be"):
        postprocessing_rows(maps, labels[:3])
