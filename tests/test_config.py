"""Profiles are consistent in themselves, and are found by name or through the environment."""

from dataclasses import FrozenInstanceError

import pytest

from bavit_utils.config import CHECKPOINTS, DEPTHS, EVAL_SPLIT, PATCH_SIZE, REPO, data_dir, figures_dir, get_profile
from bavit_utils.data.records import SPLITS, class_names
from bavit_utils.paper import PAPER_SPARSITIES

NAMES = ("sample", "voc", "coco")


def test_the_profile_is_named_or_in_the_environment_or_sample(monkeypatch):
    monkeypatch.delenv("BAVIT_PROFILE", raising=False)
    assert get_profile().name == "sample"
    monkeypatch.setenv("BAVIT_PROFILE", "")
    assert get_profile().name == "sample"
    monkeypatch.setenv("BAVIT_PROFILE", "voc")
    assert get_profile().name == "voc" and get_profile("coco").name == "coco"


def test_an_unknown_profile_names_the_known_ones(monkeypatch):
    with pytest.raises(
        ValueError, match="unknown profile 'imagenet': choose one of sample, voc-512, coco, voc, own, by name"
    ):
        get_profile("imagenet")
    monkeypatch.setenv("BAVIT_PROFILE", "nonsense")
    with pytest.raises(ValueError, match="'nonsense'.*in BAVIT_PROFILE"):
        get_profile()


@pytest.mark.parametrize("name", NAMES)
def test_data_sets_and_splits_exist_and_training_never_sees_the_evaluation_split(name):
    profile = get_profile(name)
    assert {profile.bavit_data, profile.pruner_data, profile.detector_data} <= SPLITS.keys()
    assert {profile.bavit_rule, profile.pruner_rule} <= {"mask", "box"}
    for dataset, split in (*((name, "train") for name in profile.detector_train), profile.detector_eval):
        assert split in SPLITS[dataset]
    assert not profile.detector_eval[1].startswith("train")
    assert profile.detector_eval == (profile.detector_data, EVAL_SPLIT[profile.detector_data])


def test_every_data_set_has_an_evaluation_split_apart_from_its_training_split():
    assert EVAL_SPLIT.keys() == SPLITS.keys()
    assert all(split in SPLITS[dataset] and split != "train" for dataset, split in EVAL_SPLIT.items())


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_whole_patches(name):
    profile = get_profile(name)
    assert profile.bavit_grid == (profile.bavit_img_size // PATCH_SIZE,) * 2
    assert profile.detector_grid == (profile.detector_img_size // PATCH_SIZE,) * 2
    sizes = profile.bavit_img_size, profile.detector_img_size, profile.detector_recipe.small_img_size
    assert all(size % PATCH_SIZE == 0 for size in sizes)
    assert profile.detector_recipe.small_epochs < profile.detector_recipe.epochs


def test_two_profiles_have_the_papers_sizes_and_the_others_half_of_them():
    for profile in map(get_profile, ("voc-512", "coco")):
        assert (profile.bavit_grid, profile.detector_grid) == ((24, 24), (32, 32))
        assert (profile.detector_depth, profile.num_detection_tokens) == (12, 100)
    assert get_profile("sample").bavit_grid == (12, 12) and get_profile("sample").detector_grid == (16, 16)
    assert DEPTHS == {"bavit-small": 2, "bavit-large": 10}


def test_sparsities_are_the_papers_from_most_to_none():
    assert len(PAPER_SPARSITIES) == 11
    assert list(PAPER_SPARSITIES) == sorted(PAPER_SPARSITIES, reverse=True) and PAPER_SPARSITIES[-1] == 0


def test_a_profile_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        get_profile("sample").bavit_img_size = 384


def test_checkpoints_are_named_by_model_data_set_and_rule():
    sample, voc = get_profile("sample"), get_profile("voc-512")
    assert sample.checkpoint("bavit-small") == CHECKPOINTS / "bavit-small-sample-mask.safetensors"
    assert sample.checkpoint("yolos") == CHECKPOINTS / "yolos-sample.safetensors"
    assert voc.checkpoint("bavit-large").name == "bavit-large-voc2007-box.safetensors"  # what prunes, not what is shown
    half = get_profile("voc")  # the same data, at another size
    assert half.checkpoint("bavit-small").name == "bavit-small-voc2007-box-256.safetensors"
    assert half.checkpoint("yolos").name == "yolos-voc2007-256.safetensors"
    assert (half.bavit_grid, half.detector_grid) == (sample.bavit_grid, sample.detector_grid)
    assert voc.checkpoint("bavit-small", "voc2012", "mask").name == "bavit-small-voc2012-mask.safetensors"
    assert voc.checkpoint("yolos-f").name == "yolos-f-voc2007.safetensors"


def test_data_folder_is_ours_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("BAVIT_DATA_DIR", raising=False)
    assert data_dir() == REPO / "data"
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BAVIT_DATA_DIR", "~/pictures")
    assert data_dir() == tmp_path / "pictures"


def test_figures_folder_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path / "figures"))
    assert figures_dir(get_profile("voc-512")) == tmp_path / "figures" / "voc-512"
    assert (tmp_path / "figures" / "voc-512").is_dir()


def test_a_profile_knows_how_many_classes_its_detector_has():
    for name in ("sample", "voc", "voc-512", "coco"):
        profile = get_profile(name)
        assert profile.num_labels == len(class_names(profile.detector_data))
