"""The sweep: its rows, what it computes once, and going on after an interruption."""

from dataclasses import replace

import pytest
import torch

from bavit_utils import cli_yolos, config
from bavit_utils import sweep as module
from bavit_utils.cli import main
from bavit_utils.config import get_profile
from bavit_utils.cost import multiply_adds, token_table
from bavit_utils.data.records import class_names, load_records
from bavit_utils.pruning import detector_keep
from bavit_utils.sweep import detections, sweep
from bavit_utils.yolos import PrunedYolos, create_yolos, predict

TINY = replace(get_profile("sample"), detector_img_size=64, detector_depth=2, num_detection_tokens=4)
SPARSITIES = (0.5, 0.25, 0.0)


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    records = load_records("sample", "val", 8)
    detector = PrunedYolos(create_yolos(class_names(TINY.detector_data), **TINY.detector_shape)).eval()
    maps = torch.rand(8, 12, 12)
    return {
        "profile": TINY,
        "records": records,
        "images": [r.image() for r in records],
        "maps": maps,
        "detector": detector,
    }


def test_rows_have_table_2s_columns_and_add_up(world):
    labels = torch.randint(0, 2, (8, 4, 4))
    rows = sweep(**world, sparsities=SPARSITIES, labels=labels)
    assert [row["sparsity"] for row in rows] == list(SPARSITIES)
    for row in rows:
        assert row["sparsity_reached"] == pytest.approx(row["sparsity"], abs=1 / 144)
        tokens = token_table(row["sparsity_reached"], TINY)["tokens_total"].iloc[0]
        assert row["tokens"] == pytest.approx(tokens, abs=1)
        assert row["tokens_with_prefix"] == row["tokens"] + 2 * (1 + 4)
        keep = detector_keep(world["maps"], row["threshold"], (4, 4))
        assert row["gmacs"] == pytest.approx(multiply_adds(keep.flatten(1).sum(1).numpy(), TINY) / 1e9)
        assert row["fg_recall"] == pytest.approx(keep[labels == 1].float().mean().item())
        assert row["AP_low"] <= row["AP"] <= row["AP_high"] and row["n_images"] == 8
    last = rows[-1]
    assert last["sparsity_reached"] == 0 and last["delta_AP"] == 0 and last["fg_recall"] == 1


def test_other_scores_cost_no_second_network(world):
    row = sweep(**world, sparsities=(0.5,), bavit="random")[0]
    assert row["tokens"] == pytest.approx(2 * 16 * (1 - row["sparsity_reached"]))
    assert row["fg_recall"] is None


def test_the_same_call_goes_on_where_it_was_stopped(world, tmp_path, monkeypatch):
    calls, predict = [], module.predict

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*args, **kwargs)

    whole = sweep(**world, sparsities=SPARSITIES)
    monkeypatch.setattr(module, "predict", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep(**world, sparsities=SPARSITIES, folder=tmp_path)
    assert sweep(**world, sparsities=SPARSITIES, folder=tmp_path) == whole
    assert len(calls) == 2 + 1 + 2  # dense and one threshold, the one that was stopped, the two that were left
    sweep(**world, sparsities=SPARSITIES, folder=tmp_path)
    assert len(calls) == 5


def test_detections_come_back_from_disk_as_they_were(world, tmp_path):
    found = detections(world["detector"], world["images"], folder=tmp_path)
    again = detections(world["detector"], world["images"], folder=tmp_path)
    for one, other in zip(found, again, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_spared_background_stays_at_equal_sparsity(world):
    maps = torch.rand(8, 4, 4)  # on the detector's grid: a patch is a patch
    plain, spared = (
        sweep(**{**world, "maps": maps}, sparsities=(0.5,), spared=share, labels=(maps < 0.4).long(), seed=1)[0]
        for share in (0.0, 0.25)
    )
    assert spared["spared"] == 0.25 and spared["sparsity_reached"] == pytest.approx(plain["sparsity_reached"], abs=0.02)
    assert plain["fg_recall"] == 0 < spared["fg_recall"] < 0.5  # what has the lowest probability is kept in part
    assert spared["threshold"] < plain["threshold"]


def test_pictures_are_warped_once_and_their_boxes_are_in_their_own_pixels(world, monkeypatch):
    warped, original = [], module.warp
    monkeypatch.setattr(module, "warp", lambda *args: warped.append(1) or original(*args))
    monkeypatch.setattr(module, "predict", lambda *args, **kwargs: seen.append(predict(*args, **kwargs)) or seen[-1])
    seen = []
    sweep(**world, sparsities=(0.5, 0.0))
    assert len(warped) == len(world["images"]) and len(seen) == 3
    for one, other in zip(seen[0], predict(world["detector"], world["images"]), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_command_stores_rows_and_keeps_detections(tmp_path, monkeypatch):
    stored = {}
    monkeypatch.setattr(config, "RUNS", tmp_path)
    monkeypatch.setattr(cli_yolos, "SWEEP_SPARSITIES", (0.35,))
    monkeypatch.setattr(cli_yolos, "save_rows", lambda name, run, rows, source: stored.update({name: (run, rows)}))
    assert main(["sweep", "--profile", "sample", "--limit", "3", "--selectors", "bavit-small", "--store"]) == 0
    run, rows = stored["table2-sample"]
    assert run == "yolos-bavit-small" and [row["sparsity"] for row in rows] == [0.35]
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors")) == [
        "dense.safetensors",
        "sparsity-0.35-fill-0-nearest.safetensors",
    ]
