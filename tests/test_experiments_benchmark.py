"""What the benchmark runs, and the rows it gives; never how long it takes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_yolos import GRID, detector, distance, pictures, ragged, shuffled  # noqa: F401

from bavit_utils.config import get_profile
from bavit_utils.cost import multiply_adds
from bavit_utils.experiments import benchmark
from bavit_utils.experiments.benchmark import SPARSITIES, break_even, detect_masked, ragged_masks, speed_at, throughput
from bavit_utils.yolos import PrunedYolos

SAMPLE = get_profile("sample")


@pytest.fixture
def maps():
    """Maps of which some pictures are mostly foreground and some hardly."""
    level = torch.linspace(0.1, 0.9, 20).view(20, 1, 1)
    return (level + 0.3 * torch.randn(20, 12, 12, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_masks_are_ragged_and_as_sparse_as_wanted(maps):
    keep = ragged_masks(SAMPLE, maps, 0.35, 8)
    assert keep.shape == (8, 16, 16) and keep.dtype == torch.bool
    assert 1 - keep.float().mean().item() == pytest.approx(0.35, abs=0.08)
    assert len(set(keep.flatten(1).sum(1).tolist())) > 4
    assert ragged_masks(SAMPLE, maps, 0.0, 8).all()


def test_the_one_picture_of_a_batch_of_one_stands_for_the_sparsity(maps):
    maps = torch.cat([maps, torch.ones_like(maps)])  # most pictures are far from the mean
    mean = 1 - ragged_masks(SAMPLE, maps, 0.35, len(maps) - 2).float().mean().item()
    assert 1 - ragged_masks(SAMPLE, maps, 0.35, 1).float().mean().item() == pytest.approx(mean, abs=0.1)


def test_rows_name_what_was_measured(maps, monkeypatch):
    monkeypatch.setattr(benchmark, "measure_peak_memory", lambda *args, **kwargs: {"peak_mb": 1.0, "baseline_mb": 1.0})
    tiny = replace(SAMPLE, detector_img_size=64, detector_depth=1, bavit_img_size=48)
    rows = throughput(tiny, maps, batches=(2,), repeats=2)
    assert [row["method"] for row in rows] == ["dense", "transformers", *["gather"] * len(SPARSITIES), "mask", "pad"]
    assert rows[0]["speedup"] == rows[0]["mac_speedup"] == 1
    gathered = [row for row in rows if row["method"] == "gather"]
    reached = [row["sparsity"] for row in gathered]
    assert reached == sorted(reached) and reached[0] == 0
    kept = 16 * (1 - reached[0])
    assert gathered[0]["mac_speedup"] == pytest.approx(multiply_adds(16, tiny, bavit=None) / multiply_adds(kept, tiny))
    assert gathered[5]["sparsity"] == rows[-1]["sparsity"] == rows[-2]["sparsity"]
    for row in rows:
        assert row["q25_ms"] <= row["median_ms"] <= row["q75_ms"]
        assert row["images_per_s"] == pytest.approx(2000 / row["median_ms"])
        assert (row["most_kept"] or 16) >= (row["fewest_kept"] or 0)


@pytest.mark.parametrize("method, kept", [("gather", [3, 5]), ("pad", [3, 5]), ("transformers", None)])
def test_the_run_whose_memory_is_measured_keeps_the_given_counts(monkeypatch, method, kept):
    seen = []
    monkeypatch.setattr(benchmark._Pair, "run", lambda self, method, keep=None: seen.append((method, keep)))
    benchmark.memory_run("sample", 2, method, kept, "cpu", torch.get_num_threads())()
    ((ran, keep),) = seen
    assert ran == method and (kept is None) == (keep is None)
    assert kept is None or keep.flatten(1).sum(1).tolist() == kept


def test_whoever_prunes_has_run_bavit(maps, monkeypatch):
    """The headline: in every timed run of a pruned detector BAViT looks at the pictures once, in a dense one never."""
    seen, tokens, timed, computed = [], [], {}, {}
    monkeypatch.setattr(benchmark, "measure_peak_memory", lambda *args: {"peak_mb": 1.0})

    def watched(runs, repeats, device):
        for key, run in runs.items():
            seen.clear()
            tokens.clear()
            run()
            timed[key], computed[key] = seen.copy(), tokens[0]
        return []

    original = benchmark._Pair.__init__

    def made(self, *args):
        original(self, *args)
        self.bavit.register_forward_hook(lambda module, inputs, output: seen.append(("bavit", len(inputs[0]))))
        last = self.detector.detector.class_labels_classifier
        last.register_forward_hook(lambda module, inputs, output: seen.append(("detector", len(inputs[0]))))
        norm = self.detector.detector.vit.layernorm
        norm.register_forward_hook(lambda module, inputs, output: tokens.append(inputs[0].shape[:-1].numel()))

    monkeypatch.setattr(benchmark._Pair, "__init__", made)
    monkeypatch.setattr(benchmark, "measure_latency", watched)
    tiny = replace(SAMPLE, detector_img_size=64, detector_depth=1, bavit_img_size=48)
    throughput(tiny, maps, batches=(2,))
    assert {("dense", 0), ("transformers", 0), ("gather", 0.35), ("mask", 0.35), ("pad", 0.35)} <= timed.keys()
    for key, calls in timed.items():
        assert calls == (
            [("detector", 2)] if key[0] in ("dense", "transformers") else [("bavit", 2), ("detector", 2)]
        ), key
    prefix = 2 * (1 + tiny.num_detection_tokens)
    assert computed["dense", 0] == computed["transformers", 0] == 2 * 16 + prefix
    assert computed["gather", 0.35] == ragged_masks(tiny, maps, 0.35, 2).sum().item() + prefix


ROWS = pd.DataFrame(
    [
        {"batch": batch, "method": method, "sparsity": sparsity, "speedup": speedup}
        | dict.fromkeys(("median_ms", "q25_ms", "q75_ms"), 100 * batch / speedup)
        for batch in (1, 8)
        for method, sparsity, speedup in (
            ("dense", 0.0, 1.0), ("gather", 0.5, 2.0), ("gather", 0.0, 0.9), ("gather", 0.1, 1.1), ("pad", 0.05, 3.0),
        )
    ]
)  # fmt: skip


def test_break_even_lies_between_the_measured_sparsities():
    assert break_even(ROWS, 1) == pytest.approx(0.05)
    assert np.isnan(break_even(ROWS.assign(speedup=0.5), 8))
    assert break_even(ROWS.assign(speedup=1.5), 8) == 0


def test_speed_between_the_measured_sparsities_is_interpolated_in_time():
    for found in speed_at(ROWS, 8, pd.Series([0.1, 0.3, 0.5])):
        np.testing.assert_allclose(found, [1.1, 1 / np.mean([1 / 1.1, 1 / 2]), 2])


# ---- the wrong ways to prune detect what gathering detects, so that only their time differs


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
