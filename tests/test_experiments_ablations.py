"""Ablations: variants that differ in one thing, trained and measured as they say."""

from dataclasses import replace

import pytest

from bavit_utils.config import Recipe
from bavit_utils.data.records import load_records
from bavit_utils.experiments import ablations
from bavit_utils.experiments.ablations import ABLATIONS, Variant, run_variant

pytestmark = pytest.mark.usefixtures("tiny_world")


TINY = Variant("tiny", img_size=64, recipe=Recipe(epochs=2, batch_size=4, lr=1e-3))


def test_every_ablation_holds_the_base_once_and_names_are_folders():
    for what, variants in ABLATIONS.items():
        names = [variant.name for variant in variants]
        assert names.count("base") == 1 and len(set(names)) == len(names), what
        assert all(name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names)


@pytest.mark.parametrize("what", sorted(set(ABLATIONS) - {"recipe"}))
def test_variants_differ_from_the_base_in_nothing_but_what_they_say(what):
    fields = {"depth": {"depth"}, "size": {"img_size"}, "init": {"pretrained"}, "pictures": {"n_train"}}
    for variant in ABLATIONS[what]:
        changed = {key for key, value in vars(variant).items() if value != vars(Variant(variant.value))[key]}
        assert changed <= fields.get(what, {"rule", "tau"})


def test_a_variant_is_measured_by_its_own_labels_and_by_the_masks(tmp_path):
    records = load_records("sample", "train")
    row = run_variant(replace(TINY, rule="box", depth=1), records[:12], records[12:14], records[14:], tmp_path)
    assert row["n_train"] == 12 and row["n_images"] == 6 and row["depth"] == 1 and row["tau"] == 0.5
    assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] and 0 <= row["mask_accuracy"] <= 1
    assert row["accuracy"] != row["mask_accuracy"]


def test_fewer_pictures_get_as_many_steps(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(ablations, "fit_bavit", lambda model, data, *_: steps.append(data.recipe.epochs * len(data)))
    records = load_records("sample", "train")
    for n in (None, 4, 8):
        run_variant(replace(TINY, n_train=n), records[:16], [], records[16:], tmp_path)
    assert steps == [32, 32, 32]


def test_a_finished_variant_is_not_trained_again(tmp_path):
    records = load_records("sample", "train")
    parts = records[:12], records[12:14], records[14:]
    first = run_variant(TINY, *parts, tmp_path)
    log = (tmp_path / "log.csv").read_text()
    assert run_variant(TINY, *parts, tmp_path) == first and (tmp_path / "log.csv").read_text() == log
