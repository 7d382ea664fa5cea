"""The wrong ways to prune detect what gathering detects, so that only their time differs."""

import pytest
import torch
from test_yolos import GRID, detector, distance, pictures, ragged, shuffled  # noqa: F401

from bavit_utils.experiments.masking import detect_masked
from bavit_utils.yolos import PrunedYolos


@torch.no_grad()
@pytest.mark.parametrize("pad", [False, True])
def test_masking_and_padding_equal_gathering(detector, pictures, ragged, pad):  # noqa: F811
    gathered, output = PrunedYolos(detector).eval()(pictures, ragged), detect_masked(detector, pictures, ragged, pad)
    assert output.logits.shape == gathered.logits.shape and distance(output, gathered) < 1e-5
    for wrong in (
        detect_masked(detector, pictures, ragged.roll(1, dims=2), pad),
        detect_masked(detector, shuffled(pictures), ragged, pad),
        detect_masked(detector, pictures, torch.ones_like(ragged), pad),
    ):
        assert distance(wrong, gathered) > 1e-3


@torch.no_grad()
def test_padding_stops_at_the_longest_picture_and_masking_computes_all(detector, pictures, ragged):  # noqa: F811
    seen = []
    detector.vit.encoder.layer[0].layernorm_before.register_forward_hook(lambda *args: seen.append(args[2].shape))
    for pad in (False, True):
        detect_masked(detector, pictures, ragged, pad)
    prefix = 1 + detector.config.num_detection_tokens
    assert [shape[1] - prefix for shape in seen] == [GRID[0] * GRID[1], ragged.flatten(1).sum(1).max().item()]
