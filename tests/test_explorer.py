"""What the threshold explorer computes, and which pictures and models it offers."""

import numpy as np
import pytest
import torch

from bavit_utils import config, cost
from bavit_utils.annotations import labels_for
from bavit_utils.config import get_profile
from bavit_utils.explorer import compute
from bavit_utils.explorer.compute import Detector, Found, Pruner, choices, matched
from bavit_utils.explorer.pictures import Picture, picture_sources
from bavit_utils.inside import PatchHead

PROFILE = get_profile("sample")


@pytest.fixture(scope="module")
def pruner():
    torch.set_num_threads(1)
    return Pruner(PROFILE, "bavit-small", Detector(PROFILE))


@pytest.fixture(scope="module")
def scene():
    return next(iter(picture_sources(PROFILE)[0]["sample world"].values()))()


def test_numbers_are_the_papers_arithmetic(pruner, scene):
    keep = torch.zeros(1, 16, 16, dtype=torch.bool)
    keep[:, :, :4] = True
    numbers = pruner.numbers(scene, keep)
    row = cost.token_table(0.75, PROFILE).iloc[0]
    assert (numbers.sparsity, numbers.kept, numbers.patches) == (0.75, 64, 256)
    assert (numbers.tokens, numbers.dense_tokens) == (row.tokens_total, row.tokens_yolos)
    assert numbers.gmacs == cost.multiply_adds(64, PROFILE) / 1e9
    truth = labels_for(scene.record, PROFILE.detector_grid, PROFILE.pruner_rule) == 1
    assert numbers.fg_recall == pytest.approx(truth[:, :4].sum() / truth.sum())


def test_found_boxes_are_shares_of_the_picture_and_pruning_changes_them(pruner, scene):
    dense = pruner.detector.found(scene)
    assert dense.names and dense.boxes.shape == (len(dense.names), 4)
    assert dense.boxes.min() > -0.1 and dense.boxes.max() < 1.1 and dense.ms > 0
    nothing = pruner.detector.found(scene, torch.zeros(1, 16, 16, dtype=torch.bool))
    assert nothing.names != dense.names
    everything = pruner.detector.found(scene, torch.ones(1, 16, 16, dtype=torch.bool))
    assert everything.names == dense.names and all(matched(dense, everything))


def test_the_measured_time_counts_bavit(pruner, scene):
    keep = pruner.keep(scene, 0.5)
    assert pruner.measured_ms(scene, keep) > pruner.detector.found(scene, keep).ms


def test_matched_wants_class_and_half_the_overlap():
    boxes = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0.5, 0.5, 1]])
    one = Found(boxes, ["cat", "dog", "cat"], 1.0)
    moved = boxes + torch.tensor([0.05, 0.0, 0.05, 0.0])
    other = Found(moved[[0, 1]], ["cat", "cat"], 1.0)
    assert matched(one, other) == [True, False, False]
    assert matched(one, Found(torch.zeros(0, 4), [], 1.0)) == [False] * 3 and matched(other, one) == [True, False]


def test_the_truth_of_a_photograph_is_what_the_model_was_trained_to_keep(pruner):
    sources, missing = picture_sources(PROFILE)
    assert not missing and list(sources) == ["sample world", "photographs"] and len(sources["photographs"]) == 40
    photograph = sources["photographs"]["214753: 4 objects"]()
    assert not photograph.drawn and pruner.truth(photograph).sum() > 0
    known = next(name for name, (profile, _) in choices(PROFILE).items() if profile.name == "voc-512")
    for_voc = Pruner(*choices(PROFILE)[known], None)
    cake = next(decode() for name, decode in sources["photographs"].items() if name.startswith("551780"))
    assert cake.record.boxes.size and not (for_voc.truth(cake) == 1).any()  # nothing of VOC's classes
    assert np.isnan(for_voc.numbers(cake, for_voc.keep(cake, 0.5)).fg_recall)
    assert (for_voc.truth(photograph) == 1).any()


def test_without_a_record_the_truth_is_not_known(pruner, scene):
    own = Picture(("your own", "1"), scene.image)
    assert pruner.truth(own) is None and pruner.numbers(own, pruner.keep(own, 0.5)).fg_recall is None


def test_scenes_with_a_few_objects_come_first_and_none_is_lost():
    scenes = picture_sources(PROFILE)[0]["sample world"]
    assert len(scenes) == 200
    counts = [int(name.split(": ")[1].split()[0].replace("no", "0")) for name in scenes]
    few = [2 <= count <= 4 for count in counts]
    assert few == sorted(few, reverse=True) and True in few and False in few


def test_a_folder_of_real_pictures_is_offered(real_data):
    sources, missing = picture_sources(get_profile("voc-512"))
    assert not missing and list(sources) == ["voc2007, test", "photographs", "sample world"]
    picture = next(iter(sources["voc2007, test"].values()))()
    assert picture.record.dataset == "voc2007" and not picture.drawn


def test_choices_are_what_is_stored_the_profiles_own_first(monkeypatch, tmp_path):
    assert list(choices(PROFILE).values())[:2] == [(PROFILE, "bavit-small"), (PROFILE, "bavit-large")]
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path)
    assert choices(PROFILE) == {}
    coco = get_profile("coco")
    coco.checkpoint("bavit-large").touch()
    assert choices(PROFILE) == {"BAViT-large, trained on coco, 384 px": (coco, "bavit-large")}


def test_a_missing_detector_is_told_with_the_remedy(monkeypatch, tmp_path):
    assert Detector.missing(PROFILE) is None
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path)
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    said = Detector.missing(get_profile("voc-512"))
    assert "yolos-voc2007.safetensors isn't here" in said and "bavit train-yolos --profile voc-512 --store" in said
    assert "bavit download yolos-tiny" in Detector.missing(get_profile("coco"))
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "weights" / "yolos-tiny").mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights" / "yolos-tiny" / name).touch()
    assert Detector.missing(get_profile("coco")) is None


def test_a_head_inside_prunes_after_its_layers_and_costs_no_second_network(pruner, scene, monkeypatch):
    head = PatchHead(4).eval()
    monkeypatch.setattr(compute, "load_heads", lambda path, detector: {4: head})
    inside = Pruner(PROFILE, "inside-4", pruner.detector)
    probability = inside.map(scene)
    assert probability.shape == (1, *PROFILE.detector_grid)
    keep = inside.keep(scene, 1 - probability.median().item())
    numbers, patches = inside.numbers(scene, keep), keep.numel()
    assert numbers.tokens == 4 * patches + (PROFILE.detector_depth - 4) * keep.sum()
    assert numbers.gmacs == pytest.approx(cost.multiply_adds(keep.sum(), PROFILE, None, after_layers=4) / 1e9)
    assert not inside.detector.knows(scene, keep, 4)
    found = inside.found(scene, keep)
    assert inside.detector.knows(scene, keep, 4) and inside.measured_ms(scene, keep) == found.ms
    assert not pruner.detector.knows(scene, keep)  # in front the same mask is another one
