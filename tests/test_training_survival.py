"""Trainings survive: killed, interrupted, out of disk or split over processes, they end as if nothing had been."""

import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
import training_process
from safetensors import safe_open
from safetensors.torch import load_file
from test_training_loop import RECIPE, TINY, Linear, assert_same, loss_of, losses_of, pictures, poisoned, rows_of  # noqa: F401
from torch import nn
from torch.utils.data import DataLoader
from training_process import both, ended, free_port, start

from bavit_utils import config
from bavit_utils.data.records import class_names, load_records
from bavit_utils.training import loop
from bavit_utils.training.detector import detection_loss
from bavit_utils.training.loop import Task, fit
from bavit_utils.training.pictures import DetectionPictures, collate_detection
from bavit_utils.yolos import PrunedYolos, create_yolos


def step_of(folder) -> int:
    with safe_open(folder / "state.safetensors", "pt") as file:
        return json.loads(file.metadata()["step"])


def said(folder) -> str:
    return folder.with_name("said.txt").read_text()


def assert_same_training(a, b) -> None:
    one, other = (load_file(folder / "state.safetensors") for folder in (a, b))
    assert one.keys() == other.keys() and step_of(a) == step_of(b) == 12
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert rows_of(a) == rows_of(b)


@pytest.fixture(scope="module")
def whole(tiny_world, tmp_path_factory):
    """The folder of a training that nothing happened to: twelve steps, four epochs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert ended(start(folder)) == [0]
    return folder


# ---- killed


def test_a_training_killed_again_and_again_ends_as_one_never_killed(whole, tmp_path):
    folder = tmp_path / "killed" / "run"
    deaths = [  # point and its count in this process, the state that is left, whether a half-written file is
        ("writing", 1, None, True),  # the first is the log's
        ("forward", 2, 2, False),
        ("renaming", 1, 2, True),  # the state of step 3 is written, but not in its place; epoch 0 is not measured
        ("evaluation", 0, 3, False),
        ("renaming", 0, 3, True),  # the log is being rewritten
        ("writing", 2, 4, True),
        ("update", 1, 5, False),
    ]
    for point, count, left, stray in deaths:
        assert ended(start(folder, (point, count, signal.SIGKILL))) == [-signal.SIGKILL], said(folder)
        assert (step_of(folder) if left else None) == left
        assert bool(list(folder.glob("*.partial"))) == stray
    # Five steps without a state: they are done again, and their rows replaced.
    assert ended(start(folder, ("forward", 5, signal.SIGKILL), save_seconds=1e9)) == [-signal.SIGKILL]
    assert step_of(folder) == 5 and len(losses_of(folder)) == 10
    assert ended(start(folder)) == [0], said(folder)
    assert_same_training(whole, folder)
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == ["log.csv", "state.safetensors"]


# ---- interrupted


def test_an_interrupted_training_loses_nothing_and_says_how_to_go_on(whole, tmp_path):
    folder = tmp_path / "interrupted" / "run"
    stops = [  # point and its count in this process, signal, exit code, the step it stops at
        ("forward", 1, signal.SIGINT, 130, 1),
        ("update", 0, signal.SIGINT, 130, 2),  # the update isn't cut in two
        ("evaluation", 0, signal.SIGINT, 130, 3),
        ("evaluation", 0, signal.SIGTERM, 143, 3),
        ("forward", 2, signal.SIGTERM, 143, 5),
    ]
    for point, count, number, code, step in stops:
        assert ended(start(folder, (point, count, number), save_seconds=1e9)) == [code], said(folder)
        assert said(folder).splitlines()[-1] == f"stopped at step {step}; the same command goes on from there"
        assert step_of(folder) == step
    assert ended(start(folder, ("writing", 2, signal.SIGINT))) == [130] and step_of(folder) == 7
    assert ended(start(folder)) == [0], said(folder)
    assert_same_training(whole, folder)


def test_a_model_that_draws_random_numbers_goes_on_with_the_same_ones(pictures, tmp_path):  # noqa: F811
    def model():
        linear = Linear()
        linear.layer = nn.Sequential(nn.Dropout(0.5), linear.layer)
        return linear

    whole = fit(model(), pictures, Task(loss_of), tmp_path / "whole")
    fit(model(), pictures, Task(loss_of), tmp_path / "parts", max_steps=5)
    torch.manual_seed(5)
    assert_same(whole, fit(model(), pictures, Task(loss_of), tmp_path / "parts"))
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")


# ---- no room, damage, explosions


@contextmanager
def files_up_to(size: int):
    """A disk that takes no file beyond so many bytes: writing stops in the middle, as on a full one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size, file", [(2000, "state.safetensors"), (80, "log.csv")])
def test_a_full_disk_leaves_the_last_state_and_a_sentence(pictures, tmp_path, monkeypatch, size, file):  # noqa: F811
    whole = fit(Linear(), pictures, Task(loss_of), tmp_path / "whole")
    fit(Linear(), pictures, Task(loss_of), tmp_path / "full", max_steps=2)
    before = (tmp_path / "full" / "state.safetensors").read_bytes()
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    with files_up_to(size), pytest.raises(OSError, match=rf"full/{file} can't be written \(.+\): make room there"):
        fit(Linear(), pictures, Task(loss_of), tmp_path / "full")
    assert (tmp_path / "full" / "state.safetensors").read_bytes() == before
    assert not list((tmp_path / "full").glob("state.*.partial"))
    assert_same(whole, fit(Linear(), pictures, Task(loss_of), tmp_path / "full"))
    assert rows_of(tmp_path / "full") == rows_of(tmp_path / "whole")


@pytest.mark.parametrize("left", [0, 5, 2000])
def test_a_damaged_state_is_named(pictures, tmp_path, left):  # noqa: F811
    fit(Linear(), pictures, Task(loss_of), tmp_path, max_steps=1)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:left])
    with pytest.raises(ValueError, match=rf"{state} is damaged.*: restore it, or delete it and train anew"):
        fit(Linear(), pictures, Task(loss_of), tmp_path)
    state.unlink()
    fit(Linear(), pictures, Task(loss_of), tmp_path)
    assert len(losses_of(tmp_path)) == 12


def test_an_exploding_loss_names_its_step_and_keeps_the_last_state(pictures, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    with pytest.raises(FloatingPointError, match=r"the loss is \d{5,}\.\d+, its gradient .* at step 5: lower"):
        fit(Linear(), pictures, poisoned(lambda loss: loss * 1e5, at=5), tmp_path)
    assert step_of(tmp_path) == 5
    fit(Linear(), pictures, poisoned(lambda loss: loss * 1e3, at=5), tmp_path / "high")  # high, but no explosion
    assert step_of(tmp_path / "high") == 12


# ---- several processes


def test_two_processes_give_bavits_losses_of_one_and_go_on_together(whole, tmp_path):
    folder = tmp_path / "two" / "run"
    assert both(folder, save_seconds=1e9, max_steps=5) == [0, 0], said(folder)
    assert step_of(folder) == 5
    assert 130 in both(folder, save_seconds=1e9, signals=("forward", 2, signal.SIGINT))  # the second gets Ctrl-C
    assert step_of(folder) == 7, said(folder)  # the first one saves
    assert both(folder, save_seconds=1e9) == [0, 0], said(folder)
    assert_rounded(folder, whole)


def test_two_processes_give_the_detectors_losses_of_one(tiny_world, tmp_path):
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    assert ended(start(one, model="yolos")) == [0] and both(two, model="yolos") == [0, 0], said(two)
    assert_rounded(two, one)


def assert_rounded(a, b) -> None:
    """The same training up to rounding: its losses and weights, and a measure after the same steps."""
    assert len(losses_of(a)) == 12 and losses_of(a) == pytest.approx(losses_of(b), abs=1e-4)
    for one, other in zip(rows_of(a), rows_of(b), strict=True):
        assert (one["step"], bool(one["metric"])) == (other["step"], bool(other["metric"]))
    stored = load_file(b / "state.safetensors")
    for name, value in load_file(a / "state.safetensors").items():
        if name.startswith("model."):
            torch.testing.assert_close(value, stored[name], atol=1e-4, rtol=0)


def test_the_detectors_loss_in_one_process_is_transformers_own(tiny_world):
    torch.manual_seed(0)
    detector = PrunedYolos(create_yolos(class_names(TINY.detector_data), **TINY.detector_shape))
    records = load_records("sample", "train", 6)
    data = DetectionPictures(records, 64, RECIPE)
    pixels, targets = next(iter(DataLoader(data, 6, sampler=[(i, i) for i in range(6)], collate_fn=collate_detection)))
    targets[0] |= {name: targets[0][name][:0] for name in ("class_labels", "boxes")}  # a picture without an object
    output = detector(pixels, labels=targets)
    assert detection_loss(output, targets, detector.detector.config).item() == output.loss.item()
    empty = [targets[0]] * 6
    output = detector(pixels, labels=empty)
    assert detection_loss(output, empty, detector.detector.config).item() == output.loss.item()


@pytest.mark.slow
def test_the_command_killed_at_any_time_ends_as_one_never_killed(whole, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, training_process.__file__, str(config.CACHE), str(folder), "bavit"]
    for rows in (1, 4, 9):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not (folder / "log.csv").exists() or len(losses_of(folder)) < rows):
            time.sleep(0.002)
        process.kill()
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert_same_training(whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bavit", "yolos"])
def test_torchrun_starts_two_processes(tiny_world, tmp_path, model):
    one, two = tmp_path / "one" / "run", tmp_path / "two"
    assert ended(start(one, model=model)) == [0]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    command = [*launch, training_process.__file__, str(config.CACHE), str(two), model]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {"process 0 of 2", "process 1 of 2"} <= set(done.stdout.splitlines())
    assert_rounded(two, one)
