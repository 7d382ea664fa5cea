"""Sparse DETR's and Focus DETR's scoring: labels and targets by hand, gradients, files."""

import pytest
import torch
from test_yolos import detector, pictures  # noqa: F401

from bavit_utils.selectors.heads import (
    SELECTORS,
    FocusDetrSelector,
    SparseDetrSelector,
    attention_map,
    focus_targets,
    head_multiply_adds,
    head_scores,
    load_selector,
    patch_grid,
)
from bavit_utils.weights import save_weights
from bavit_utils.yolos import PrunedYolos


@torch.no_grad()
def test_the_attention_map_is_the_librarys_attention(detector, pictures):  # noqa: F811
    """The library's own attention weights, by its eager implementation, summed over queries, heads and blocks."""
    implementation = detector.config._attn_implementation
    count, grid = detector.config.num_detection_tokens, [side // 16 for side in pictures.shape[-2:]]
    try:
        detector.set_attn_implementation("eager")
        weights = detector(pictures, output_attentions=True).attentions
    finally:
        detector.set_attn_implementation(implementation)
    expected = sum(layer[:, :, -count:, 1:-count].sum(dim=(1, 2)) for layer in weights).unflatten(1, grid)
    found = attention_map(PrunedYolos(detector).eval(), pictures)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    depth, heads = detector.config.num_hidden_layers, detector.config.num_attention_heads
    assert (found.flatten(1).sum(1) < depth * heads * count).all()  # what is left goes to class and detection tokens
    assert not torch.allclose(found, attention_map(PrunedYolos(detector).eval(), pictures.flip(-1)))


def test_focus_labels_by_hand():
    """A box over the middle half: the finest scale labels what is near its centre, the coarse ones what is far."""
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    fine, middle, coarse = focus_targets(boxes, [(16, 16), (8, 8), (4, 4)])
    expected = torch.zeros(16, 16)
    expected[6:10, 6:10] = 1  # distances 1/32 and 3/32, at most 1/8
    assert torch.equal(fine, expected)
    expected = torch.zeros(8, 8)
    expected[2:6, 2:6] = 1  # 1/16 and 3/16, both in [1/16, 1/4]
    assert torch.equal(middle, expected)
    expected = torch.zeros(4, 4)
    expected[1:3, 1:3] = 1  # 1/8, just far enough
    assert torch.equal(coarse, expected)
    assert all(level.sum() == 0 for level in focus_targets(torch.zeros(0, 4), [(16, 16), (8, 8), (4, 4)]))


def test_sparse_target_is_the_best_half_of_each_picture():
    attention = torch.arange(32.0).view(2, 4, 4) * torch.tensor([1.0, -1.0]).view(2, 1, 1)
    right = torch.full((2, 4, 4), -20.0)
    right[0, 2:], right[1, :2] = 20.0, 20.0
    selector = SparseDetrSelector()
    assert selector.loss([right], attention) < 1e-6
    assert selector.loss([-right], attention) > 10


@pytest.mark.parametrize("name", SELECTORS)
def test_a_head_learns_and_gives_scores_of_each_patch(detector, pictures, name):  # noqa: F811
    torch.manual_seed(0)
    pruned, selector = PrunedYolos(detector).eval(), SELECTORS[name]()
    grid = patch_grid(pruned, pictures).detach()
    boxes = [torch.tensor([[0.3, 0.5, 0.4, 0.6]])] * len(pictures)
    target = attention_map(pruned, pictures) if name == "sparse-detr" else boxes
    optimizer, losses = torch.optim.Adam(selector.parameters(), 3e-3), []
    for _ in range(60):
        loss = selector.loss(selector(grid), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in selector.parameters())
    assert losses[-1] < 0.7 * losses[0]
    scores = head_scores(selector, pruned, pictures)
    assert scores.shape == grid.shape[:3] and scores.min() < 0 < scores.max()


def test_scores_are_modulated_from_the_top_down():
    torch.manual_seed(0)
    selector, grid = FocusDetrSelector(), torch.randn(1, 8, 8, 192)
    fine, middle, coarse = selector(grid)
    assert (fine.shape, middle.shape, coarse.shape) == ((1, 8, 8), (1, 4, 4), (1, 2, 2))
    with torch.no_grad():
        selector.alpha.zero_()
    alone = selector(grid)
    assert torch.equal(alone[2], coarse) and not torch.equal(alone[1], middle) and not torch.equal(alone[0], fine)


def test_files_know_their_detector(tmp_path):
    selector = SparseDetrSelector()
    metadata = {"model": "sparse-detr", "detector": "abc"}
    path = save_weights(tmp_path / "head.safetensors", selector.state_dict(), metadata)
    loaded = load_selector("sparse-detr", path, "abc")
    x = torch.randn(1, 4, 4, 192)
    torch.testing.assert_close(loaded(x)[0], selector(x)[0], rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="of the detector abc, not of def.*train-selector sparse-detr"):
        load_selector("sparse-detr", path, "def")
    with pytest.raises(ValueError, match="not a focus-detr checkpoint"):
        load_selector("focus-detr", path, "abc")


def test_the_cost_counts_every_linear_layer():
    network = 192 * 192 + 192 * 96 + 96 * 48 + 48  # the picture's shared half is no work of its own
    for name, tokens in (("sparse-detr", 256), ("focus-detr", 256 + 64 + 16)):
        assert head_multiply_adds(name, 256) == 256 * 768 * 192 + tokens * network
