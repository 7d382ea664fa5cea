"""The verbs of `bavit` that are about the detector: training and fine-tuning, the sweep of Table 2, the throughput."""

import argparse
from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import PartialState
from torch import Tensor, nn

from ..bavit import foreground_maps, load_bavit
from ..config import DEPTHS, get_profile, run_folder
from ..data.pretrained import profile_detector
from ..data.records import Record, class_names, fingerprint, load_records, load_training_lists
from ..experiments.benchmark import throughput
from ..experiments.objects import MIN_SCORE, class_rows, object_rows, object_table
from ..experiments.recipe import recipe_rows
from ..metrics import DetectionEvaluation
from ..paper import PAPER
from ..results import short_hash, store
from ..selectors.scores import Inputs, scores, trained_files
from ..sweep import SWEEP_SPARSITIES, Setting, Way, keep_at, sweep
from ..training.detector import VARIANTS, train_yolos
from ..training.finetuning import finetune, finetuned_name
from ..yolos import PrunedYolos, save_yolos
from . import device, keep_trained, schedule, shown
from .inside import bench as bench_inside
from .inside import compare as compare_inside


def train(args: argparse.Namespace) -> None:
    """Train the profile's detector, a YOLOS, without a word of which patches are background.

    With --variant a thing of the recipe is left out, or, as yolos-sparse, it sees most of the time only the patches that
    boxes touch, and as many others as make half.
    """
    profile = get_profile(args.profile)
    name = f"yolos-{args.variant}" if args.variant else "yolos"
    recipe = replace(profile.detector_recipe, **VARIANTS.get(args.variant, {}))
    folder = run_folder(f"{name}-{profile.detector_data}{profile.suffix}-seed{args.seed}")
    detector = train_yolos(profile, folder, schedule(args, recipe), args.start)
    _keep_detector(args, name, detector, folder, {"start": short_hash(args.start)} if args.start else {})


def ablate(args: argparse.Namespace) -> None:
    """Train the detector for minutes with each part of its recipe left out: what it is worth."""
    profile = get_profile(args.profile)
    rows, dev = recipe_rows(profile, RECIPE_MINUTES if args.max_minutes is None else args.max_minutes, args.seed)
    if not PartialState().is_main_process:
        return
    for row in rows:
        print(f"{row['variant']}, {row['pictures']} pictures: AP50 {shown(row['AP50'])}")
    if args.store:
        store(f"recipe-{profile.name}", f"seed{args.seed}", rows, {f"{profile.detector_data}/train, end": dev})


def tune(args: argparse.Namespace) -> None:
    """Train the detector on with the tokens that BAViT keeps (YOLOS-F).

    With --sparsity 0 it goes on with every token: the control that the paper lacks.
    """
    profile = get_profile(args.profile)
    detector, folder, made_from = finetune(profile, args.sparsity, schedule(args, profile.finetune_recipe))
    _keep_detector(args, finetuned_name(args.sparsity), detector, folder, made_from)


def _keep_detector(args: argparse.Namespace, name: str, detector: nn.Module, folder: Path, made_from: dict) -> None:
    profile = get_profile(args.profile)
    made_from = {"profile": profile.name, "dataset": profile.detector_data, "seed": args.seed} | made_from
    lists = ChainMap(*(load_training_lists(dataset, args.limit) for dataset in profile.detector_train))
    keep_trained(profile, name, partial(save_yolos, detector, bits=8), folder, lists, made_from, args.store)


RECIPE_MINUTES = 15.0  # of each training that `ablate` compares
TABLE2_SELECTORS = (*DEPTHS, "random", "oracle-mask", "oracle-box", "oracle-exact")  # `bavit compare` has the others
LOST_SPARSITIES = (0.35, 0.60)  # at which lost objects are counted
# The ways from BAViT's map to the detector's grid that Table 2 is measured for; other selectors run the first alone.
_WAYS = (Way(), Way(fill_steps=PAPER.fill_steps), Way(resize="bilinear"), Way(resize="any"), Way(spared=0.25))


def fill_table2(args: argparse.Namespace) -> None:
    """Fill Table 2: the detector's AP at sparsities of 0 to 70 %, the tokens chosen by BAViT and others."""
    if args.inside:
        return compare_inside(args)
    setting, inputs = _swept(args)
    for selector, maps, checkpoints in _choices(args, inputs):
        rows = []
        for way in _WAYS if args.variants and selector in DEPTHS else _WAYS[:1]:
            rows += sweep(setting, maps, args.sparsities or SWEEP_SPARSITIES, way, selector, args.seed)
        for row in rows:
            print(
                f"{selector}, {row['resize']}, {row['fill_steps']} filled, {row['spared']:.0%} spared: "
                f"sparsity {row['sparsity_reached']:.2f}, AP {shown(row['AP'])}, {shown(row['delta_AP'], '+.4f')}"
            )
        if args.store:
            rows = [{"detector": args.detector} | row for row in rows]
            store(f"table2-{inputs.profile.name}", _run_name(args, selector), rows, _measured(inputs), checkpoints)


def lost_objects(args: argparse.Namespace) -> None:
    """Count what pruning loses and why: objects by size and by the share of them that was kept, AP by class."""
    setting, inputs = _swept(args)
    names, dense = class_names(setting.profile.detector_data), setting.detections()
    for selector, maps, checkpoints in _choices(args, inputs):
        rows = [{"sparsity": 0.0} | row for row in class_rows(setting.dense, names)]
        for sparsity in LOST_SPARSITIES:
            _, keep = keep_at(maps, sparsity, setting.profile.detector_grid)
            found = setting.detections(keep, selector)
            table, wrong = object_table(setting.records, keep, dense, found)
            by_class = class_rows(DetectionEvaluation(setting.records, found), names)
            rows += [{"sparsity": sparsity} | row for row in (*object_rows(table), *by_class)]
            rows.append({"sparsity": sparsity, "kind": "false-positives", **wrong})
            lost = (table["found_dense"] & ~table["found_pruned"]).sum()
            print(
                f"{selector}, sparsity {sparsity:.2f}: {lost} of {table['found_dense'].sum()} found objects are lost, "
                f"{wrong['removed']} of {wrong['n_dense']} false positives go, {wrong['new']} come"
            )
        if args.store:
            rows = [{"detector": args.detector, "selector": selector, "min_score": MIN_SCORE} | row for row in rows]
            run = _run_name(args, selector).replace("-seed0", "")  # of the one seed that is usual here
            store(f"objects-{inputs.profile.name}", run, rows, _measured(inputs), checkpoints)


def _swept(args: argparse.Namespace) -> tuple[Setting, Inputs]:
    """What a sweep of the profile's detector runs on, and what its selectors choose by."""
    profile = get_profile(args.profile)
    records = load_records(*profile.detector_eval, args.limit)
    images = [record.image() for record in records]
    detector, checkpoint = profile_detector(profile, args.detector)
    detector = PrunedYolos(detector).eval()
    folder = run_folder(f"sweep-{profile.name}-{short_hash(checkpoint)}-{fingerprint(records)}")
    setting = Setting(profile, records, images, detector, folder, args.readout)
    return setting, Inputs(profile, records, images, detector, checkpoint, args.seed)


def _run_name(args: argparse.Namespace, selector: str) -> str:
    """What a selector's rows are stored under: detector, selector, its seed if it draws, and a readout of its own."""
    name = f"{args.detector}-{selector}" + ("" if selector in DEPTHS else f"-seed{args.seed}")
    return name + ("" if args.readout == "tokens" else f"-{args.readout}")


def _measured(inputs: Inputs) -> dict[str, Sequence[Record]]:
    return {"/".join(inputs.profile.detector_eval): inputs.records}


def _choices(args: argparse.Namespace, inputs: Inputs) -> Iterator[tuple[str, Tensor, list[Path]]]:
    """The wanted selectors, each with its scores and the checkpoints that its rows depend on."""
    for selector in args.selectors or ("bavit-small", "random", "oracle-exact"):
        yield selector, scores(selector, inputs), [inputs.checkpoint, *trained_files(selector, inputs.profile)]


def bench(args: argparse.Namespace) -> None:
    """Measure time and memory of dense and pruned detector in turn, BAViT included."""
    if args.inside:
        return bench_inside(args)
    profile, sample = get_profile(args.profile), get_profile("sample")
    records = load_records(*sample.detector_eval)
    checkpoint = sample.checkpoint("bavit-small")
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    rows = throughput(profile, maps, args.repeats, device())
    for row in rows:
        print(
            f"batch {row['batch']}, {row['method']}, sparsity {row['sparsity']:.2f}: {row['median_ms']:.1f} ms, "
            f"{row['speedup']:.2f}x of {row['mac_speedup']:.2f}x, {row['peak_mb']:.0f} MB"
        )
    if args.store:
        store(
            f"throughput-{device()}",
            profile.name,
            rows,
            {"sample/val": records},
            [checkpoint],
            device(),
            rows[0]["dtype"],
        )
