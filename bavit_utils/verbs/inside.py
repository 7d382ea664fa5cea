"""The verbs of `bavit` about pruning inside the detector: its heads, the joint training, and the comparison."""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
from transformers import YolosForObjectDetection

from ..annotations import stacked_labels
from ..config import Profile, get_profile, run_folder
from ..data.pretrained import profile_detector
from ..data.records import load_records, load_training_lists
from ..experiments.frontier import frontier, measure_times, paired_choices
from ..experiments.inside import FEW, UNTUNED, Comparison, Point, points, tuned_points
from ..inside import heads_of, load_heads, save_heads
from ..results import load_rows, short_hash, store
from ..training.adaptive import learn_thresholds, move_to_budget
from ..training.detector import detection_records
from ..training.inside import LAYERS, train_heads, tune_inside
from ..training.pictures import DetectionPictures
from ..yolos import load_yolos, save_yolos
from . import keep_trained, schedule, shown

LAYER = 4  # after which the comparison prunes, but for the rows that vary it
STAGES = (3, 6, 9)  # of the learnt thresholds
ADAPTIVE = [Point("adaptive", sparsity=s, stages=STAGES) for s in FEW]


def train(args: argparse.Namespace) -> None:
    """Train heads on the detector's frozen layers, to prune inside, or, with --way, the detector with one.

    --way inside trains detector and head together; random and resolution are its controls, which stay in runs/.
    """
    profile = get_profile(args.profile)
    if args.way == "frozen":
        detector, path = profile_detector(profile, args.detector)
        heads = train_heads(profile, detector.requires_grad_(False), args.seed, args.limit)
        stored = heads_of(profile.checkpoint(args.detector))
        target = stored if args.store else run_folder(stored.stem) / "model.safetensors"
        save_heads(target, heads.values(), {"detector": short_hash(path), "seed": args.seed})
        print(f"the heads are in {target.parent.name}/{target.name}")
        return
    detector, head, folder, made_from = tune_inside(profile, args.way, args.at, args.detector, schedule(args))

    def save(target: Path, metadata: dict) -> None:
        save_yolos(detector, target, bits=8, metadata=metadata)
        if head:
            save_heads(heads_of(target), [head], {"detector": short_hash(target), "seed": args.seed})

    lists = [load_training_lists(dataset, args.limit) for dataset in profile.detector_train]
    seen = {name: records for part in lists for name, records in part.items()}
    store_it = args.store and args.way == "inside"
    keep_trained(profile, f"{args.detector}-{args.way}-{args.at}", save, folder, seen, made_from, store_it)


def compare(args: argparse.Namespace) -> None:
    """Compare pruning inside with all that costs as much, for one detector: AP and multiply-adds.

    With "-adaptive" behind its name, a detector that was not tuned prunes at learnt thresholds.
    """
    profile, name = get_profile(args.profile), args.detector
    base = name.removesuffix("-adaptive")
    if base != name and base not in UNTUNED:
        wanted = " or ".join(f"{each}-adaptive" for each in UNTUNED)
        raise ValueError(f"thresholds are learnt for a detector that was not tuned: give {wanted}, not {name}")
    _, dev = detection_records(profile)
    held_out = load_records(*profile.detector_eval, args.limit)
    detectors, files, heads = {}, {}, {}
    for each in dict.fromkeys(("yolos", base)):
        detectors[each], files[each], of_heads = _opened(profile, each)
        if each in UNTUNED or of_heads.exists():
            heads[each] = load_heads(of_heads, short_hash(files[each]))
    every, learnt = _points(profile), {}
    if base != name:
        learnt, every = {s: _adaptive(profile, detectors[base], heads[base], s) for s in FEW}, ADAPTIVE
    elif name not in UNTUNED:
        every = tuned_points(profile, name)
    every = [replace(point, detector=base) for point in every]
    comparison, rows = Comparison(profile, detectors, heads, dev, held_out, learnt, _folder(profile)), []
    for point in every:
        rows.append(comparison.row(point))
        row = rows[-1]
        print(
            f"{row['method']} {row['trained']} {row['sparsity']:.2f}: {row['gmacs']:.3f} GMAC, "
            f"AP {shown(row['AP'])} ({shown(row['delta_AP'], '+.4f')})",
            flush=True,
        )
    if args.store:
        store(f"inside-{profile.name}", name, rows, {"/".join(profile.detector_eval): held_out}, files.values())


def _folder(profile: Profile) -> Path:
    return run_folder(f"inside-{profile.name}-{short_hash(profile_detector(profile)[1])}")


def _points(profile: Profile) -> list[Point]:
    return points(profile, LAYER, [layer for layer in LAYERS if layer < STAGES[-1]])


def bench(args: argparse.Namespace) -> None:
    """Time what `sweep --inside` has measured, in turn, and see who is best at each speed.

    At the profile's size and at twice its side, one picture and eight; the speed by multiply-adds is a column, too.
    """
    profile = get_profile(args.profile)
    stored = load_rows(f"inside-{profile.name}", run="times").dropna(axis=1).drop(columns="run", errors="ignore")
    if args.ranked and not len(stored):
        raise ValueError(f"no times in inside-{profile.name} to rank by: run `bavit bench --inside --store`")
    times = stored.to_dict("records") if args.ranked else _times(profile, args.repeats)
    for row in times:
        print(
            ", ".join(f"{key} {value:.1f}" if key.startswith("latency") else f"{value}" for key, value in row.items())
        )
    held_out = load_records(*profile.detector_eval)
    rows = load_rows(f"inside-{profile.name}").dropna(subset="dev_AP").drop(columns="kept")
    rows = rows.drop(columns=[name for name in rows if name.startswith("latency")])
    rows = rows.merge(pd.DataFrame(times), on=["method", "sparsity"])
    labels = stacked_labels(held_out, profile.detector_grid, profile.pruner_rule)
    dev, columns = len(detection_records(profile)[1]), ["gmacs", *(name for name in rows if name.startswith("latency"))]
    best = frontier(rows, columns, _folder(profile), dev, held_out, labels)
    for row in best:
        if row["part"] == "all":
            print(
                f"{row['time']}, {row['speed']}x, {row['family']}: {row['method']}, {row['detector']}, "
                f"{row['sparsity']:.2f}: AP {shown(row['AP'])}, {shown(row['delta_AP'], '+.4f')} to a smaller picture"
            )
    if args.store:
        starts = [name for name in UNTUNED if name in set(rows["detector"])]
        pairs = [row for name in starts for row in paired_choices(LAYER, name, _folder(profile), dev, held_out)]
        for run, found in (("times", times), ("frontier", best), ("pairs", pairs)):
            if run != "times" or not args.ranked:
                store(f"inside-{profile.name}", run, found, {"/".join(profile.detector_eval): held_out})


def _times(profile: Profile, repeats: int) -> list[dict]:
    """Median times of the base detector's rows; a tuned one's are the same."""
    measured = load_rows(f"inside-{profile.name}", run=["yolos", "yolos-adaptive"])
    if not len(measured):
        raise ValueError(f"no rows of inside-{profile.name} to time: run `bavit sweep --inside --store` first")
    counts = {(row["method"], row["sparsity"]): row["kept"] for row in measured.to_dict("records")}
    every = [point for point in (*_points(profile), *ADAPTIVE) if point.by not in ("truth", "head-equal")]
    kept = {point: counts[point.method, point.sparsity] for point in every if (point.method, point.sparsity) in counts}
    rows: dict[Point, dict] = {point: {"method": point.method, "sparsity": point.sparsity} for point in kept}
    for scale, size in ((1, ""), (2, "_512")):
        for batch, times in ((1, repeats), (8, max(3, repeats // 4))):
            for point, median in measure_times(profile, kept, batch, scale, times).items():
                rows[point][f"latency{size}_ms_b{batch}"] = median
    return list(rows.values())


def _adaptive(profile: Profile, detector, heads: dict, sparsity: float) -> list:
    """Heads at learnt thresholds that cost as much as one after LAYER at this sparsity."""
    train, dev = detection_records(profile)
    data = DetectionPictures(train[:1000], profile.detector_img_size, profile.finetune_recipe)
    budget = 1 - sparsity * (1 - LAYER / profile.detector_depth)
    learnt = learn_thresholds(detector, [heads[k] for k in STAGES], data, budget)
    learnt, reached = move_to_budget(detector, learnt, [record.image() for record in dev], budget)
    told = ", ".join(f"{head.threshold:.3f}" for head in learnt)
    print(f"learnt thresholds {told}: {reached:.3f} of the patches computed, wanted {budget:.3f}", flush=True)
    return learnt


def _opened(profile: Profile, name: str) -> tuple[YolosForObjectDetection, Path, Path]:
    """A detector, stored, the hub's, or what its training left in runs/; its file; and that of its heads, if any."""
    stored = profile.checkpoint(name)
    left = run_folder(f"{name}-{profile.detector_data}{profile.suffix}-seed0") / "model.safetensors"
    if name != "yolos" and left.exists() and not stored.exists():
        return load_yolos(left), left, heads_of(left)
    return *profile_detector(profile, name), heads_of(stored)
