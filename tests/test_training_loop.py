"""The training loops learn, go on after an interruption as if there had been none, and stop at a bad loss."""

import copy
import csv
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bavit_utils import yolos
from bavit_utils.config import Recipe, get_profile
from bavit_utils.data.records import class_names, load_records
from bavit_utils.training import detector as detector_training
from bavit_utils.training import loop
from bavit_utils.training.bavit import train_bavit
from bavit_utils.training.detector import train_yolos
from bavit_utils.training.loop import Schedule, Task, fit, learning_rate, split_records
from bavit_utils.training.pictures import TokenPictures
from bavit_utils.yolos import create_yolos

SIZE = 48
RECIPE = Recipe(epochs=4, batch_size=6, lr=1e-3, weight_decay=0.01, warmup_epochs=0.5)
FEW = replace(RECIPE, epochs=40, batch_size=8, lr=5e-4, weight_decay=0.0)  # nine pictures, one step an epoch
TINY = replace(
    get_profile("sample"),
    bavit_img_size=SIZE,
    detector_img_size=64,
    detector_depth=2,
    num_detection_tokens=8,
    bavit_recipe=RECIPE,
    detector_recipe=RECIPE,
)


pytestmark = pytest.mark.usefixtures("tiny_world")


@pytest.fixture(scope="module")
def pictures(tiny_world) -> TokenPictures:
    return TokenPictures(load_records("sample", "train", 18), SIZE, RECIPE, "mask")


class Linear(nn.Module):
    """The smallest thing that classifies patches: one linear layer on their pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * 16 * 16, 2)

    def forward(self, pixels):
        return self.layer(nn.functional.unfold(pixels, 16, stride=16).transpose(1, 2))


def loss_of(model, pixels, targets):
    return nn.functional.cross_entropy(model(pixels).flatten(0, 1), targets.flatten())


def poisoned(poison, at: int):
    """The task of `loss_of`, whose loss goes through `poison` at one call."""
    calls = iter(range(10**6))

    def loss(model, pixels, targets):
        value = loss_of(model, pixels, targets)
        return poison(value) if next(calls) == at else value

    return Task(loss)


def rows_of(folder) -> list[dict]:
    with (folder / "log.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def losses_of(folder) -> list[float]:
    return [float(row["loss"]) for row in rows_of(folder) if row["loss"]]


def assert_same(a: nn.Module, b: nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    assert [name for name, value in a.state_dict().items() if not torch.equal(value, b.state_dict()[name])] == []


# ---- the rate


def test_learning_rate_warms_up_then_falls_to_zero():
    recipe = Recipe(epochs=10, batch_size=1, lr=3e-4, warmup_epochs=2)
    rates = [learning_rate(recipe, step, 20) for step in range(200)]
    assert rates[0] == pytest.approx(3e-4 / 41) and max(rates) == rates[40] == pytest.approx(3e-4)
    assert all(a < b for a, b in pairwise(rates[:41])) and all(a > b for a, b in pairwise(rates[40:]))
    assert rates[120] == pytest.approx(1.5e-4)  # half way down the cosine
    assert 0 < rates[-1] < 1e-3 * 3e-4 and learning_rate(recipe, 200, 20) == pytest.approx(0, abs=1e-18)


def test_the_papers_schedule_falls_in_steps():
    recipe = Recipe(epochs=10, batch_size=1, lr=0.1, warmup_epochs=0, step_epochs=4)
    rates = [learning_rate(recipe, step, 5) for step in range(50)]
    assert rates == pytest.approx([0.1] * 20 + [0.01] * 20 + [0.001] * 10)


# ---- it learns


@pytest.mark.parametrize(("train", "share"), [(train_bavit, 0.7), (train_yolos, 0.85)])
def test_a_few_pictures_are_learnt_by_heart(train, share, tmp_path):
    model = train(TINY, tmp_path / "run", schedule=Schedule(recipe=FEW, limit=10))
    losses = losses_of(tmp_path / "run")
    assert len(losses) == 40 and not model.training
    assert sum(losses[-5:]) < share * sum(losses[:5])


def test_both_trainings_run_in_one_process_whatever_their_precision(tmp_path):
    model = train_bavit(TINY, tmp_path / "bavit", "bavit-large", schedule=Schedule(max_steps=1))
    assert len(model.blocks) == 10
    mixed = replace(RECIPE, mixed_precision="bf16")
    detector = train_yolos(TINY, tmp_path / "yolos", Schedule(recipe=mixed, max_steps=2))
    assert all(math.isfinite(loss) for loss in losses_of(tmp_path / "yolos")) and detector.dtype == torch.float32
    (narrow,) = [value for name, value in detector.named_parameters() if name.endswith("cls_token")]
    assert torch.isfinite(narrow).all()


# ---- it goes on


@pytest.mark.parametrize("train", [train_bavit, train_yolos])
def test_a_resumed_training_is_the_uninterrupted_one(train, tmp_path):
    whole = train(TINY, tmp_path / "whole", schedule=Schedule(max_steps=6))
    for steps in (2, 5, 6):  # in the middle of the first epoch, of the second, and on
        parts = train(TINY, tmp_path / "parts", schedule=Schedule(max_steps=steps))
        assert max(int(row["step"]) for row in rows_of(tmp_path / "parts")) == steps
    assert_same(whole, parts)
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "parts")


def test_slices_of_time_and_helping_processes_change_nothing(pictures, tmp_path):
    whole = fit(Linear(), pictures, Task(loss_of), tmp_path / "whole", max_steps=8)  # into the third epoch
    streamed = copy.copy(pictures)
    streamed.kept = None  # as where they don't fit into memory: other processes prepare them
    for step in ("1", "2"):
        fit(Linear(), streamed, Task(loss_of), tmp_path / "parts", max_minutes=1e-9)  # over after one step
        assert rows_of(tmp_path / "parts")[-1]["step"] == step
    assert_same(whole, fit(Linear(), streamed, Task(loss_of), tmp_path / "parts", max_steps=8))


@pytest.mark.parametrize("row", ["7,2,9.9,0.1,1.0,\n", "1"], ids=["past the state", "cut short"])
def test_rows_without_a_state_are_dropped(pictures, tmp_path, row):
    fit(Linear(), pictures, Task(loss_of), tmp_path, max_steps=4)
    log = tmp_path / "log.csv"
    log.write_text(log.read_text() + row)
    fit(Linear(), pictures, Task(loss_of), tmp_path, max_steps=5)
    assert [row["step"] for row in rows_of(tmp_path)] == ["1", "2", "3", "4", "5"]


def test_a_finished_training_is_left_as_it_is(pictures, tmp_path):
    done = fit(Linear(), pictures, Task(loss_of), tmp_path)
    again = fit(Linear(), pictures, poisoned(lambda loss: loss * math.nan, at=0), tmp_path)
    assert_same(done, again)
    assert len(losses_of(tmp_path)) == 12


@pytest.mark.parametrize("change", ["recipe", "seed", "records"])
def test_another_training_in_the_same_folder_is_refused(pictures, tmp_path, change):
    fit(Linear(), pictures, Task(loss_of), tmp_path, max_steps=2)
    before = (tmp_path / "state.safetensors").read_bytes()
    told = r"state\.safetensors belongs to another training.*: remove its folder, or choose another"
    other = copy.copy(pictures)
    setattr(other, change, {"recipe": replace(RECIPE, lr=2e-3), "seed": 1, "records": pictures.records[:12]}[change])
    with pytest.raises(ValueError, match=told):
        fit(Linear(), other, Task(loss_of), tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == before and len(losses_of(tmp_path)) == 2


# ---- it stops at a bad loss


def bad_gradient(loss):
    """A finite loss without a finite gradient: the root of zero has an infinite slope."""
    return loss + (loss - loss).sqrt()


@pytest.mark.parametrize(
    "poison",
    [lambda loss: loss * math.nan, lambda loss: loss * math.inf, bad_gradient],
    ids=["nan", "infinite", "bad gradient"],
)
def test_a_bad_loss_names_its_step_and_keeps_the_last_good_state(pictures, tmp_path, monkeypatch, poison):
    good = fit(Linear(), pictures, Task(loss_of), tmp_path / "good", max_steps=5)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)  # a state after every step
    with pytest.raises(FloatingPointError, match=rf"at step 5: lower the learning rate and remove {tmp_path / 'bad'}"):
        fit(Linear(), pictures, poisoned(poison, at=5), tmp_path / "bad")
    stored = load_file(tmp_path / "bad" / "state.safetensors")
    assert all(torch.isfinite(value).all() for value in stored.values())
    assert all(torch.equal(value, stored[f"model.{name}"]) for name, value in good.state_dict().items())
    assert len(losses_of(tmp_path / "bad")) == 5


# ---- the log, and who is left out


def test_the_log_has_a_row_a_step_and_one_an_epoch(pictures, tmp_path):
    seen = []

    def evaluate(model):
        assert not model.training
        seen.append(len(seen))
        return 0.1 * len(seen)

    fit(Linear(), pictures, Task(loss_of, evaluate), tmp_path)
    rows = rows_of(tmp_path)
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(1, 13))
    metrics = [(int(row["step"]), float(row["metric"])) for row in rows if row["metric"]]
    assert metrics == [(3, 0.1), (6, 0.2), (9, 0.3), (12, 0.4)]
    rates = [learning_rate(RECIPE, step, 3) for step in range(12)]
    assert [float(row["lr"]) for row in rows if row["lr"]] == pytest.approx(rates, rel=5e-3)
    assert {int(row["epoch"]) for row in rows} == {0, 1, 2, 3}


def test_of_many_epochs_some_are_measured_and_the_last(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "MEASURES", 2)
    many = copy.copy(pictures)
    many.recipe = replace(RECIPE, epochs=5)
    fit(Linear(), many, Task(loss_of, lambda model: 0.5), tmp_path)
    assert [int(row["epoch"]) for row in rows_of(tmp_path) if row["metric"]] == [1, 3, 4]


def test_choices_are_made_on_the_end_of_the_training_list():
    pictures = list(range(30))
    assert split_records(pictures) == (pictures[:27], pictures[27:])
    assert [len(part) for part in split_records(list(range(5000)))] == [4800, 200]
    assert split_records(pictures[:5]) == (pictures[:5], [])


def test_trainings_log_their_measure_after_an_epoch(tmp_path):
    for train, name in ((train_bavit, "bavit"), (train_yolos, "yolos")):
        train(TINY, tmp_path / name, schedule=Schedule(max_steps=3))
        (measure,) = [float(row["metric"]) for row in rows_of(tmp_path / name) if row["metric"]]
        assert 0 <= measure <= 1


def test_a_detector_goes_on_from_another_one_with_classes_of_its_own(tmp_path, monkeypatch):
    def stored(name, **other):
        shape = replace(TINY, **other)
        new = create_yolos(class_names(shape.detector_data), **shape.detector_shape)
        return yolos.save_yolos(new, tmp_path / f"{name}.safetensors", bits=32)

    started = {}
    monkeypatch.setattr(
        detector_training, "fit_yolos", lambda model, data, dev, folder, identity, _: started.update(identity) or model
    )
    for path, own in ((stored("same"), 0), (stored("other", detector_data="voc2007"), 2)):
        torch.manual_seed(1)
        detector = train_yolos(TINY, tmp_path / "next", start=path)
        assert started["start"]
        start = yolos.load_yolos(path).state_dict()
        new = [name for name, value in detector.state_dict().items() if not torch.equal(value, start[name])]
        assert len(new) == own and all(name.startswith("class_labels_classifier.layers.2.") for name in new)
    with pytest.raises(ValueError, match=r"wide.safetensors doesn't fit"):
        train_yolos(TINY, tmp_path / "wide", start=stored("wide", num_detection_tokens=9))
