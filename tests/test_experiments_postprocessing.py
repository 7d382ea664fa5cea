"""The rows of the appendix's filling against counts by hand, and against its rival, the moved threshold."""

import numpy as np
import pandas as pd
import pytest
import torch

from bavit_utils.annotations import IGNORE_INDEX
from bavit_utils.experiments.calibration import checked_tokens
from bavit_utils.experiments.postprocessing import _moved_threshold, papers_setting, postprocessing_rows
from bavit_utils.pruning import fill_neighbours, keep_mask


@pytest.fixture
def maps_and_labels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(12, 12, 12, dtype=torch.int64)
    labels[:, 3:9, 2:8] = 1
    maps = (2 * labels - 1 + torch.randn(labels.shape, generator=generator)).sigmoid()
    return maps, labels


def rows_of(maps, labels):
    return pd.DataFrame(postprocessing_rows(maps, labels, n_boot=100))


def test_the_whole_grid_is_there(maps_and_labels):
    rows = rows_of(*maps_and_labels)
    settings = rows[["neighbours", "more_than", "step"]].drop_duplicates()
    assert len(rows) == len(settings) == 2 * 4 * 6
    paper = papers_setting(rows)
    assert len(paper) == 1 and paper.iloc[0][["neighbours", "more_than", "step"]].tolist() == [8, 2, 3]


@pytest.mark.parametrize("unlabelled", [0, 6])
def test_every_setting_is_fill_neighbours_and_its_rival_prunes_as_many_tokens_by_threshold(maps_and_labels, unlabelled):
    maps, labels = maps_and_labels
    labels[:unlabelled] = IGNORE_INDEX  # counted for sparsity alone

    def outcome(keep):
        right = (keep == (labels == 1))[labels != IGNORE_INDEX]
        return keep[labels == 1].double().mean().item(), right.double().mean().item()

    for row in rows_of(maps, labels).itertuples():
        filled = fill_neighbours(keep_mask(maps, 0.5), row.step, row.more_than, row.neighbours)
        alone = keep_mask(maps, row.threshold_alone)
        sparsity = pytest.approx(row.sparsity)
        assert 1 - filled.double().mean().item() == sparsity == 1 - alone.double().mean().item()
        assert (row.fg_recall, row.accuracy) == pytest.approx(outcome(filled))
        assert (row.fg_recall_alone, row.accuracy_alone) == pytest.approx(outcome(alone))
        assert row.delta_fg_recall == pytest.approx(row.fg_recall - row.fg_recall_alone)
        assert row.delta_accuracy == pytest.approx(row.accuracy - row.accuracy_alone)


def test_without_a_fill_there_is_no_difference_in_any_resample(maps_and_labels):
    rows = rows_of(*maps_and_labels)
    same = rows[
        (rows.step == 0) | ((rows.neighbours == 4) & (rows.more_than == 4))
    ]  # no cell has five neighbours of four
    assert len(same) == 8 + 5
    assert same[["delta_fg_recall_low", "delta_fg_recall_high", "delta_accuracy"]].abs().to_numpy().max() < 1e-12


def test_a_resample_is_the_rival_of_repeated_pictures(maps_and_labels):
    maps, labels = maps_and_labels
    times = torch.arange(12) % 3
    repeated = [part.repeat_interleave(times, dim=0) for part in (maps, labels)]
    n_kept = 700  # an odd number of tokens may fall between the copies of one
    results = []
    for pictures, weights in (((maps, labels), times[None].double().numpy()), (repeated, np.ones((1, 12)))):
        prob, _, is_fg = checked_tokens(*pictures)
        kept, _ = _moved_threshold(prob, is_fg, ~is_fg, weights, np.array([[n_kept]]))
        results.append(kept[:, 0, 0])
    np.testing.assert_allclose(*results, atol=2)
    assert results[1].sum() == n_kept


def test_a_fill_helps_where_noise_makes_holes_and_harms_where_maps_are_sharp():
    labels = torch.zeros(40, 12, 12, dtype=torch.int64)
    labels[:, 2:10, 2:10] = 1
    generator = torch.Generator().manual_seed(1)
    holes = (torch.rand(labels.shape, generator=generator) < 0.2) & (labels == 1)
    # Holes look more like background than the background does: no threshold finds them.
    noisy = torch.where(holes, 0.1, torch.where(labels == 1, 0.9, 0.2)) + 0.01 * torch.rand(labels.shape)
    helped, harmed = (
        papers_setting(rows_of(maps, labels)).iloc[0]
        for maps in (noisy, torch.where(labels == 1, 0.9 - 0.6 * torch.rand(labels.shape, generator=generator), 0.1))
    )
    assert helped.delta_fg_recall_low > 0.05 and helped.accuracy > helped.accuracy_alone
    assert harmed.delta_fg_recall_high <= 0 and harmed.fg_recall_alone == 1


def test_the_change_in_accuracy_is_to_no_fill(maps_and_labels):
    maps, labels = maps_and_labels
    rows = rows_of(maps, labels)
    plain = (keep_mask(maps, 0.5) == (labels == 1)).double().mean().item()
    np.testing.assert_allclose(rows.change_accuracy, rows.accuracy - plain, atol=1e-12)
    moved = rows[rows.change_accuracy.abs() > 0.01]
    assert len(moved) and (moved.change_accuracy_low < moved.change_accuracy_high).all()
    assert (moved.change_accuracy_low <= moved.change_accuracy).all()
    assert (moved.change_accuracy <= moved.change_accuracy_high).all()


def test_unfit_input_is_refused(maps_and_labels):
    maps, labels = maps_and_labels
    with pytest.raises(ValueError, match="should both be"):
        postprocessing_rows(maps, labels[:3])
    with pytest.raises(ValueError, match="no foreground"):
        postprocessing_rows(maps, torch.zeros_like(labels))
