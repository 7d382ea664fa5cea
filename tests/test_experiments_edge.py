"""What the edge's measurements run, and the rows they give; never how long it takes."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from bavit_utils.config import get_profile
from bavit_utils.cost import measure_latency
from bavit_utils.data.records import load_records
from bavit_utils.edge import detector as edge_detector
from bavit_utils.edge import on_torch
from bavit_utils.edge.on_torch import TorchDetector
from bavit_utils.experiments import edge
from bavit_utils.experiments.edge import KEEPS, KINDS, ROUND_TO, accuracy_rows, time_rows

TINY = replace(get_profile("sample"), bavit_img_size=48, detector_img_size=64)


def test_ap_is_of_each_runtimes_own_file_beside_torchs(edge_pair, monkeypatch):
    bavit, detector, folder = edge_pair
    monkeypatch.setattr(on_torch, "load_pair", lambda name: (bavit, detector))
    rows = accuracy_rows(TINY, load_records("sample", "val", 6), folder)
    assert [(row["runtime"], row["dtype"], row["keep"]) for row in rows] == [(*k, s) for k in KINDS for s in KEEPS]
    for row in rows:
        same = row["runtime"] == "torch" and row["dtype"] == "fp32"
        assert row["max_abs_diff"] == 0 if same else row["max_abs_diff"] > 0
        assert row["n_images"] == 6 and row["img_size"] == 64 and (row["delta_AP"] == 0 or not same)
        assert row["dtype"] != "fp32" or row["max_abs_diff"] < 1e-5


def test_a_pruned_run_looks_at_the_picture_with_bavit_first_and_a_whole_one_does_not(edge_pair):
    calls = []

    class Watched(TorchDetector):
        def foreground(self, pixels):
            calls.append("bavit")
            return super().foreground(pixels)

        def run(self, pixels, keep):
            calls.append(len(keep))
            return super().run(pixels, keep)

    one = Watched(*edge_pair[:2])
    for kept in (16, 10, 0):
        edge_detector.fixed_run(one, kept)()
    assert calls == [16, "bavit", 10, "bavit", 0]


def test_rows_of_time_name_what_ran(edge_pair, monkeypatch):
    bavit, detector, folder = edge_pair
    asked, rounds = [], []
    monkeypatch.setattr(edge, "TemporaryDirectory", lambda: Given(folder))
    monkeypatch.setattr(edge, "random_pair", lambda profile: (bavit, detector))
    monkeypatch.setattr(edge, "export_pair", lambda *args, **kwargs: None)
    monkeypatch.setattr(edge, "measure_peak_memory", lambda *a: asked.append(a) or {"baseline_mb": 2.0, "peak_mb": 1.0})

    def watched(runs, repeats, warmup):
        rounds.append(repeats)
        return measure_latency(runs, repeats, warmup)

    monkeypatch.setattr(edge, "measure_latency", watched)
    rows = time_rows([TINY], threads=(1, 2), repeats=2)
    assert rounds == [2, 2, 2] and len(rows) == 2 * len(KINDS) * len(KEEPS) + 2 * len(ROUND_TO)
    timed = [row for row in rows if not row["round_to"]]
    assert {(row["runtime"], row["dtype"]) for row in timed} == set(KINDS)
    assert sorted({row["kept"] for row in timed}) == [6, 8, 10, 16] and {row["threads"] for row in timed} == {1, 2}
    for row in timed:
        assert ("peak_mb" in row) == (row["threads"] == 1) and row["q25_ms"] <= row["median_ms"] <= row["q75_ms"]
    fresh = [row for row in timed if "peak_mb" in row]
    assert {row["peak_mb"] for row in fresh} == {3.0} and len(asked) == len(fresh)
    sizes = {(row["runtime"], row["dtype"]): row["file_mb"] for row in fresh}
    assert sizes["onnxruntime", "int8"] < 0.5 * sizes["onnxruntime", "fp32"]
    assert {prepare for prepare, _ in asked} == {edge_detector.memory_run, on_torch.memory_run}
    for prepare, call in asked:
        prepare(**call)()


def test_the_graphs_process_holds_no_torch(edge_pair):
    row = {"runtime": "onnxruntime", "dtype": "fp32", "kept": 10, "threads": 1}
    call = {"folder": str(edge_pair[2]), "dtype": "fp32", "kept": 10, "threads": 1}
    assert edge.measure_peak_memory(edge_detector.memory_run, call)["baseline_mb"] < 150  # torch alone takes more
    found = edge._fresh_process(edge_pair[2], row)
    assert found["start_ms"] > 0 and 0 < found["peak_mb"] < 150


class Given:
    """A folder that is there, in the place of a temporary one."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        return str(self.folder)

    def __exit__(self, *error):
        return None


def test_counts_are_rounded_up_and_never_above_the_grid(edge_pair, monkeypatch):
    seen = []
    monkeypatch.setattr(edge, "fixed_run", lambda one, kept: lambda: seen.append(kept))
    monkeypatch.setattr(edge, "ROUND_TO", (4,))
    profile = replace(TINY, detector_img_size=128)
    (row, _) = edge._rounded(profile, edge_pair[2], 5, 1)
    assert row["round_to"] == 4 and all(kept % 4 == 0 or kept == 63 for kept in seen) and max(seen) < 64
    assert len(seen) == 2 * (5 + edge.WARMUP) and len(set(seen)) > 2 and np.isfinite(row["median_ms"])
