"""What the detector's recipe owes to each of its parts: as many minutes for everybody, and one thing changed."""

from dataclasses import replace

import pytest
import torch

from bavit_utils.config import get_profile
from bavit_utils.data.records import class_names, load_records
from bavit_utils.experiments import recipe
from bavit_utils.metrics import average_precision
from bavit_utils.training.detector import VARIANTS
from bavit_utils.yolos import PrunedYolos, create_yolos, predict

TINY = replace(get_profile("sample"), detector_img_size=64, detector_depth=1, num_detection_tokens=5)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """What each training was asked for; it has learnt 100 steps in a minute, and before that what the log says."""
    asked, detectors = [], []

    def train(profile, folder, schedule):
        asked.append((schedule.recipe, folder.name, schedule.max_minutes))
        folder.mkdir(exist_ok=True)
        (folder / "log.csv").write_text("step,seconds,metric\n50,30,\n100,60,\n")
        torch.manual_seed(len(asked))
        detectors.append(create_yolos(class_names("sample"), **TINY.detector_shape).eval())
        return detectors[-1]

    records = load_records("sample", "val", 6)
    monkeypatch.setattr(recipe, "train_yolos", train)
    monkeypatch.setattr(recipe, "detection_records", lambda profile: ([], records))
    monkeypatch.setattr(recipe, "run_folder", lambda name: tmp_path / name)
    return asked, detectors, records


def test_everybody_has_as_many_minutes_and_one_thing_is_changed(trained):
    asked, _, records = trained
    rows, dev = recipe.recipe_rows(TINY, 5, seed=3)
    assert [row["variant"] for row in rows] == ["the recipe", *VARIANTS] and dev is records
    assert [each[0] for each in asked] == [
        replace(TINY.detector_recipe, **change) for change in ({}, *VARIANTS.values())
    ]
    assert {each[2] for each in asked} == {5} and len({each[1] for each in asked}) == 1 + len(VARIANTS)
    assert {(row["minutes"], row["pictures"], row["n_images"], row["seed"]) for row in rows} == {(1, 1600, 6, 3)}
    recipe.recipe_rows(TINY, 5)
    recipe.recipe_rows(TINY, 5)
    assert asked[-1][2] == 4  # the minute that its log tells of is not had again


def test_it_is_measured_on_both_readouts_against_the_recipe(trained, monkeypatch):
    _, detectors, records = trained
    monkeypatch.setattr(recipe, "VARIANTS", {"sparse": {"half": "background"}})
    whole, sparse = recipe.recipe_rows(TINY, 5)[0]
    images, one = [record.image() for record in records], PrunedYolos(detectors[1])
    for readout, key in (("tokens", "AP50"), ("patches", "patches_AP50")):
        assert sparse[key] == average_precision(records, predict(one, images, readout=readout))["AP50"]
    assert whole["delta_AP"] == 0 and sparse["delta_AP"] == pytest.approx(sparse["AP"] - whole["AP"])
