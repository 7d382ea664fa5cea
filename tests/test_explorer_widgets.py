"""The threshold explorer, driven as the next cell of a notebook, or a hand, would drive it."""

import asyncio
import datetime
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_pictures import write_coco
from PIL import Image

from bavit_utils import config
from bavit_utils.config import get_profile
from bavit_utils.data.records import load_records
from bavit_utils.explorer import widgets
from bavit_utils.explorer.widgets import ThresholdExplorer
from bavit_utils.pruning import detector_keep
from bavit_utils.yolos import PrunedYolos

PROFILE = get_profile("sample")


@pytest.fixture(scope="module")
def once():
    torch.set_num_threads(1)
    return ThresholdExplorer(PROFILE)


@pytest.fixture
def explorer(once):
    """The same one for all tests, as it was in the beginning but for what it remembers."""
    once.source.value = once.source.options[0]
    once.picture.index, once.bavit.index, once.fill.value, once.resize.value = 0, 0, 0, "nearest"
    once.slider.value = 0.5
    return once


@pytest.fixture
def runs(monkeypatch):
    """Every run of a detector, as it happens."""
    seen, forward = [], PrunedYolos.forward
    monkeypatch.setattr(PrunedYolos, "forward", lambda *args, **kwargs: seen.append(1) or forward(*args, **kwargs))
    return seen


def drawn(view):
    return np.asarray(Image.open(io.BytesIO(view.value)).convert("RGB")).astype(int)


def upload(explorer, content, name):
    now = datetime.datetime.now()
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": now}
    explorer.upload.value = (file,)


def a_file(kind="png", **options):
    buffer = io.BytesIO()
    Image.effect_noise((90, 60), 80).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def test_moving_the_slider_changes_numbers_and_views(explorer):
    explorer.slider.value = 1.0
    assert explorer.summary().startswith("sparsity 0%, 256 of 256 patches kept, 100% of the foreground kept")
    views = explorer.map_view, explorer.keep_view, explorer.pruned_view
    whole, numbers, bar = [drawn(view) for view in views], explorer.numbers.value, explorer.bar.value
    explorer.slider.value = 0.0
    assert explorer.summary().startswith("sparsity 100%, 0 of 256 patches kept, 0% of the foreground kept")
    assert all(np.abs(drawn(view) - before).mean() > 1 for view, before in zip(views, whole))
    assert drawn(explorer.pruned_view).mean() > drawn(explorer.dense_view).mean() + 50
    assert explorer.numbers.value != numbers and explorer.bar.value != bar


@pytest.mark.parametrize(("fill", "resize"), [(0, "nearest"), (3, "nearest"), (0, "bilinear"), (2, "any")])
def test_keep_is_the_same_as_the_sweeps(explorer, fill, resize):
    before = explorer.keep()
    explorer.fill.value, explorer.resize.value = fill, resize
    fg_prob = explorer._pruner.map(explorer._chosen)
    expected = detector_keep(fg_prob, 0.5, PROFILE.detector_grid, fill, resize)
    assert torch.equal(explorer.keep(), expected) and 0 < expected.float().mean() < 1
    assert torch.equal(before, expected) == (fill == 0 and resize == "nearest")
    assert f"{int(expected.sum())} of 256 kept" in explorer.numbers.value


def test_thresholds_go_from_all_to_nothing_in_ever_finer_steps(explorer):
    values = [value for _, value in explorer.slider.options]
    assert values == sorted(set(values)) and values[0] == 0 and values[-1] == 1 and {0.5, 0.9} < set(values)
    assert sum(value > 0.99 for value in values) > 40


def test_choosing_another_picture_or_model_shows_it(explorer):
    before = [drawn(view).mean() for view in (explorer.map_view, explorer.dense_view)]
    explorer.picture.index = 5
    assert all(abs(drawn(v).mean() - b) > 1 for v, b in zip((explorer.map_view, explorer.dense_view), before))
    small = explorer.summary()
    assert [name.split(",")[0] for name in explorer.bavit.options[:2]] == ["BAViT-small", "BAViT-large"]
    explorer.bavit.index = 1
    assert explorer.summary() != small


def test_another_source_brings_a_model_that_knows_such_images_and_keeps_a_choice_within_it(explorer):
    explorer.bavit.index = 1
    explorer.picture.index = 1
    assert explorer.bavit.index == 1
    explorer.source.value = "photographs"
    assert "trained on sample" not in explorer.bavit.value and "of the foreground kept" in explorer.summary()
    assert "learnt from" not in explorer.message.value
    explorer.bavit.index = 0
    assert "learnt from drawn scenes, and this is a photograph" in explorer.message.value
    explorer.picture.index = 2
    assert explorer.bavit.index == 0
    explorer.source.value = "sample world"
    assert explorer.bavit.index == 0 and "learnt from" not in explorer.message.value


def test_a_photograph_without_objects_is_explored_like_any_other(explorer):
    explorer.source.value = "photographs"
    explorer.picture.value = "226111: no objects"
    assert "of the foreground" not in explorer.summary() and "no object here" in explorer.numbers.value
    explorer.slider.value = 1.0
    assert explorer.summary().startswith("sparsity 0%")


def test_a_data_set_without_images_or_objects_is_no_error(monkeypatch, tmp_path):
    bare = {"train": 3, "val": 2}
    write_coco(tmp_path, bare)
    for split in bare:
        path = tmp_path / "annotations" / f"{split}.json"
        content = json.loads(path.read_text()) | {"annotations": []}
        path.write_text(json.dumps(content))
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    explorer = ThresholdExplorer(get_profile("own"))
    assert explorer.source.value == "own, val" and explorer.picture.value.endswith(": no objects")
    assert "no object here" in explorer.numbers.value and "patches kept" in explorer.summary()
    path.write_text(json.dumps(content | {"images": []}))
    explorer = ThresholdExplorer(get_profile("own"))
    assert explorer.source.options == ("photographs", "sample world") and "No images of own" in explorer.message.value


def test_nothing_runs_twice(explorer, runs):
    explorer.picture.index = 6
    explorer.slider.value, explorer.slider.value = 1.0, 0.0
    assert len(runs) == 4  # the dense one, and three keep masks
    explorer.slider.value = 1.0
    explorer.picture.index = 0
    explorer.picture.index = 6
    explorer.summary()
    explorer.settle()
    assert len(runs) == 4


def test_the_detector_waits_for_the_hand_to_rest(explorer, runs, monkeypatch):
    monkeypatch.setattr(widgets, "_REST_SECONDS", 0.05)
    explorer.picture.index = 7
    runs.clear()

    async def drag():
        seen = set()
        for index in range(100, 130):
            explorer.slider.index = index
            seen.add(explorer.keep_view.value)
        assert not runs and "bavit-stale" in explorer.pruned_view._dom_classes and len(seen) > 5
        assert "…" in explorer.numbers.value
        await asyncio.sleep(0.2)

    asyncio.run(drag())
    assert len(runs) == 1 and "bavit-stale" not in explorer.pruned_view._dom_classes
    assert "…" not in explorer.numbers.value

    async def settle():
        explorer.slider.value = 1.0
        explorer.settle()
        assert len(runs) == 2 and "bavit-stale" not in explorer.pruned_view._dom_classes

    asyncio.run(settle())


def test_an_upload_is_shown_and_a_bad_one_gets_a_sentence(explorer):
    before = drawn(explorer.keep_view)
    upload(explorer, a_file(), "mine.png")
    assert explorer.source.value == "your own images" and explorer.picture.value == "1: mine.png"
    after = drawn(explorer.keep_view)
    assert after.shape != before.shape and explorer.upload.value == ()
    upload(explorer, a_file("jpeg")[:1000], "<b>half.jpg")
    assert "&lt;b&gt;half.jpg is truncated or no picture" in explorer.message.value
    assert explorer.picture.value == "1: mine.png" and np.array_equal(drawn(explorer.keep_view), after)
    upload(explorer, a_file(), "mine.png")
    assert explorer.picture.value == "2: mine.png" and "truncated" not in explorer.message.value


def test_what_a_notebook_stores_holds_no_time(explorer):
    assert repr(explorer) == "ThresholdExplorer(profile sample)"
    assert " ms" in explorer.numbers.value and " ms" not in explorer.summary()


def test_a_picture_that_went_missing_gets_a_sentence(explorer, monkeypatch, tmp_path):
    broken = replace(load_records("sample", "val", 1)[0], image_path=tmp_path / "gone.jpg")
    monkeypatch.setitem(explorer._sources, "other", {"gone": broken.image})
    explorer.source.options = tuple(explorer._sources)
    explorer.source.value = "other"
    assert "gone.jpg is missing" in explorer.message.value
    monkeypatch.undo()
    explorer.source.options = tuple(explorer._sources)


def test_without_detector_and_data_it_says_so_and_shows_the_patches(monkeypatch, tmp_path):
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    explorer = ThresholdExplorer(get_profile("coco"))
    assert "No images of coco: " in explorer.message.value and "set BAVIT_DATA_DIR" in explorer.message.value
    explorer.bavit.value = "BAViT-small, trained on coco, 384 px"
    assert "No boxes: the published YOLOS-tiny" in explorer.message.value
    assert [panel.layout.display for panel in explorer._boxes] == ["none", "none"]
    assert "detected" not in explorer.summary() and " of 1024 patches kept" in explorer.summary()
    explorer.settle()
    assert drawn(explorer.keep_view).size


def test_without_any_bavit_there_is_a_sentence_and_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path)
    explorer = ThresholdExplorer(PROFILE)
    explorer.slider.value = 1.0
    explorer.settle()
    assert explorer.summary() == "no BAViT here"
    assert "No BAViT is here: `bavit train-bavit --profile sample --store`" in explorer.message.value
