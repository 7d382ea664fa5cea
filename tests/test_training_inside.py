"""Heads on a detector's layers, the joint training's head and its control, and learnt thresholds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bavit_utils.annotations import labels_from_boxes
from bavit_utils.config import get_profile
from bavit_utils.data.records import class_names, load_records
from bavit_utils.inside import PatchHead, heads_of, load_heads, save_heads, tokens_after
from bavit_utils.training import inside
from bavit_utils.training.adaptive import learn_thresholds, move_to_budget
from bavit_utils.training.inside import SHARES, LearningHead, RandomHead, train_head
from bavit_utils.training.loop import Schedule
from bavit_utils.training.pictures import DetectionPictures
from bavit_utils.yolos import PrunedYolos, create_yolos, save_yolos

TINY = replace(get_profile("sample"), detector_img_size=64, detector_depth=3, num_detection_tokens=5, bavit_img_size=48)
TARGETS = [{"step": 7, "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]), "class_labels": torch.tensor([0])}] * 2


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    detector = create_yolos(class_names("sample"), **TINY.detector_shape)
    for name, parameter in detector.named_parameters():
        if "embeddings" in name and "projection" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return detector.eval()


@pytest.fixture(scope="module")
def records():
    return load_records("sample", "val", 24)


def test_tokens_are_those_that_the_layers_give(detector, records):
    images = [record.image() for record in records[:3]]
    tokens = tokens_after(detector, images, [1, 3], side=64)
    assert tokens[1].shape == (3, 4, 4, 192) and tokens[1].dtype == torch.float16
    again = tokens_after(detector, images, [3])[3]
    torch.testing.assert_close(tokens[3], again)
    assert (tokens[1] - tokens[3]).abs().max() > 0.01


def test_a_head_learns_what_tokens_say():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(40, 4, 4, 192, generator=generator).half()
    labels = (tokens[..., 3] > 0).long()
    labels[0] = -100
    head = train_head(tokens, labels, 2)
    predicted = head(tokens.float()).argmax(-1)
    assert (predicted == labels)[1:].float().mean() > 0.85 and head.after_layers == 2


def test_heads_are_stored_with_their_layers_for_their_detector_alone(tmp_path):
    heads = [PatchHead(1, 0.7), PatchHead(4)]
    path = save_heads(tmp_path / "heads.safetensors", heads, {"detector": "abc"})
    loaded = load_heads(path, "abc")
    assert {key: head.threshold for key, head in loaded.items()} == {1: 0.7, 4: 1.0}
    torch.testing.assert_close(loaded[4].score.weight, heads[1].score.weight)
    with pytest.raises(ValueError, match="another detector"):
        load_heads(path, "abd")
    detector = save_yolos(create_yolos(["a"], 32, 1, 2), tmp_path / "yolos.safetensors")
    with pytest.raises(ValueError, match="not a heads checkpoint"):
        load_heads(detector, "abc")


@pytest.mark.parametrize("make", [LearningHead, RandomHead])
def test_every_picture_keeps_as_many_and_the_share_is_the_steps(make):
    head = make(1).train()
    tokens, everything = torch.randn(2, 4, 4, 192), torch.ones(2, 4, 4, dtype=torch.bool)
    seen = set()
    for step in range(60):
        head.begin([{"step": step}])
        share = head.share
        head.begin([{"step": step}])
        assert head.share == share
        seen.add(share)
        assert head.keep(tokens, everything).flatten(1).sum(1).tolist() == [round((1 - share) * 16)] * 2
    assert seen == set(SHARES)
    assert head.eval().keep(tokens, everything).flatten(1).sum(1).tolist() == [8, 8]


def test_the_learning_head_keeps_its_best_and_learns_the_box_labels():
    head = LearningHead(1).eval()
    tokens = torch.randn(2, 4, 4, 192)
    kept = head.keep(tokens, torch.ones(2, 4, 4, dtype=torch.bool))
    scores = head(tokens).diff(dim=-1)[..., 0]
    assert scores[kept].min() > scores[~kept].max() or all(s[k].min() > s[~k].max() for s, k in zip(scores, kept))
    labels = labels_from_boxes(np.array([[16.0, 16, 48, 48]]), (64, 64), (4, 4))
    wanted = torch.nn.functional.cross_entropy(
        head.logits.flatten(0, 2), torch.from_numpy(np.stack([labels] * 2)).flatten()
    )
    torch.testing.assert_close(head.loss(TARGETS), wanted)


@pytest.mark.parametrize(
    ("detector", "heads"),
    [
        ("yolos-sparse-voc2007-256", "heads-sparse-voc2007-256"),
        ("yolos-own-yolos-data", "heads-own-yolos-data"),
        ("yolos-own-model", "heads-own-model"),
        ("model", "heads"),
    ],
)
def test_heads_lie_beside_their_detector_whatever_its_pictures_folder_is_called(tmp_path, detector, heads):
    assert heads_of(tmp_path / f"{detector}.safetensors") == tmp_path / f"{heads}.safetensors"


def test_the_control_has_nothing_to_learn_and_draws_anew():
    head = RandomHead(1)
    tokens, everything = torch.randn(2, 4, 4, 192), torch.ones(2, 4, 4, dtype=torch.bool)
    assert not list(head.parameters())
    assert not torch.equal(head.keep(tokens, everything), head.keep(tokens, everything))
    assert head.loss(TARGETS) == 0


@pytest.mark.parametrize(("way", "at"), [("inside", 2), ("random", 2), ("resolution", 48)])
def test_detectors_are_tuned_in_each_way(detector, records, way, at, tmp_path, monkeypatch):
    start = save_yolos(detector, tmp_path / "yolos-sample.safetensors", bits=32)
    monkeypatch.setattr(inside, "profile_detector", lambda profile, name: (create_copy(detector), start))
    monkeypatch.setattr(inside, "detection_records", lambda profile, limit: (records, []))
    monkeypatch.setattr(inside, "run_folder", lambda name: tmp_path / name)
    recipe = replace(TINY.finetune_recipe, epochs=1, batch_size=8, mixed_precision="no", compiled=False)
    quick = replace(TINY, finetune_recipe=recipe)
    tuned, head, folder, made_from = inside.tune_inside(quick, way, at, "yolos-sparse", Schedule(max_steps=2))
    changed = [not torch.equal(a, b) for a, b in zip(tuned.parameters(), detector.parameters())]
    assert any(changed) and (head is not None) == (way == "inside")
    assert (made_from["way"], made_from["at"]) == (way, at) and (folder / "log.csv").exists()
    assert folder.name == f"yolos-sparse-{way}-{at}-sample-seed0"


def create_copy(detector):
    copied = create_yolos(class_names("sample"), **TINY.detector_shape)
    copied.load_state_dict(detector.state_dict())
    return copied


@pytest.mark.parametrize(("way", "at"), [("inside", 3), ("inside", 0), ("resolution", 50)])
def test_what_does_not_fit_is_said(detector, way, at, monkeypatch):
    monkeypatch.setattr(inside, "profile_detector", lambda profile, name: (detector, "nowhere"))
    with pytest.raises(ValueError, match="doesn't fit"):
        inside.tune_inside(TINY, way, at)


def test_learnt_thresholds_reach_the_budget(detector, records, monkeypatch):
    from bavit_utils.training import adaptive

    monkeypatch.setattr(adaptive, "STEPS", 40)
    monkeypatch.setattr(adaptive, "RATE", 0.15)
    torch.manual_seed(2)
    heads = [PatchHead(1).eval(), PatchHead(2).eval()]
    recipe = replace(TINY.finetune_recipe, batch_size=8)
    data = DetectionPictures(records, TINY.detector_img_size, recipe)
    before = [head.threshold for head in heads]
    learnt = learn_thresholds(detector, heads, data, budget=0.7)
    assert [head.threshold for head in heads] == before and all(0 < head.threshold < 1 for head in learnt)
    kept = []

    class Watched(PrunedYolos):
        def _prune(self, *args):
            pruned = super()._prune(*args)
            kept.append(pruned[-1].float().mean().item())
            return pruned

    pixels = torch.stack([data[i, 100 + i][0] for i in range(24)])
    with torch.no_grad():
        Watched(detector, learnt).eval()(pixels)
    assert (1 + kept[0] + kept[1]) / 3 == pytest.approx(0.7, abs=0.1)
    moved, reached = move_to_budget(detector, learnt, [record.image() for record in records], budget=0.6)
    assert reached == pytest.approx(0.6, abs=0.03)
    shifts = [math.log(1 / b.threshold - 1) - math.log(1 / a.threshold - 1) for a, b in zip(learnt, moved)]
    assert shifts[0] == pytest.approx(shifts[1]) and shifts[0] > 0
