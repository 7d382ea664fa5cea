"""The verbs of `bavit` about pruning inside the detector: its heads, the joint training, and the comparison."""

import argparse
from pathlib import Path

import torch
from accelerate import PartialState

from ..config import Profile, get_profile, run_folder
from ..data.pretrained import profile_detector
from ..data.records import load_records, load_training_lists
from ..experiments.inside import SPARSITIES, Comparison, Point, measure_times, points
from ..results import store, short_hash
from ..training.adaptive import learn_thresholds
from ..training.curves import store_curve
from ..training.detector import detection_records
from ..training.inside import LAYERS, train_heads, tune_inside
from ..training.pictures import DetectionPictures
from ..yolos import load_heads, load_yolos, save_heads, save_yolos
from . import shown

LAYER = 4  # after which the comparison prunes, but for the rows that vary it
STAGES = (3, 6, 9)  # of the learnt thresholds
TUNED = ("yolos-f", "yolos-control")  # and whatever `train-inside` has left


def train(args: argparse.Namespace) -> None:
    """Train the detector to prune inside: heads on its frozen layers, or, with --way, the detector too.

    --way inside trains detector and head together; random and resolution are its controls, which are kept in runs/.
    """
    profile = get_profile(args.profile)
    if args.way == "frozen":
        detector, path = profile_detector(profile)
        heads = train_heads(profile, detector.requires_grad_(False), args.seed, args.limit)
        target = (profile.checkpoint("heads") if args.store else run_folder(f"heads-{profile.name}") / "model.safetensors")
        save_heads(target, heads.values(), {"detector": short_hash(path), "seed": args.seed})
        print(f"the heads are in {target.parent.name}/{target.name}")
        return
    stops = {"max_steps": args.max_steps, "max_minutes": args.max_minutes}
    detector, head, folder, made_from = tune_inside(profile, args.way, args.at, args.seed, None, args.limit, stops)
    if not PartialState().is_main_process:
        return
    name = f"yolos-{args.way}-{args.at}"
    keep = args.store and args.way == "inside"
    target = profile.checkpoint(name) if keep else folder / "model.safetensors"
    save_yolos(detector, target, bits=8, metadata=made_from)
    if head:
        save_heads(_heads_of(target), [head], {"detector": short_hash(target), "seed": args.seed})
    print(f"the detector is in {target.parent.name}/{target.name}")
    if args.store:
        lists = [load_training_lists(dataset, args.limit) for dataset in profile.detector_train]
        seen = {split: records for part in lists for split, records in part.items()}
        source = store(f"inside-{profile.name}", f"{name}-training", [], seen, [target])
        store_curve(folder, name + profile.suffix, source | made_from)


def _heads_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("yolos", "heads").replace("model", "heads"))


def compare(args: argparse.Namespace) -> None:
    """Compare pruning inside with all that costs as much: AP, multiply-adds and time (`inside-<profile>.json`)."""
    profile = get_profile(args.profile)
    _, dev = detection_records(profile)
    held_out = load_records(*profile.detector_eval, args.limit)
    detectors, heads, files = {}, {}, []
    for name, path in _at_hand(profile).items():
        detectors[name] = load_yolos(path)
        file = profile.checkpoint("heads") if name == "yolos" else _heads_of(path)
        if name == "yolos" or file.exists():
            heads[name] = load_heads(file, short_hash(path))
        files.append(path)
    learnt = {s: _adaptive(profile, detectors["yolos"], heads["yolos"], s) for s in SPARSITIES}
    comparison = Comparison(profile, detectors, heads, dev, held_out, learnt)
    every = points(profile, LAYER, [k for k in LAYERS if k < 9], [name for name in detectors if name != "yolos"])
    every += [Point("adaptive", sparsity=s, stages=STAGES) for s in SPARSITIES]
    rows = []
    for point in every:
        rows.append(comparison.row(point))
        row = rows[-1]
        print(
            f"{row['method']} {row['trained']} {row['sparsity']:.2f}: {row['gmacs']:.3f} GMAC, "
            f"AP {shown(row['AP'])} ({shown(row['delta_AP'], '+.4f')})",
            flush=True,
        )
        if args.store:
            store(f"inside-{profile.name}", "comparison", rows, {"/".join(profile.detector_eval): held_out}, files)


def _adaptive(profile: Profile, detector, heads: dict, sparsity: float) -> list:
    """Heads at learnt thresholds that cost as much as one after LAYER at this sparsity."""
    train, _ = detection_records(profile)
    data = DetectionPictures(train[:1000], profile.detector_img_size, profile.finetune_recipe)
    budget = 1 - sparsity * (1 - LAYER / profile.detector_depth)
    learnt, reached = learn_thresholds(detector, [heads[k] for k in STAGES], data, budget)
    told = ", ".join(f"{head.threshold:.3f}" for head in learnt)
    print(f"learnt thresholds {told}: {reached:.3f} of the patches computed, wanted {budget:.3f}", flush=True)
    return learnt


def _at_hand(profile: Profile) -> dict[str, Path]:
    """Detectors by name: the stored ones, and those that trainings left in runs/."""
    found = {"yolos": profile_detector(profile)[1]}
    for name in TUNED:
        if profile.checkpoint(name).exists():
            found[name] = profile.checkpoint(name)
    end = f"-{profile.detector_data}{profile.suffix}-seed0"
    for folder in sorted(run_folder("").glob(f"yolos-*{end}")):
        name = folder.name.removesuffix(end)
        stored = profile.checkpoint(name)
        path = stored if stored.exists() else folder / "model.safetensors"
        if path.exists() and name not in found:
            found[name] = path
    return found
