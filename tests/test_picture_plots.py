"""What the picture figures paint, and what they say of it."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from bavit_utils import figures, picture_plots

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def image():
    return np.full((60, 90, 3), 100, dtype=np.uint8)


def painted(ax, row: int, col: int):
    """The colour RGBA that the grid laid last over a picture has in one cell."""
    return ax.images[-1].get_array()[row, col]


def test_figure2_has_three_rows_and_shades_the_objects(image):
    mask = np.zeros((60, 90), dtype=np.uint8)
    mask[:30], mask[59] = 7, 255
    fig = picture_plots.figure2([image] * 2, [mask] * 2, [np.zeros((2, 3))] * 2)
    assert len(fig.axes) == 6
    shade = fig.axes[2].images[-1].get_array()
    np.testing.assert_allclose(shade[0, 0, :3], to_rgb(figures.FG_COLOUR))
    np.testing.assert_allclose(shade[40, 0, :3], 0)
    np.testing.assert_allclose(shade[59, 0, :3], 1)


def test_figure4_tells_the_sparsity(image):
    less = np.array([[True, False], [False, False]])
    fig = picture_plots.figure4([image], {"small": [less], "large": [~less]})
    assert [ax.texts[-1].get_text() for ax in fig.axes[1:]] == ["75% sparsity", "25% sparsity"]
    assert [ax.texts[0].get_text() for ax in fig.axes[1:]] == ["small", "large"]


def test_compare_grids_counts_foreground_only(image):
    grid = np.array([[1, 0], [-100, 0]])
    fig = picture_plots.compare_grids([image], {"mask": [grid], "box": [grid == 0]}, boxes=[np.array([[1, 2, 30, 40]])])
    assert [ax.get_title() for ax in fig.axes] == ["", "25% FG", "50% FG"]
    assert [ax.texts[0].get_text() for ax in fig.axes[1:]] == ["mask", "box"]
    assert fig.axes[0].patches[0].get_bbox().bounds == (1, 2, 29, 38)


def test_figure6_marks_both_mistakes(image):
    truth = np.array([[True, True, False, False]])
    predicted = np.array([[True, False, True, False]])
    fig = picture_plots.figure6(image, truth, predicted, predicted | truth, steps=1)
    marked = fig.axes[1].images[-1].get_array()
    np.testing.assert_allclose(marked[0, 1, :3], to_rgb(figures.MISSED_COLOUR))
    np.testing.assert_allclose(marked[0, 2, :3], to_rgb(figures.FALSE_COLOUR))
    assert marked[0, 0, 3] == marked[0, 3, 3] == 0 and painted(fig.axes[2], 0, 1)[3] == 0
    assert fig.axes[2].get_title() == "after 1 step"


def test_contact_sheet_leaves_the_last_cells_empty(image):
    fig = picture_plots.contact_sheet([image] * 4, columns=3, boxes=[np.array([[0, 0, 9, 9]])] * 4, names=[["cup"]] * 4)
    assert [len(ax.images) for ax in fig.axes] == [1, 1, 1, 1, 0, 0]
    assert fig.axes[0].texts[0].get_text() == "cup"


def test_literal_jaccard_crosses_tau_at_22_6_pixels():
    curve = picture_plots.literal_jaccard(0.5).axes[0].lines[1]
    sides, values = curve.get_data()
    assert sides[np.argmax(values < 0.5)] == pytest.approx(22.6, abs=0.5)
    assert values[np.argmin(abs(sides - 32))] == pytest.approx(0.25, abs=0.01)
