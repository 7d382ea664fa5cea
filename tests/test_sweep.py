"""The sweep: its rows, what it computes once, and going on after an interruption."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bavit_utils import config
from bavit_utils import sweep as module
from bavit_utils.annotations import stacked_labels
from bavit_utils.cli import main
from bavit_utils.config import get_profile
from bavit_utils.cost import multiply_adds, token_table
from bavit_utils.data.records import class_names, load_records
from bavit_utils.pruning import detector_keep
from bavit_utils.sweep import Setting, Way, by_sparsity, detections, keep_at, sweep
from bavit_utils.verbs import yolos as yolos_verbs
from bavit_utils.yolos import PrunedYolos, create_yolos, predict

TINY = replace(get_profile("sample"), detector_img_size=64, detector_depth=2, num_detection_tokens=4)
SPARSITIES = (0.5, 0.25, 0.0)


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    records = load_records("sample", "val", 8)
    detector = PrunedYolos(create_yolos(class_names(TINY.detector_data), **TINY.detector_shape)).eval()
    return {"profile": TINY, "records": records, "images": [r.image() for r in records], "detector": detector}


MAPS = torch.rand(8, 12, 12, generator=torch.Generator().manual_seed(0))


def test_rows_have_table_2s_columns_and_add_up(world):
    setting = Setting(**world)
    rows = sweep(setting, MAPS, SPARSITIES)
    labels = torch.from_numpy(stacked_labels(world["records"], TINY.detector_grid, "mask"))
    assert torch.equal(setting.labels, labels)
    assert [row["sparsity"] for row in rows] == list(SPARSITIES)
    for row in rows:
        assert row["sparsity_reached"] == pytest.approx(row["sparsity"], abs=1 / 144)
        tokens = token_table(row["sparsity_reached"], TINY)["tokens_total"].iloc[0]
        assert row["tokens"] == pytest.approx(tokens, abs=1)
        assert row["tokens_with_prefix"] == row["tokens"] + 2 * (1 + 4)
        keep = detector_keep(MAPS, row["threshold"], (4, 4))
        assert row["gmacs"] == pytest.approx(multiply_adds(keep.flatten(1).sum(1).numpy(), TINY) / 1e9)
        assert row["fg_recall"] == pytest.approx(keep[labels == 1].float().mean().item())
        assert row["n_images"] == 8 and (row["resize"], row["fill_steps"], row["spared"]) == ("nearest", 0, 0.0)
    last = rows[-1]
    assert last["sparsity_reached"] == 0 and last["delta_AP"] == 0 and last["fg_recall"] == 1


def test_a_rows_change_is_its_own_ap_less_the_dense_detectors(world, monkeypatch):
    def predict(detector, images, keep, **_):  # the truth; pruned, all boxes are elsewhere
        moved = 0.0 if keep is None else 500.0
        return [
            {"boxes": torch.from_numpy(one.boxes) + moved, "labels": torch.from_numpy(one.labels),
             "scores": torch.ones(len(one.boxes))} for one in world["records"]
        ]  # fmt: skip

    monkeypatch.setattr(module, "predict", predict)
    (row,) = sweep(Setting(**world), MAPS, (0.5,))
    assert row["AP"] == 0 and row["delta_AP"] == row["delta_low"] == row["delta_high"] == pytest.approx(-1)


def test_other_scores_cost_no_second_network(world):
    row = sweep(Setting(**world), MAPS, (0.5,), bavit="random")[0]
    assert row["tokens"] == pytest.approx(2 * 16 * (1 - row["sparsity_reached"]))


def test_the_same_call_goes_on_where_it_was_stopped(world, tmp_path, monkeypatch):
    calls, predict = [], module.predict

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*args, **kwargs)

    whole = sweep(Setting(**world), MAPS, SPARSITIES)
    monkeypatch.setattr(module, "predict", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep(Setting(**world, folder=tmp_path), MAPS, SPARSITIES)
    assert sweep(Setting(**world, folder=tmp_path), MAPS, SPARSITIES) == whole
    done = len(calls)
    sweep(Setting(**world, folder=tmp_path), MAPS, SPARSITIES)
    assert len(calls) == done


def test_kept_detections_are_those_of_their_own_choice(world, tmp_path):
    """Another choice under the same name and sparsity must not find them."""
    setting = Setting(**world, folder=tmp_path)
    first, other = (torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(k)) < 0.5 for k in (1, 2))
    found = setting.detections(first, "random")
    assert all(torch.equal(a["scores"], b["scores"]) for a, b in zip(setting.detections(first, "random"), found))
    assert not torch.equal(setting.detections(other, "random")[0]["scores"], found[0]["scores"])


@pytest.mark.parametrize("readout", ["tokens", "patches"])
def test_detections_come_back_from_disk_as_they_were(world, tmp_path, readout):
    found = detections(world["detector"], world["images"], folder=tmp_path, readout=readout)
    again = detections(world["detector"], world["images"], folder=tmp_path, readout=readout)
    for one, other in zip(found, again, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_spared_background_stays_at_equal_sparsity(world):
    maps = torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(3))  # on the detector's grid: a patch is a patch
    setting = Setting(**world)
    setting.labels = (maps < 0.4).long()
    plain, spared = (sweep(setting, maps, (0.5,), Way(spared=share), seed=1)[0] for share in (0.0, 0.25))
    assert spared["spared"] == 0.25 and spared["sparsity_reached"] == pytest.approx(plain["sparsity_reached"], abs=0.02)
    assert plain["fg_recall"] == 0 < spared["fg_recall"] < 0.5  # what has the lowest probability is kept in part
    assert spared["threshold"] < plain["threshold"]


def test_pictures_are_warped_once_and_their_boxes_are_in_their_own_pixels(world, monkeypatch):
    warped, original, seen = [], module.warp, []
    monkeypatch.setattr(module, "warp", lambda *args: warped.append(1) or original(*args))
    monkeypatch.setattr(module, "predict", lambda *args, **kwargs: seen.append(predict(*args, **kwargs)) or seen[-1])
    setting = Setting(**world)
    sweep(setting, MAPS, (0.5, 0.0))
    assert len(warped) == len(world["images"]) and len(seen) == 3
    for one, other in zip(setting.detections(), predict(world["detector"], world["images"]), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_commands_store_rows_and_share_their_detections(tmp_path, monkeypatch):
    stored = {}
    monkeypatch.setattr(config, "RUNS", tmp_path)
    monkeypatch.setattr(yolos_verbs, "SWEEP_SPARSITIES", (0.35,))
    monkeypatch.setattr(yolos_verbs, "LOST_SPARSITIES", (0.35,))
    monkeypatch.setattr(yolos_verbs, "store", lambda name, run, rows, *_: stored.update({name: (run, rows)}))
    options = ["--profile", "sample", "--limit", "3", "--selectors", "bavit-small", "--store"]
    assert main(["sweep", *options]) == 0
    run, rows = stored["table2-sample"]
    assert run == "yolos-bavit-small" and [row["sparsity"] for row in rows] == [0.35]
    kept = sorted(path.name for path in tmp_path.rglob("*.safetensors"))
    assert len(kept) == 2 and kept[1] == "dense.safetensors" and kept[0].startswith("bavit-small-")
    assert main(["objects", *options]) == 0
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors")) == kept
    kinds = {row["kind"] for row in stored["objects-sample"][1]}
    assert kinds == {"object", "class", "false-positives"}


def test_the_fill_is_part_of_the_wanted_sparsity():
    maps = torch.rand(8, 12, 12, generator=torch.Generator().manual_seed(0))
    for way in (Way(), Way(fill_steps=1), Way("bilinear"), Way("any")):
        _, keep = keep_at(maps, 0.3, (16, 16), way)
        assert 1 - keep.float().mean().item() == pytest.approx(0.3, abs=0.03), way


def test_rows_of_several_seeds_are_averaged_and_so_are_their_intervals():
    rows = pd.DataFrame(
        [
            {"sparsity": 0.5, "seed": seed, "AP": 0.3 + change, "delta_AP": change, "delta_low": low, "delta_high": 0.0}
            for seed, change, low in ((0, -0.1, -0.12), (1, -0.2, -0.24))
        ]
        + [{"sparsity": 0.25, "seed": 0, "AP": 0.27, "delta_AP": -0.03, "delta_low": -0.04, "delta_high": -0.01}]
    )
    table = by_sparsity(rows)
    assert table.index.tolist() == [0.25, 0.5] and table["seeds"].tolist() == [1, 2]
    assert table.loc[0.25, ["low", "high"]].tolist() == [-0.04, -0.01]
    assert table.loc[0.5, ["low", "high"]].tolist() == pytest.approx([-0.18, 0.0])
    assert table.loc[0.5, ["share", "share_low", "share_high"]].tolist() == pytest.approx([0.5, 0.4, 1.0])
    with pytest.raises(ValueError, match="several rows of one sparsity and seed"):
        by_sparsity(pd.concat([rows, rows]))
