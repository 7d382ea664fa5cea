"""Each plot draws the numbers that it is given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from bavit_utils import plots
from bavit_utils.paper import PAPER


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def lines(ax):
    return {line.get_label(): np.column_stack(line.get_data()).astype(float) for line in ax.lines}


def sweep_rows(slope):
    sparsity = np.array([0.0, 0.2, 0.4])
    return pd.DataFrame({
        "sparsity": sparsity, "sparsity_reached": sparsity + 0.01, "gmacs": 1.1 - sparsity,
        "delta_AP": -slope * sparsity, "delta_low": -slope * sparsity - 0.01,
        "delta_high": -slope * sparsity + 0.01,
    })


def test_training_curves_count_epochs_from_the_first_evaluation():
    rows = pd.DataFrame({
        "run": "bavit-small", "step": [5, 10, 10, 15, 20, 20], "loss": [0.5, 0.4, None, 0.3, 0.2, None],
        "metric": [None, None, 0.8, None, None, 0.9],
    })
    loss, metric = plots.training_curves(rows, "token accuracy").axes
    np.testing.assert_allclose(lines(metric)["bavit-small"], [[1, 0.8], [2, 0.9]])
    np.testing.assert_allclose(lines(loss)["bavit-small"][:, 0], [0.5, 1, 1.5, 2])
    assert metric.get_ylabel() == "token accuracy"


@pytest.mark.parametrize(("epochs", "scale"), [(4, "linear"), (30, "log")])
def test_long_trainings_are_drawn_by_the_logarithm_of_the_epoch(epochs, scale):
    steps = [5 * epoch for epoch in range(1, epochs + 1)]
    rows = pd.DataFrame({"run": "one", "step": steps, "loss": 0.5, "metric": 0.8})
    assert {ax.get_xscale() for ax in plots.training_curves(rows).axes} == {scale}


def test_seeds_of_one_training_share_colour_and_name():
    runs = [f"{name}-seed{seed}" for name in ("small", "large") for seed in (0, 1)]
    rows = pd.DataFrame([{"run": run, "step": 5, "loss": 0.5, "metric": 0.8} for run in runs])
    metric = plots.training_curves(rows).axes[1]
    colours = [line.get_color() for line in metric.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_label() for line in metric.lines[::2]] == ["small", "large"]


def test_sweep_figure_has_the_paper_and_every_selector_in_points():
    curves = {"bavit-small": sweep_rows(0.1), "random": sweep_rows(0.3)}
    fig = plots.sweep_figure(curves, dense_gmacs=1.0, dense_ap=0.412)
    left, right = map(lines, fig.axes)
    paper = left["paper, COCO (dense 28.8)"]
    np.testing.assert_allclose(paper[0], [0.46, -8.8])
    assert len(paper) == len(PAPER.table2) - 1  # without the fine-tuned row
    np.testing.assert_allclose(left["BAViT-small (dense 41.2)"], [[0.01, 0], [0.21, -2], [0.41, -4]], atol=1e-9)
    np.testing.assert_allclose(right["random choice"][:, 0], [-0.1, 0.1, 0.3], atol=1e-9)
    assert len(fig.axes[0].collections) == 1  # BAViT's band alone


def test_papers_multiply_adds_count_bavit():
    right = lines(plots.sweep_figure({"bavit-small": sweep_rows(0.1)}, 1.0, 0.4).axes[1])
    saved = right["paper, COCO (dense 28.8)"][:, 0]
    assert saved[-1] == pytest.approx(-0.85 / 11.97, abs=0.002)  # nothing pruned: BAViT is added cost
    assert 0.2 < saved[7] < 0.3  # 29 %


def test_threshold_figure_draws_both_shares_by_threshold():
    rows = pd.DataFrame({"threshold": [0.9, 0.5], "sparsity": [0.3, 0.6], "fg_recall": [0.95, 0.8]})
    drawn = lines(plots.threshold_figure(rows).axes[0])
    np.testing.assert_allclose(drawn["patches pruned"], [[0.5, 0.6], [0.9, 0.3]])
    np.testing.assert_allclose(drawn["foreground kept"], [[0.5, 0.8], [0.9, 0.95]])


def test_token_arithmetic_writes_table_twos_reductions():
    ax = plots.token_arithmetic().axes[0]
    assert {text.get_text() for text in ax.texts} >= {"-36.63 %", "-25.63 %", "+9.38 %"}
    assert len(ax.texts) == 11


def test_sparsity_histogram_counts_every_picture():
    fig = plots.sparsity_histogram({"threshold 0.5": [0.1, 0.72, 0.74, 1.0], "0.9": [0.0, 0.1, 0.2, 0.3]})
    assert [sum(bar.get_height() for bar in ax.patches) for ax in fig.axes] == [4, 4]
    assert fig.axes[0].patches[14].get_height() == 2


def test_copies_are_once_twice_and_four_times():
    counts = plots.copies(24, 32)
    assert counts.sum() == 1024 and counts.shape == (24, 24)
    assert np.bincount(counts.ravel()).tolist() == [0, 256, 256, 0, 64]
    assert len(plots.copies_figure(12, 16).axes[0].texts) == 144


def test_resize_comparison_says_what_each_way_keeps():
    prob = np.zeros((12, 12), dtype=np.float32)
    prob[3:6, 3:6] = 1
    fig = plots.resize_comparison(np.zeros((64, 64, 3), np.uint8), prob, (16, 16), 0.5)
    titles = [ax.get_title() for ax in fig.axes]
    assert [title.split("\n")[0].split(",")[0] for title in titles] == ["BAViT's 12×12", "nearest", "bilinear", "any"]
    assert titles[0].endswith("6% kept")


def test_pruned_detections_draws_sure_boxes_only():
    found = {"scores": torch.tensor([0.9, 0.2]), "labels": torch.tensor([1, 0])}
    found["boxes"] = torch.tensor([[1.0, 2, 9, 8]] * 2)
    keeps, image = [np.ones((4, 4), bool)] * 2, np.zeros((16, 16, 3), np.uint8)
    fig = plots.pruned_detections(image, keeps, [found] * 2, ["cat", "dog"], ["a", "b"])
    assert [[text.get_text() for text in ax.texts] for ax in fig.axes] == [["dog"], ["dog"]]
