"""No training learns from the pictures that its choices are made on; a threshold is chosen on those alone."""

from dataclasses import replace

import pytest

from bavit_utils import config
from bavit_utils.cli import main
from bavit_utils.config import Recipe, get_profile
from bavit_utils.data.records import Record, load_records
from bavit_utils.selectors import training as selector_training
from bavit_utils.training import bavit, detector
from bavit_utils.training.finetuning import finetune

pytestmark = pytest.mark.usefixtures("tiny_world")

RECIPE = Recipe(epochs=1, batch_size=4, lr=1e-3)
SAMPLE = replace(get_profile("sample"), bavit_recipe=RECIPE, detector_recipe=RECIPE, finetune_recipe=RECIPE)
TRAININGS = {
    "bavit": lambda folder: bavit.train_bavit(SAMPLE, folder),
    "yolos": lambda folder: detector.train_yolos(SAMPLE, folder),
    "yolos-f": lambda folder: finetune(SAMPLE, folder=folder),
    "selector": lambda folder: selector_training.train_selector(SAMPLE, "focus-detr"),
}


@pytest.fixture
def decoded(monkeypatch) -> set[tuple[str, int]]:
    """The pictures that were looked at."""
    seen, image = set(), Record.image
    monkeypatch.setattr(Record, "image", lambda record: seen.add((record.split, record.image_id)) or image(record))
    return seen


def train_list() -> list[int]:
    return [record.image_id for record in load_records("sample", "train")]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_never_learns_from_what_it_is_judged_by(name, decoded, tmp_path, monkeypatch):
    learnt = []
    monkeypatch.setattr(config, "RUNS", tmp_path)
    for module in (bavit, detector, selector_training):
        monkeypatch.setattr(module, "fit", lambda model, data, *_, **__: learnt.append(data.records) or model)
    TRAININGS[name](tmp_path)
    (records,) = learnt
    assert [record.image_id for record in records] == train_list()[:-2]
    assert {split for split, _ in decoded} == {"train"}
    assert {number for _, number in decoded} == {*train_list()}  # the last two are looked at, to judge by


def test_a_threshold_is_chosen_on_pictures_that_nothing_learnt_from(decoded):
    main(["calibrate", "--profile", "sample", "--limit", "3"])
    assert {number for split, number in decoded if split == "train"} == {*train_list()[-2:]}
    assert len([split for split, _ in decoded if split == "val"]) == 3
