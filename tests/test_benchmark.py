"""What the benchmark runs, and the rows it gives; never how long it takes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bavit_utils import benchmark
from bavit_utils.benchmark import SPARSITIES, ragged_masks, throughput
from bavit_utils.config import get_profile
from bavit_utils.cost import multiply_adds

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


def test_rows_name_what_was_measured(maps, monkeypatch):
    monkeypatch.setattr(benchmark, "measure_peak_memory", lambda *args, **kwargs: {"peak_mb": 1.0, "baseline_mb": 1.0})
    tiny = replace(SAMPLE, detector_img_size=64, detector_depth=1, bavit_img_size=48)
    rows = throughput(tiny, maps, batches=(2,), repeats=2)
    assert [row["method"] for row in rows] == ["dense"] + ["gather"] * len(SPARSITIES)
    assert rows[0]["speedup"] == rows[0]["mac_speedup"] == 1
    reached = [row["sparsity"] for row in rows[1:]]
    assert reached == sorted(reached) and reached[0] == 0
    kept = 16 * (1 - np.array(reached))
    assert rows[1]["mac_speedup"] == pytest.approx(multiply_adds(16, tiny, bavit=None) / multiply_adds(kept[0], tiny))
    assert all(row["median_ms"] > 0 and row["q25_ms"] <= row["median_ms"] <= row["q75_ms"] for row in rows)


def test_the_run_whose_memory_is_measured_keeps_the_given_counts(monkeypatch):
    seen = []
    monkeypatch.setattr(benchmark._Pair, "pruned", lambda self, keep: seen.append(keep))
    benchmark.memory_run("sample", 2, [3, 5])()
    assert seen[0].flatten(1).sum(1).tolist() == [3, 5]
