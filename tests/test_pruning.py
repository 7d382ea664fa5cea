"""Pruning: threshold, neighbour fill, grid steps, and the gather with its way back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bavit_utils.pruning import (
    detector_keep,
    fill_neighbours,
    gather_tokens,
    keep_mask,
    resize_grid,
    spare_some,
    sparsity,
    threshold_for_sparsity,
)

seeds = st.integers(0, 2**31)
MODES = ("nearest", "bilinear", "any")


def random_probabilities(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_keep_mask_keeps_from_one_minus_threshold_on():
    fg_prob = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    assert keep_mask(fg_prob, 0.75).tolist() == [[[False, True], [True, True]]]
    assert keep_mask(fg_prob, 0.0).tolist() == [[[False, False], [False, True]]]
    assert keep_mask(fg_prob, 1.0).all()


@given(seeds, st.floats(0, 1), st.floats(0, 1), st.sampled_from(MODES), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_a_higher_threshold_keeps_more(seed, one, other, mode, steps):
    fg_prob = random_probabilities(seed, 2, 6, 6)
    fewer, more = (detector_keep(fg_prob, t, (8, 8), steps, mode) for t in sorted((one, other)))
    assert (more | ~fewer).all()


def fill_slowly(keep: torch.Tensor, more_than: int, offsets: list[tuple[int, int]]) -> torch.Tensor:
    rows, cols = keep.shape
    out = keep.clone()
    for r in range(rows):
        for c in range(cols):
            inside = [(r + i, c + j) for i, j in offsets if 0 <= r + i < rows and 0 <= c + j < cols]
            out[r, c] |= sum(keep[cell].item() for cell in inside) > more_than
    return out


@given(seeds, st.integers(0, 4), st.integers(0, 3), st.sampled_from((4, 8)))
@settings(deadline=None, max_examples=40)
def test_fill_equals_counting_by_hand(seed, more_than, steps, neighbours):
    keep = random_probabilities(seed, 2, 5, 7) < 0.4
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    offsets = [o for o in around if neighbours == 8 or 0 in o]
    expected = keep
    for _ in range(steps):
        expected = torch.stack([fill_slowly(grid, more_than, offsets) for grid in expected])
    assert torch.equal(fill_neighbours(keep, steps, more_than, neighbours), expected)


@given(seeds, st.integers(0, 4), st.sampled_from((4, 8)))
@settings(deadline=None, max_examples=40)
def test_fill_never_removes_foreground_and_zero_steps_is_the_identity(seed, steps, neighbours):
    keep = random_probabilities(seed, 1, 8, 8) < 0.3
    filled = fill_neighbours(keep, steps, neighbours=neighbours)
    assert (filled | ~keep).all()
    assert torch.equal(fill_neighbours(keep, 0, neighbours=neighbours), keep)
    assert (fill_neighbours(keep, steps + 1, neighbours=neighbours) | ~filled).all()


def test_fill_converts_at_three_neighbours_not_at_two():
    keep = torch.zeros(1, 3, 3, dtype=torch.bool)
    keep[0, 0, :2] = True
    assert not fill_neighbours(keep, 1)[0, 1, 1]
    keep[0, 0, 2] = True
    assert fill_neighbours(keep, 1)[0, 1, 1]
    assert not fill_neighbours(keep, 1, neighbours=4)[0, 1, 1]


def test_fill_knows_four_and_eight_only():
    with pytest.raises(ValueError, match="8 or 4"):
        fill_neighbours(torch.ones(1, 2, 2, dtype=torch.bool), 1, neighbours=6)


def test_nearest_24_to_32_copies_the_cell_of_the_targets_centre():
    source = torch.arange(24).view(1, 1, 24).expand(1, 24, 24)
    resized = resize_grid(source, (32, 32))
    assert resized[0, 0, :8].tolist() == [0, 1, 1, 2, 3, 4, 4, 5]
    assert resized[0, 0].tolist() == [int((target + 0.5) * 24 / 32) for target in range(32)]
    assert torch.equal(resized[:, 5], resized[:, 0])
    # Cells are copied once, twice or four times, and flipping before or after is the same.
    counts = torch.bincount(resize_grid(torch.arange(576).view(1, 24, 24), (32, 32)).flatten())
    assert sorted(set(counts.tolist())) == [1, 2, 4] and len(counts) == 576
    assert torch.equal(resize_grid(source.flip(2), (32, 32)), resized.flip(2))


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_any_keeps_a_cell_when_an_overlapping_source_cell_is_kept(seed, rows, cols, new_rows, new_cols):
    keep = random_probabilities(seed, 1, rows, cols) < 0.3

    def overlapping(target, old, new):  # in units of 1 / (old * new)
        return [s for s in range(old) if s * new < (target + 1) * old and (s + 1) * new > target * old]

    expected = [
        [
            any(keep[0, r, c] for r in overlapping(i, rows, new_rows) for c in overlapping(j, cols, new_cols))
            for j in range(new_cols)
        ]
        for i in range(new_rows)
    ]
    resized = resize_grid(keep, (new_rows, new_cols), "any")
    assert resized.dtype == torch.bool and resized[0].tolist() == expected


def test_any_takes_the_largest_probability_that_a_cell_overlaps():
    maps = torch.tensor([[[0.2, 0.8, 0.1], [0.3, 0.4, 0.5]]])
    torch.testing.assert_close(resize_grid(maps, (1, 2), "any"), torch.tensor([[[0.8, 0.8]]]))


@pytest.mark.parametrize("mode", MODES)
def test_resizing_to_the_same_grid_changes_nothing_and_keeps_the_type(mode):
    fg_prob = random_probabilities(0, 2, 6, 5)
    torch.testing.assert_close(resize_grid(fg_prob, (6, 5), mode), fg_prob)
    if mode != "bilinear":
        assert torch.equal(resize_grid(fg_prob > 0.5, (6, 5), mode), fg_prob > 0.5)


def test_resize_refuses_booleans_for_bilinear_and_unknown_modes():
    with pytest.raises(ValueError, match="before the threshold"):
        resize_grid(torch.ones(1, 2, 2, dtype=torch.bool), (3, 3), "bilinear")
    with pytest.raises(ValueError, match="nearest, bilinear or any"):
        resize_grid(torch.ones(1, 2, 2), (3, 3), "cubic")


def test_detector_keep_orders_its_steps_by_mode():
    fg_prob = random_probabilities(3, 2, 24, 24)
    filled = fill_neighbours(fg_prob >= 0.7, 2)
    for mode in ("nearest", "any"):
        assert torch.equal(detector_keep(fg_prob, 0.3, (32, 32), 2, mode), resize_grid(filled, (32, 32), mode))
    smooth = resize_grid(fg_prob, (32, 32), "bilinear")
    assert torch.equal(detector_keep(fg_prob, 0.3, (32, 32), 2, "bilinear"), fill_neighbours(smooth >= 0.7, 2))
    resized_first = fill_neighbours(resize_grid(fg_prob, (32, 32)) >= 0.7, 2)
    assert not torch.equal(detector_keep(fg_prob, 0.3, (32, 32), 2), resized_first)


def test_sparsity_is_the_pruned_share_of_each_image():
    keep = torch.tensor([[[True, False], [False, False]], [[True, True], [True, True]]])
    assert sparsity(keep).tolist() == [0.75, 0.0]
    assert sparsity(keep.flatten(1)).tolist() == [0.75, 0.0]


@given(seeds, st.floats(0, 1), st.sampled_from(MODES), st.integers(0, 2), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_threshold_for_sparsity_is_the_best_of_all_thresholds(seed, target, mode, steps, levels):
    fg_prob = random_probabilities(seed, 3, 4, 4)
    fg_prob = (fg_prob * levels).round() / levels if levels < 12 else fg_prob  # with and without ties
    found = threshold_for_sparsity(fg_prob, target, (5, 5), steps, mode)

    def distance(threshold):
        return abs(sparsity(detector_keep(fg_prob, threshold, (5, 5), steps, mode)).mean().item() - target)

    observed = resize_grid(fg_prob, (5, 5), mode) if mode == "bilinear" else fg_prob
    assert distance(found) == min(distance(1 - p) for p in observed.flatten().tolist())


@given(seeds, st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_gather_packs_image_after_image_and_restore_fills_zeros(seed, batch, rows, cols):
    keep = random_probabilities(seed, batch, rows, cols) < 0.5
    x = random_probabilities(seed + 1, batch, rows * cols, 3) + 1
    packed, lengths, restore = gather_tokens(x, keep)
    assert lengths.tolist() == keep.flatten(1).sum(1).tolist()
    assert torch.equal(packed, torch.cat([tokens[kept] for tokens, kept in zip(x, keep.flatten(1), strict=True)]))
    assert torch.equal(restore(packed), x * keep.flatten(1)[..., None])
    assert torch.equal(gather_tokens(x, keep.flatten(1))[0], packed)
    assert restore(packed[:, :1]).shape == (batch, rows * cols, 1)


def test_gather_passes_gradients_to_the_kept_tokens_only():
    x = torch.randn(2, 6, 4, requires_grad=True)
    keep = torch.tensor([[True, False, True, False, False, True], [False] * 6])
    packed, _, restore = gather_tokens(x, keep)
    restore(packed * 3).sum().backward()
    assert torch.equal(x.grad, 3.0 * keep[..., None].expand(2, 6, 4))


def test_gather_refuses_a_mask_of_another_shape():
    with pytest.raises(ValueError, match="4"):
        gather_tokens(torch.zeros(1, 5, 2), torch.ones(1, 2, 2, dtype=torch.bool))


def test_spared_patches_stay_at_every_threshold():
    maps = torch.rand(4, 40, 40)
    spared = spare_some(maps, 0.25, seed=3)
    kept = keep_mask(spared, 0.0)
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(spared[~kept], maps[~kept]) and torch.equal(spared, spare_some(maps, 0.25, seed=3))
    assert not torch.equal(spared, spare_some(maps, 0.25, seed=4))


def test_a_probability_at_the_threshold_stays():
    assert keep_mask(torch.tensor([0.25, 0.5, 0.75]), 0.5).tolist() == [False, True, True]
    assert keep_mask(torch.tensor([0.25, 0.24]), 0.75).tolist() == [True, False]
