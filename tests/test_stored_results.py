"""What is stored under data/: that results and checkpoints belong together, and that the sample world is worth its name."""

import json

import pytest

from bavit_utils.bavit import load_bavit
from bavit_utils.config import CHECKPOINTS, DEPTHS, RESULTS, get_profile
from bavit_utils.data.records import class_names, fingerprint, load_records
from bavit_utils.paper import PAPER_SPARSITIES
from bavit_utils.results import load_rows, short_hash
from bavit_utils.sweep import PLAIN, SWEEP_SPARSITIES
from bavit_utils.yolos import load_yolos

SAMPLE = get_profile("sample")
RUNS = [
    pytest.param(path.stem, run, source, id=f"{path.stem}-{run}")
    for path in sorted(RESULTS.glob("*.json"))
    for run, source in json.loads(path.read_text())["provenance"].items()
]


@pytest.mark.parametrize("name, run, source", RUNS)
def test_a_run_was_made_with_the_checkpoints_that_are_here(name, run, source):
    for checkpoint, digest in source["checkpoints"].items():
        if "-sample" in checkpoint and "inside" not in checkpoint:  # others are not all committed
            assert short_hash(CHECKPOINTS / checkpoint) == digest
    assert source["commit"] != "unknown" and not source["commit"].endswith("-dirty")
    assert source["command"].startswith("bavit ") and len(load_rows(name, run=run))


def test_sample_results_are_of_the_bundled_pictures():
    here = fingerprint(load_records("sample", "val"))
    seen = [source["data"]["sample/val"] for _, _, source in (p.values for p in RUNS) if "sample/val" in source["data"]]
    assert seen and set(seen) == {here}


def test_checkpoints_load_and_fit_the_profile():
    for model, depth in DEPTHS.items():
        bavit = load_bavit(SAMPLE.checkpoint(model))
        assert len(bavit.blocks) == depth and bavit.patch_embed.grid_size == SAMPLE.bavit_grid
    detector = load_yolos(SAMPLE.checkpoint("yolos"))
    assert tuple(detector.config.id2label.values()) == class_names("sample")
    assert detector.config.num_detection_tokens == SAMPLE.num_detection_tokens
    assert sum(path.stat().st_size for path in CHECKPOINTS.glob("*-sample*.safetensors")) < 27e6


def test_the_sample_world_is_neither_too_easy_nor_too_hard():
    row = load_rows("table1", dataset="sample", model="bavit-small").iloc[0]
    assert 0.80 < row.balanced_accuracy < 0.95
    dense = load_rows("table2-sample", bavit="bavit-small", sparsity=0.0).iloc[0]
    assert dense.AP50 > 0.5


def test_the_sweep_has_all_of_the_papers_sparsities():
    for bavit in ("bavit-small", "random", "oracle-mask"):
        rows = load_rows("table2-sample", bavit=bavit, detector="yolos", seed=[None, 0], **PLAIN)
        assert tuple(rows.sparsity) == SWEEP_SPARSITIES and set(PAPER_SPARSITIES) < set(SWEEP_SPARSITIES)
        assert (rows.sparsity_reached - rows.sparsity).abs().max() < 0.005


def test_a_training_is_in_table_1_once():
    rows = load_rows("table1")
    assert len(rows) and not rows.duplicated(["model", "dataset", "rule", "recipe", "seed"]).any()


@pytest.mark.parametrize("name", ["sample-mask", "voc2012-mask", "voc2007-box", "coco-mask"])
def test_the_stored_threshold_keeps_the_foreground_on_dev_pictures(name):
    rows = load_rows(f"calibration-{name.split('-')[0]}", kind="operating-point")
    dev, held_out = rows.set_index("split").loc["dev"], rows.set_index("split").loc["held-out"]
    assert dev.fg_recall >= 0.98 and dev.threshold == held_out.threshold
    (source,) = rows.attrs["provenance"].values()
    assert source["checkpoints"][f"bavit-small-{name}.safetensors"] == short_hash(
        CHECKPOINTS / f"bavit-small-{name}.safetensors"
    )
