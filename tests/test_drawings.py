"""The drawings show what the code computes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from bavit_utils import drawings
from bavit_utils.figures import BLUE, FG_COLOUR, TEXT_WIDTH
from bavit_utils.pruning import resize_grid


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(fig):
    return " ".join(text.get_text() for text in fig.axes[0].texts).replace("\n", " ")


def cells(fig, colour):
    patches = [patch for patch in fig.axes[0].patches if isinstance(patch, Rectangle)]
    return sum(to_hex(patch.get_facecolor()).upper() == colour.upper() for patch in patches)


def test_drawn_foreground_covers_the_boat_and_not_the_sun():
    keep = drawings._foreground(6)
    assert keep[2:5, 2:4].all()
    assert not keep[0, :2].any() and not keep[:, 0].any() and not keep[5].any()


def test_bavit_has_two_blocks_two_outputs_and_no_class_token():
    said = texts(drawings.draw_bavit())
    for part in ("block 1", "block 2", "linear embedding", "+ positions", "linear head 192 → 2", "no class token"):
        assert part in said
    assert "block 3" not in said


def test_bavit_yolos_draws_the_map_on_both_grids():
    fig = drawings.draw_bavit_yolos()
    coarse = drawings._foreground(6)
    fine = resize_grid(torch.from_numpy(coarse)[None], (8, 8))
    assert cells(fig, FG_COLOUR) == coarse.sum() + fine.sum().item()
    for part in ("class token", "100 detection tokens", "layer 12", "zeros for pruned patches", "24 × 24", "32 × 32"):
        assert part in texts(fig)


def test_kernel_writes_each_count_and_turns_those_above_two():
    fig = drawings.draw_kernel()
    example = np.pad(np.array(drawings._EXAMPLE), 1)
    around = np.array([[example[r:r + 3, c:c + 3].sum() for c in range(7)] for r in range(6)])
    background = np.array(drawings._EXAMPLE) == 0
    written = [text for text in fig.axes[0].texts if text.get_text().isdigit()]
    counts = [text for text in written if text.get_position()[0] > 42]
    assert sorted(int(text.get_text()) for text in counts) == sorted(around[background])
    assert cells(fig, BLUE) == (around[background] > 2).sum() > 0
    assert sum(text.get_weight() == "bold" for text in counts) == cells(fig, BLUE)


@pytest.mark.parametrize("draw", [drawings.draw_bavit, drawings.draw_bavit_yolos, drawings.draw_kernel])
def test_drawings_are_legible_at_the_width_of_a_page_and_lie_within_it(draw):
    fig = draw()
    assert fig.get_figwidth() == TEXT_WIDTH
    width, height = fig.canvas.get_width_height()
    for text in fig.axes[0].texts:
        box = text.get_window_extent()
        assert text.get_fontsize() >= 6
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, text.get_text()
