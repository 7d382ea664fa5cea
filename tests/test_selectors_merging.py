"""ToMe's merging in YOLOS: what it leaves alone, what it must not change, and what it costs."""

from dataclasses import replace

import pytest
import torch
from test_yolos import detector, distance, pictures  # noqa: F401

from bavit_utils.config import get_profile
from bavit_utils.cost import block_multiply_adds, multiply_adds
from bavit_utils.selectors import merging
from bavit_utils.selectors.merging import MergedYolos, match, merge_schedule, merged_multiply_adds, share_for
from bavit_utils.yolos import PrunedYolos

SAMPLE = get_profile("sample")


def test_the_closest_pairs_are_matched():
    metric = torch.eye(8)[None, :, :].clone()  # all orthogonal, but two pairs
    metric[0, 2] = metric[0, 5] = torch.tensor([0, 0, 3.0, 0, 0, 0, 0, 0])  # even patch 1 and odd patch 2, the same way
    metric[0, 6] = metric[0, 1] + 0.5 * metric[0, 0]  # even patch 3, nearly odd patch 0
    source, target, others = match(metric, 2)
    assert source.tolist() == [[1, 3]] and target.tolist() == [[2, 0]] and sorted(others[0].tolist()) == [0, 2]


@torch.no_grad()
def test_merging_nothing_is_the_dense_detector_and_merging_tells(detector, pictures):  # noqa: F811
    pruned = PrunedYolos(detector).eval()
    dense = pruned(pictures)
    assert distance(MergedYolos(pruned, 0).eval()(pictures), dense) < 1e-5
    merged = MergedYolos(pruned, 0.5).eval()(pictures)
    assert merged.logits.shape == dense.logits.shape and distance(merged, dense) > 1e-3


@torch.no_grad()
def test_equal_patches_merge_without_a_trace(detector):  # noqa: F811
    """Two equal tokens weigh as one of twice the size: that is what attention in proportion to the size is for."""
    positions = detector.vit.embeddings.position_embeddings
    kept = positions.data.clone()
    count = detector.config.num_detection_tokens
    try:
        positions.data[:, 1:-count] = positions.data[:, 1:2]
        picture = torch.rand(1, 3, 1, 1).expand(1, 3, *detector.config.image_size).clone()
        pruned = PrunedYolos(detector).eval()
        assert distance(MergedYolos(pruned, 0.7).eval()(picture), pruned(picture)) < 1e-5
    finally:
        positions.data.copy_(kept)


@torch.no_grad()
def test_only_patches_are_merged_layer_by_layer(detector, pictures):  # noqa: F811
    seen = []
    hooks = [
        layer.layernorm_after.register_forward_hook(lambda *args: seen.append(args[2].shape[1]))
        for layer in detector.vit.encoder.layer
    ]
    depth, count = detector.config.num_hidden_layers, detector.config.num_detection_tokens
    patches = (pictures.shape[-2] // 16) * (pictures.shape[-1] // 16)
    MergedYolos(PrunedYolos(detector).eval(), 3 * depth / patches).eval()(pictures)
    for hook in hooks:
        hook.remove()
    assert seen == [1 + patches + count - 3 * (layer + 1) for layer in range(depth)]  # before each MLP already


def test_schedules_and_their_cost():
    assert merge_schedule(20 / 256, 6, 256) == [4, 4, 3, 3, 3, 3]
    assert merge_schedule(3, 3, 16) == [8, 4, 2]  # never more than half
    dense = multiply_adds(256, SAMPLE, None)
    assert merged_multiply_adds(0, SAMPLE) == dense
    # By hand: 56 patches go in the first of two blocks, 56 in the second, between its attention and its MLP.
    two, d, prefix = replace(SAMPLE, detector_depth=2), 192, 1 + SAMPLE.num_detection_tokens
    by_hand = multiply_adds(256, two, None) - 2 * block_multiply_adds(256 + prefix)
    for tokens in (256, 200):
        by_hand += 4 * (tokens + prefix) * d**2 + 2 * (tokens + prefix) ** 2 * d
        by_hand += 8 * (tokens + prefix - 56) * d**2 + (tokens / 2) ** 2 * 64
    assert merged_multiply_adds(112 / 256, two) == pytest.approx(by_hand)
    for wanted in (0.95, 0.8, 0.6, 0.5):
        share = share_for(wanted * dense, SAMPLE)
        assert merged_multiply_adds(share, SAMPLE) == pytest.approx(wanted * dense, rel=0.01)


def test_tokens_are_compared_by_the_keys_of_all_heads():
    query, key, value = torch.randn(3, 2, 9, 3, 64, generator=torch.Generator().manual_seed(0))
    block = merging._Merger(torch.ones(2, 9, 1), 2, 1)
    block.attend(query, key, value, 0.1, 0.0)
    torch.testing.assert_close(block.metric, key.mean(dim=2))
