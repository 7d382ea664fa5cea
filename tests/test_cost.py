"""Tokens against Table 2; parameters and multiply-adds against PyTorch's counter on the real models."""

import sys
from functools import partial
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bavit_utils import cost
from bavit_utils.bavit import create_bavit
from bavit_utils.config import DEPTHS, get_profile
from bavit_utils.cost import (
    bavit_multiply_adds,
    bavit_parameters,
    block_multiply_adds,
    measure_latency,
    multiply_adds,
    token_reduction,
    token_table,
    yolos_multiply_adds,
    yolos_parameters,
)
from bavit_utils.data.records import class_names
from bavit_utils.experiments.peak_memory import measure_peak_memory
from bavit_utils.paper import PAPER
from bavit_utils.yolos import PrunedYolos, create_yolos


def test_all_twelve_rows_of_table_2_and_its_rounding_slips():
    paper = pd.DataFrame(PAPER.table2)
    ours = token_table(paper.sparsity)
    columns = ["tokens_bavit", "tokens_yolos", "tokens_pruned", "tokens_total"]
    assert (ours[columns] == paper[columns]).all(axis=None)
    computed = (100 * ours.reduction).round(2)
    printed = (100 * paper.reduction).round(2)
    slips = {s: (p, c) for s, p, c in zip(paper.sparsity, printed, computed, strict=True) if p != c}
    assert slips == {0.32: (22.60, 22.63), 0.29: (19.60, 19.63), 0.02: (-7.38, -7.37), 0.0: (-9.40, -9.38)}


def test_class_and_detection_tokens_shrink_the_reduction():
    table = token_table([0.35, 0.29], with_prefix=True)
    assert table.tokens_yolos.tolist() == [12 * 1125] * 2
    assert table.reduction.round(3).tolist() == [0.233, 0.179]


def test_sample_profile_pays_the_papers_share_of_a_quarter_of_its_tokens():
    table = token_table([0.0, 0.1875, 0.35, 1.0], get_profile("sample"))
    assert (table.tokens_bavit == 288).all() and (table.tokens_yolos == 3072).all()
    assert table.reduction.tolist() == pytest.approx([-0.09375, 0.09375, 0.25625, 0.90625], abs=1e-3)
    with pytest.raises(ValueError, match="share from 0 to 1"):
        token_table(35)


def test_equation_4_as_printed_and_as_meant():
    assert token_reduction(12288, 1152, 0.0, as_printed=True) == 11136
    assert token_reduction(12288, 1152, 0.0) == pytest.approx(-0.09375)
    for row in token_table().itertuples():
        reduction = token_reduction(row.tokens_yolos, row.tokens_bavit, row.sparsity)
        assert reduction == pytest.approx(row.reduction, abs=1e-4)
    assert token_reduction(12288, 1152, np.array([0.2, 0.5])) == pytest.approx(0.35 - 0.09375)


def count(model, pixels):
    """Multiply-adds by PyTorch's counter; it counts nothing for fused attention on some builds."""
    kernel = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with kernel, torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixels)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("depth", "img_size"), [(2, 384), (3, 192)])
def test_bavit_against_pytorchs_counter(depth, img_size):
    patches = (img_size // 16) ** 2
    counted = count(create_bavit(depth, img_size), torch.zeros(1, 3, img_size, img_size))
    assert bavit_multiply_adds(depth, patches) == counted


@pytest.mark.parametrize(("depth", "size", "queries", "labels"), [(12, 512, 100, 91), (6, 256, 25, 8)])
def test_yolos_against_pytorchs_counter(depth, size, queries, labels):
    model = create_yolos(range(labels), size, depth, queries)
    model.set_attn_implementation("eager")
    patches = (size // 16) ** 2
    formula = yolos_multiply_adds(patches, patches, depth, queries, labels)
    assert formula == count(model, torch.zeros(1, 3, size, size))


def test_the_papers_cost_claims_against_the_formula():
    assert bavit_parameters() == 1_148_738 and bavit_parameters(depth=10) == 4_707_650
    assert bavit_parameters() < PAPER.bavit_parameters < bavit_parameters(depth=3)
    assert bavit_multiply_adds() / 1e9 == pytest.approx(0.85, abs=0.005)
    assert yolos_parameters() == 6_488_736
    assert yolos_multiply_adds(1024) / 1e9 == pytest.approx(11.97, abs=0.005)
    assert yolos_multiply_adds(32 * 44, patches=32 * 44) / PAPER.yolos_flops == pytest.approx(1, abs=0.01)
    matrix = 2 * 1125**2 * 192
    assert matrix / block_multiply_adds(1125) == pytest.approx(0.49, abs=0.005)


def test_ragged_pictures_cost_the_mean_of_their_own_costs():
    counts = np.array([100, 500, 1024])
    assert yolos_multiply_adds(counts) == pytest.approx(np.mean([yolos_multiply_adds(int(n)) for n in counts]))
    assert yolos_multiply_adds(counts) > yolos_multiply_adds(counts.mean()) * 1.1
    with pytest.raises(ValueError, match="from 0 to 1024"):
        yolos_multiply_adds([1025])
    with pytest.raises(ValueError, match="from 0 to 1024"):
        yolos_multiply_adds([])


@pytest.mark.parametrize("after_layers", [0, 2])
def test_the_pruned_detector_computes_what_the_formula_says(after_layers):
    share = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    keep = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) < share
    model = PrunedYolos(create_yolos(range(8), 128, 3, 5)).eval()
    found = count(lambda pixels: model(pixels, keep, after_layers=after_layers), torch.zeros(3, 3, 128, 128))
    formula = yolos_multiply_adds(keep.sum((1, 2)), 64, 3, 5, 8, after_layers=after_layers)
    assert found / 3 == pytest.approx(formula, rel=1e-12)


def test_later_pruning():
    assert yolos_multiply_adds(600, after_layers=12) == yolos_multiply_adds(1024)
    third = yolos_multiply_adds(600, after_layers=3) - yolos_multiply_adds(600, after_layers=2)
    assert third == block_multiply_adds(1125) - block_multiply_adds(701)


@pytest.mark.parametrize("name", ["sample", "voc", "coco"])
def test_multiply_adds_of_a_profile(name):
    profile = get_profile(name)
    patches = profile.detector_grid[0] ** 2
    dense, both = multiply_adds(patches, profile, bavit=None), multiply_adds(patches, profile)
    assert both - dense == bavit_multiply_adds(DEPTHS["bavit-small"], profile.bavit_grid[0] ** 2)
    labels = len(class_names(profile.detector_data))
    sizes = (patches, profile.detector_depth, profile.num_detection_tokens, labels)
    assert dense == yolos_multiply_adds(patches, *sizes)
    assert multiply_adds([0, patches], profile, bavit=None) < dense
    assert multiply_adds(0, profile, None, after_layers=profile.detector_depth) == dense


@pytest.fixture
def ones(tmp_path, monkeypatch):
    """A run that holds `megabytes` at once, after a setup that held and freed `ready`."""
    (tmp_path / "held_ones.py").write_text(
        "import numpy as np\n"
        "def ones(megabytes, ready=0):\n"
        "    np.ones(ready * 125_000).sum()\n"
        "    return lambda: np.ones(megabytes * 125_000).sum()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return import_module("held_ones").ones


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can forget the peak of the setup")
def test_peak_memory_is_the_runs_own(ones):
    held = np.ones(50_000_000)  # 400 MB in this process, and 200 freed in the setup, must not hide 100 in the run
    found = measure_peak_memory(ones, {"megabytes": 100, "ready": 200})
    assert found["peak_mb"] == pytest.approx(100, rel=0.2)
    assert 5 < found["baseline_mb"] < 200 and held[0] == 1
    assert measure_peak_memory(ones, {"megabytes": 1})["peak_mb"] < 20


def test_peak_memory_passes_the_error_on(ones):
    with pytest.raises(TypeError, match="unexpected keyword argument 'gigabytes'"):
        measure_peak_memory(ones, {"gigabytes": 1})


def test_times_are_milliseconds_in_turn_and_the_warm_up_is_left_out(monkeypatch):
    now, seen = [0.0], []
    takes = {"dense": iter([9, 9, 0.004, 0.002, 0.006]), "pruned": iter([9, 9, 0.001, 0.003, 0.002])}

    def run(name):
        seen.append(name[0])
        now[0] += next(takes[name])

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    dense, pruned = measure_latency({name: partial(run, name) for name in takes}, repeats=3, warmup=2)
    assert (dense["median_ms"], pruned["median_ms"]) == (pytest.approx(4), pytest.approx(2))
    assert (dense["q25_ms"], dense["q75_ms"]) == (pytest.approx(3), pytest.approx(5))
    assert (dense["speedup"], pruned["speedup"]) == (1, pytest.approx(2)) and "".join(seen) == "dppddppddp"
    assert (pruned["method"], pruned["repeats"], pruned["threads"]) == ("pruned", 3, torch.get_num_threads())
