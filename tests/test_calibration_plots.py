"""Each panel draws the rows that it is given, and says so where there are none."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from bavit_utils import calibration_plots
from bavit_utils.experiments.calibration import calibration_rows
from bavit_utils.experiments.postprocessing import papers_setting, postprocessing_rows
from bavit_utils.results import NOT_RUN


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def pictures():
    maps = torch.rand(12, 6, 6, generator=torch.Generator().manual_seed(0))
    return maps, (maps + 0.3 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)) > 0.6).long()


@pytest.fixture(scope="module")
def calibration(pictures):
    return {"here": pd.DataFrame(calibration_rows(*pictures, *pictures, n_boot=20)), "there": pd.DataFrame()}


def points(line):
    return np.column_stack(line.get_data()).astype(float)


def says(ax):
    return [text.get_text() for text in ax.texts]


def test_reliability_draws_bins_and_the_error(calibration):
    here, there = calibration_plots.reliability_figure(calibration).axes
    bins = calibration["here"].query("kind == 'reliability'")
    np.testing.assert_allclose(points(here.containers[-1].lines[0]), bins[["predicted", "observed"]])
    assert sum(bar.get_height() for bar in here.patches) == pytest.approx(1)
    ece = calibration["here"].query("kind == 'calibration-error'").ece.iloc[0]
    assert here.get_title() == f"here: error {100 * ece:.1f} %"
    assert says(there) == [NOT_RUN] and says(here) == []


def test_threshold_curves_mark_the_chosen_threshold(calibration):
    here, there = calibration_plots.threshold_curves(calibration).axes
    rows = calibration["here"]
    curve = rows[rows.kind == "threshold"]
    point = rows[rows.split == "held-out"].iloc[0]
    np.testing.assert_allclose(points(here.lines[0]), curve[["threshold", "sparsity"]])
    np.testing.assert_allclose(points(here.lines[2]), curve[["threshold", "fg_recall"]])
    np.testing.assert_allclose(points(here.lines[3]), [[point.threshold, point.fg_recall]])
    assert here.get_title() == f"here: set to {point.threshold:.3f}" and says(there) == [NOT_RUN]


def test_sparsity_of_pictures_draws_shares(calibration):
    here, there = calibration_plots.sparsity_of_pictures(calibration).axes
    stairs = [patch.get_data().values for patch in here.patches]
    assert len(stairs) == 3
    stored = calibration["here"].query("kind == 'sparsity-of-pictures'")
    for drawn, row in zip(stairs, stored.itertuples(), strict=True):
        np.testing.assert_allclose(drawn, np.array(row.histogram) / 12)
    assert says(there) == [NOT_RUN] and not there.lines


def test_postprocessing_draws_fills_over_the_moved_threshold(pictures):
    frame = pd.DataFrame(postprocessing_rows(*pictures, n_boot=20))
    axes = np.array(calibration_plots.postprocessing_figure({"here": frame, "there": pd.DataFrame()}).axes).reshape(
        3, 2
    )
    recall, _, difference = axes[:, 0]
    assert len(recall.lines) == 1 + 8 + 1
    alone = frame.sort_values("sparsity")
    np.testing.assert_allclose(points(recall.lines[0]), alone[["sparsity", "fg_recall_alone"]])
    paper = papers_setting(frame)
    np.testing.assert_allclose(points(recall.lines[-1]), paper[["sparsity", "fg_recall"]])
    np.testing.assert_allclose(points(difference.lines[-1]), paper[["sparsity", "delta_fg_recall"]])
    assert [says(ax) for ax in axes[:, 1]] == [[NOT_RUN]] * 3
