"""Calibration rows against counts by hand, and intervals against what is known of them."""

import numpy as np
import pytest
import torch

from bavit_utils.annotations import IGNORE_INDEX
from bavit_utils.experiments.calibration import (
    THRESHOLDS,
    calibration_rows,
    checked_tokens,
    chosen_thresholds,
    operating_point_rows,
    reliability_rows,
    sparsity_rows,
    threshold_rows,
)
from bavit_utils.pruning import keep_mask
from bavit_utils.results import load_rows, save_rows


def drawn(n_images, seed, shift=0.0, grid=12):
    """Calibrated maps and their labels; `shift` moves the maps' logits afterwards. Pictures differ in difficulty."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 2, (n_images, grid, grid)) + rng.normal(0, 1, (n_images, 1, 1))
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return torch.from_numpy(1 / (1 + np.exp(-logits - shift))).float(), torch.from_numpy(labels)


def test_reliability_by_hand():
    maps = torch.tensor([[[0.05, 0.15, 0.12]], [[1.0, 0.95, 0.0]]])
    labels = torch.tensor([[[0, 1, 0]], [[1, 0, IGNORE_INDEX]]])
    *bins, error = reliability_rows(maps, labels, n_boot=20)
    assert [row["count"] for row in bins] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (bins[1]["predicted"], bins[1]["observed"]) == (pytest.approx(0.135), 0.5)
    assert bins[9]["observed"] == 0.5 and bins[5]["observed"] is None and bins[5]["observed_low"] is None
    assert error["ece"] == pytest.approx((0.05 + 2 * 0.365 + 2 * 0.475) / 5)
    assert error["bias"] == pytest.approx((0.05 - 0.73 + 0.95) / 5)
    assert error["n_tokens"] == 5 and error["n_images"] == 2


def test_calibrated_maps_have_no_error_and_shifted_ones_do():
    error = reliability_rows(*drawn(100, 0))[-1]
    assert error["ece"] < 0.02 and error["bias_low"] < 0 < error["bias_high"]
    shifted = reliability_rows(*drawn(100, 0, shift=1.0))[-1]
    assert shifted["ece_low"] > 0.1 and shifted["bias_low"] > 0.1  # it sees foreground that is not there
    assert shifted["ece_low"] < shifted["ece"] < shifted["ece_high"]


def test_thresholds_by_hand():
    maps, labels = drawn(6, 1)
    labels[0, :6] = IGNORE_INDEX
    rows = threshold_rows(maps, labels, n_boot=50)
    assert [row["threshold"] for row in rows] == list(THRESHOLDS) and THRESHOLDS[0] == 0.05 and THRESHOLDS[-1] == 0.99
    for row in rows:
        keep = keep_mask(maps, row["threshold"])
        assert row["sparsity"] == pytest.approx(1 - keep.double().mean().item())
        assert row["fg_recall"] == pytest.approx(keep[labels == 1].double().mean().item())
        right = (keep == (labels == 1))[labels != IGNORE_INDEX]
        assert row["accuracy"] == pytest.approx(right.double().mean().item())
        assert row["sparsity_low"] <= row["sparsity"] <= row["sparsity_high"]


def choose(maps, labels, most_lost=0.02):
    prob, _, is_fg = checked_tokens(maps, labels)
    return chosen_thresholds(prob, is_fg, np.ones((1, len(prob))), most_lost)[0]


@pytest.mark.parametrize("most_lost", [0.0, 0.02, 0.1])
def test_chosen_threshold_loses_at_most_so_much_and_prunes_most(most_lost):
    maps, labels = drawn(30, 3)
    chosen = choose(maps, labels, most_lost)

    def lost(threshold):
        return 1 - keep_mask(maps, threshold)[labels == 1].double().mean().item()

    assert lost(chosen) <= most_lost + 1e-12
    steps = 1 - np.unique(maps[labels == 1].double().numpy())
    below = steps[steps < chosen - 1e-4].max()  # the next foreground token's own threshold
    assert lost(below) > most_lost


def test_a_resample_is_the_choice_on_repeated_pictures():
    maps, labels = drawn(8, 4)
    times = np.array([0, 3, 1, 0, 2, 1, 1, 0])
    prob, _, is_fg = checked_tokens(maps, labels)
    repeated = [part.repeat_interleave(torch.from_numpy(times), dim=0) for part in (maps, labels)]
    assert chosen_thresholds(prob, is_fg, times[None])[0] == choose(*repeated)


def test_operating_point_is_chosen_on_dev_and_measured_on_both():
    dev, held_out = drawn(60, 5), drawn(80, 6, shift=-1)
    of_dev, of_held_out = operating_point_rows(*dev, *held_out, n_boot=100)
    assert of_dev["threshold"] == of_held_out["threshold"] == choose(*dev)
    assert of_dev["fg_recall"] >= 0.98 > of_held_out["fg_recall"]  # the held-out maps are of another BAViT
    assert of_dev["threshold_low"] <= of_dev["threshold"] <= of_dev["threshold_high"]
    assert (of_dev["split"], of_dev["n_images"]) == ("dev", 60)
    assert (of_held_out["split"], of_held_out["n_images"]) == ("held-out", 80)
    keep = keep_mask(held_out[0], of_held_out["threshold"]) & (held_out[1] == 1)
    own = keep.flatten(1).sum(1) / (held_out[1] == 1).flatten(1).sum(1)
    assert of_held_out["pictures_short"] == pytest.approx((own < 0.98).double().mean().item())


def test_sparsity_of_pictures_by_hand():
    maps = torch.tensor([0.0, 0.0, 0.0, 0.9] * 3 + [0.9, 0.9, 0.0, 0.9]).view(4, 2, 2)
    labels = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1], [IGNORE_INDEX] * 4, [0, IGNORE_INDEX, 1, 1]]).view(4, 2, 2)
    truth, at_half = sparsity_rows(maps, labels, [0.5], n_boot=50)
    assert truth["of"] == "labels" and truth["threshold"] is None
    assert truth["n_images"] == 3 and truth["mean"] == pytest.approx((0.75 + 0.5 + 1 / 3) / 3)
    assert at_half["n_images"] == 4 and at_half["mean"] == pytest.approx((3 * 0.75 + 0.25) / 4)
    assert (truth["above_70"], at_half["above_70"]) == (pytest.approx(1 / 3), 0.75)
    assert at_half["q50"] == 0.75 and at_half["histogram"][15] == 3 and sum(at_half["histogram"]) == 4


def test_all_rows_can_be_stored_and_read_by_kind(tmp_path):
    rows = calibration_rows(*drawn(20, 7), *drawn(30, 8), n_boot=50)
    save_rows("calibration-sample", "a-run", rows, {}, tmp_path)
    read = {kind: load_rows("calibration-sample", tmp_path, kind=kind) for kind in {row["kind"] for row in rows}}
    counts = {"reliability": 10, "calibration-error": 1, "threshold": 23, "operating-point": 2}
    assert {kind: len(frame) for kind, frame in read.items()} == counts | {"sparsity-of-pictures": 3}
    chosen = read["operating-point"].threshold[0]
    assert read["sparsity-of-pictures"].threshold.tolist()[1:] == [0.5, chosen]
    assert read["operating-point"].most_lost.tolist() == [0.02, 0.02]


def test_unfit_input_is_refused():
    maps, labels = drawn(4, 10)
    with pytest.raises(ValueError, match="no foreground"):
        sparsity_rows(maps, torch.zeros_like(labels), [0.5])
    with pytest.raises(ValueError, match="should both be"):
        threshold_rows(maps, labels[:3])


def test_the_error_of_calibrated_maps_is_corrected_for_what_resampling_adds():
    """Resamples have larger absolute errors than the pictures they are of: the interval lies below the estimate."""
    error = reliability_rows(*drawn(100, 0))[-1]
    assert 0 <= error["ece_low"] < error["ece"] and (error["ece_low"] + error["ece_high"]) / 2 < error["ece"]
