"""A place to run the long commands in: made-up data, tiny profiles, random checkpoints, nothing of the repository's."""

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from own_pictures import write_coco, write_voc

from bavit_utils import cli, config
from bavit_utils.bavit import create_bavit, save_bavit
from bavit_utils.config import DEPTHS, REPO, Profile, get_profile
from bavit_utils.data import pretrained, sample_world
from bavit_utils.data.records import COCO_CLASSES, VOC_CLASSES, class_names
from bavit_utils.experiments import benchmark, frontier
from bavit_utils.experiments import edge as edge_experiments
from bavit_utils.experiments import inside as inside_experiments
from bavit_utils.inside import PatchHead, save_heads
from bavit_utils.results import short_hash
from bavit_utils.selectors import comparison
from bavit_utils.selectors.heads import SELECTORS
from bavit_utils.training import loop
from bavit_utils.training.inside import LAYERS
from bavit_utils.verbs import bavit as bavit_verbs
from bavit_utils.verbs import inside as inside_verbs
from bavit_utils.verbs import yolos as yolos_verbs
from bavit_utils.weights import save_weights
from bavit_utils.yolos import create_yolos, save_yolos

FEW = {"train": 24, "val": 4}
OWN_FOLDER = Path("my") / "pictures"


def furnish(root: Path) -> None:
    """Made-up pictures where each data set is looked for, below `root`, which stands for the repository."""
    voc = root / "data" / "VOCdevkit"
    write_voc(voc / "VOC2007", {"train": 24, "test": 4}, VOC_CLASSES)
    write_voc(voc / "VOC2012", FEW, VOC_CLASSES, lists="Segmentation", masks=True)
    coco = root / "data" / "coco"
    write_coco(coco, FEW, COCO_CLASSES[:2], year="2017", masks=True)
    write_coco(root / OWN_FOLDER, FEW)
    shutil.copy(REPO / "README.md", root)
    shutil.copy(next((REPO / "data" / "photos" / "val").glob("*.jpg")), root / "photo.jpg")


def shrink(patch: pytest.MonkeyPatch) -> None:
    """All profiles at sizes that take no time: 36 and 64 patches, seven layers, epochs of a few pictures."""
    for name, profile in config._PROFILES.items():
        recipes = {
            key: replace(getattr(profile, key), epochs=1, batch_size=4, small_epochs=0)
            for key in ("bavit_recipe", "detector_recipe", "finetune_recipe")
        }
        sizes = {"bavit_img_size": 96, "detector_img_size": 128, "detector_depth": 7, "num_detection_tokens": 5}
        patch.setitem(config._PROFILES, name, replace(profile, **sizes, **recipes))
    patch.setattr(sample_world, "SIZES", ((64, 64),) * 3)
    patch.setattr(pretrained, "imagenet_blocks", lambda: None)
    patch.setattr(loop, "LOG_STEPS", 1)
    patch.setattr(yolos_verbs, "SWEEP_SPARSITIES", (0.35, 0.0))
    patch.setattr(comparison, "compare", partial(comparison.compare, sparsities=(0.35,)))
    patch.setattr(comparison, "N_BOOT", 20)
    patch.setattr(comparison, "BETWEEN", ())
    patch.setattr(comparison, "REPEATS", 1)
    patch.setattr(benchmark, "measure_peak_memory", lambda *args: {"peak_mb": 1.0})  # in a process of its own
    patch.setattr(edge_experiments, "measure_peak_memory", lambda *args: {"peak_mb": 1.0, "baseline_mb": 1.0})
    patch.setattr(inside_verbs, "STAGES", (3, 4, 6))
    for name in ("SPARSITIES", "FEW", "COARSE", "MERGED"):
        patch.setattr(inside_experiments, name, (0.5,))
    patch.setattr(frontier, "SPARSITIES", (0.5,))
    patch.setattr(bavit_verbs, "run_variant", partial(_tiny_variant, bavit_verbs.run_variant))


def _tiny_variant(run_variant, variant, *args):
    recipe = replace(variant.recipe, epochs=1, batch_size=4)
    return run_variant(replace(variant, img_size=64, depth=min(variant.depth, 2), recipe=recipe), *args)


def move_into(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Send all that is read and written below `root`; the bundled pictures alone stay the repository's."""
    data = root / "data"
    folders = {"REPO": root, "RUNS": root / "runs", "CACHE": data / "cache"}
    folders |= {"CHECKPOINTS": data / "checkpoints", "RESULTS": data / "results"}
    for name, folder in folders.items():
        patch.setattr(config, name, folder)
    patch.setenv("BAVIT_FIGURES_DIR", str(root / "figures"))
    patch.setenv("BAVIT_DATA_DIR", str(data))
    patch.delenv("BAVIT_PROFILE", raising=False)
    patch.chdir(root)


def fill_checkpoints(patch: pytest.MonkeyPatch) -> None:
    """Random weights for every profile's networks, where `move_into` has put the checkpoints' folder."""
    torch.manual_seed(0)
    with patch.context() as other:
        for name in ("sample", "voc", "voc-512", "coco", "own"):
            if name == "own":
                other.setenv("BAVIT_DATA_DIR", str(OWN_FOLDER))
            _fill(get_profile(name))


def _fill(profile: Profile) -> None:
    pairs = {(profile.pruner_data, profile.pruner_rule), (profile.bavit_data, profile.bavit_rule)}
    for (dataset, rule), (model, depth) in ((pair, item) for pair in pairs for item in DEPTHS.items()):
        made_for = {"dataset": dataset, "rule": rule, "profile": profile.name}
        save_bavit(create_bavit(depth, profile.bavit_img_size), profile.checkpoint(model, dataset, rule), made_for)
    made_for = {"dataset": profile.detector_data, "profile": profile.name}
    for model in ("yolos", "yolos-f", "yolos-control", "yolos-sparse"):
        detector = create_yolos(class_names(profile.detector_data), **profile.detector_shape)
        save_yolos(detector, profile.checkpoint(model), metadata=made_for)
    made_for["detector"] = short_hash(profile.checkpoint("yolos"))
    heads = [PatchHead(layer) for layer in LAYERS if layer < profile.detector_depth]
    save_heads(profile.checkpoint("heads"), heads, {**made_for, "seed": 0})
    for name, selector in SELECTORS.items():
        save_weights(profile.checkpoint(name), selector().state_dict(), {**made_for, "model": name})


def few(command: list[str]) -> list[str]:
    """A command of the documentation, kept short: a few pictures, one step, one round."""
    train = ["--limit", "20", "--max-steps", "1"]
    short = {
        "sample-world": ["--limit", "20"],
        "ablate": ["--limit", "20"],
        "ablate-yolos": ["--max-minutes", "0"],
        "sweep": ["--limit", "3"],
        "compare": ["--limit", "3"],
        "calibrate": ["--limit", "4"],
        "postprocess": ["--limit", "4"],
        "bench": ["--repeats", "1"],
        "bench-edge": ["--repeats", "1", "--limit", "3"],
    }
    short |= dict.fromkeys(("train-bavit", "train-yolos", "train-inside", "finetune", "train-selector"), train)
    return [*command, *short.get(command[0], [])]


def run(command: str, env: dict[str, str] | None = None) -> int:
    """One `bavit` command, kept short, in this process: what it returns."""
    before = dict(os.environ)
    os.environ.update(env or {})
    try:
        return cli.main(few(command.split()))
    finally:
        os.environ.clear()
        os.environ.update(before)
