"""The speed figures draw what is stored: break-even, the wrong ways, and AP at the speed of its sparsity."""

import numpy as np
import pandas as pd
import pytest

from bavit_utils import speed_plots

ROWS = pd.DataFrame(
    [
        {"batch": batch, "method": method, "sparsity": sparsity, "speedup": speedup, "mac_speedup": 1.5,
         "median_ms": batch * 100 / speedup, "q25_ms": batch * 90 / speedup, "q75_ms": batch * 110 / speedup}
        for batch in (1, 8)
        for method, sparsity, speedup in (
            ("dense", 0.0, 1.0), ("transformers", 0.0, 0.9), ("gather", 0.0, 0.9), ("gather", 0.1, 1.1),
            ("gather", 0.5, 2.0), ("mask", 0.5, 0.8), ("pad", 0.5, 1.05),
        )
    ]
)  # fmt: skip


def test_break_even_lies_between_the_measured_sparsities():
    assert speed_plots.break_even(ROWS, 1) == pytest.approx(0.05)
    assert np.isnan(speed_plots.break_even(ROWS.assign(speedup=0.5), 8))
    assert speed_plots.break_even(ROWS.assign(speedup=1.5), 8) == 0


def test_pictures_a_second_are_interpolated_in_time():
    found = speed_plots.images_per_s(ROWS, 8, np.array([0.1, 0.3, 0.5]))
    assert found[0] == pytest.approx(11) and found[2] == pytest.approx(20)
    assert found[1] == pytest.approx(1000 / np.mean([100 / 1.1, 50]))
    assert speed_plots.dense_images_per_s(ROWS, 8) == pytest.approx(10)


def test_the_band_of_the_quicker_batch_is_not_cut_off():
    quick = ROWS.assign(q25_ms=ROWS["q25_ms"].where(ROWS["batch"] == 1, ROWS["q25_ms"] / 2))
    fig = speed_plots.speed_figure(quick)
    for ax in fig.axes:
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert ax.get_ylim()[0] == 0.5 and ax.get_ylim()[1] > band.max()


def test_the_speed_figure_has_a_panel_a_batch_size_with_both_wrong_ways():
    fig = speed_plots.speed_figure(ROWS)
    assert [ax.get_title() for ax in fig.axes] == ["batch 1: breaks even at 5%", "batch 8: breaks even at 5%"]
    for ax in fig.axes:
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        assert drawn["measured"] == pytest.approx([0.9, 1.1, 2.0])
        assert drawn["masked, not gathered"] == pytest.approx([0.8])
        assert drawn["padded to the longest"] == pytest.approx([1.05])


def test_ap_is_drawn_at_the_speed_of_its_sparsity():
    curve = pd.DataFrame({"sparsity_reached": [0.5, 0.1], "AP": [0.3, 0.4], "delta_AP": [-0.11, -0.01]})
    fig = speed_plots.ap_speed_figure({"BAViT-small": curve}, ROWS)
    line, star = fig.axes[1].lines
    assert line.get_xdata() == pytest.approx([11, 20]) and line.get_ydata() == pytest.approx([40, 30])
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((10, 41))


def test_the_papers_rows_stand_at_the_speeds_of_its_sizes():
    curve = pd.DataFrame({"sparsity_reached": [0.5, 0.1], "AP": [0.3, 0.4], "delta_AP": [-0.11, -0.01]})
    at_paper_sizes = ROWS[ROWS["batch"] == 1].assign(median_ms=lambda t: t["median_ms"] ** 1.5)
    first, second = speed_plots.drop_speed_figure({"BAViT-small": curve}, ROWS, at_paper_sizes).axes
    paper, ours = first.lines[:2]
    assert ours.get_xdata() == pytest.approx([1.1, 2.0]) and ours.get_ydata() == pytest.approx([-1, -11])
    dense_row = np.argmax(paper.get_ydata())
    assert paper.get_xdata()[dense_row] == pytest.approx(0.9**1.5) and paper.get_ydata()[dense_row] == 0
    assert len(second.lines) == 2  # its curve and the line at 1: no time at the paper's sizes for this batch
