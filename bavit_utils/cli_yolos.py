"""The verbs of `bavit` that are about the detector: training and fine-tuning, the sweep of Table 2, the throughput."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from .annotations import stacked_labels
from .bavit import foreground_maps, load_bavit
from .config import DEPTHS, Recipe, get_profile, run_folder
from .data.pretrained import profile_detector
from .data.records import fingerprint, load_records, load_training_lists
from .experiments.benchmark import throughput
from .paper import PAPER
from .results import provenance, save_rows, short_hash
from .selectors.scores import Inputs, scores
from .sweep import PLAIN, SWEEP_SPARSITIES, detections, sweep
from .training.curves import store_curve
from .training.detector import train_yolos
from .training.finetuning import finetune, finetuned_name
from .yolos import PrunedYolos, save_yolos


def train(args: argparse.Namespace) -> None:
    """Train the profile's detector, a YOLOS, on whole pictures."""
    profile = get_profile(args.profile)
    recipe = _recipe(profile.detector_recipe, args)
    detector, folder = train_yolos(profile, args.seed, recipe, start=args.start, **_stops(args))
    made_from = {"start": short_hash(args.start)} if args.start else None
    _keep_trained(args, "yolos", detector, folder, args.store, made_from)


def tune(args: argparse.Namespace) -> None:
    """Train the detector on with the tokens that BAViT keeps (YOLOS-F).

    With --sparsity 0 it goes on with every token: the control that the paper lacks.
    """
    profile = get_profile(args.profile)
    recipe = _recipe(profile.finetune_recipe, args)
    detector, folder, made_from = finetune(profile, args.seed, args.sparsity, recipe, **_stops(args))
    _keep_trained(args, finetuned_name(args.sparsity), detector, folder, args.store, made_from)


def _recipe(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    return recipe if args.epochs is None else replace(recipe, epochs=args.epochs)


def _stops(args: argparse.Namespace) -> dict:
    return {"limit": args.limit, "max_steps": args.max_steps, "max_minutes": args.max_minutes}


def _keep_trained(
    args: argparse.Namespace, name: str, detector: nn.Module, folder: Path, store: bool, made_from: dict | None = None
) -> None:
    """Save a trained detector: in data/ with its curve, if that is wanted, else in its folder. One process does."""
    if not PartialState().is_main_process:
        return
    profile = get_profile(args.profile)
    made_from = {"profile": profile.name, "dataset": profile.detector_data, "seed": args.seed} | (made_from or {})
    target = profile.checkpoint(name) if store else folder / "model.safetensors"
    save_yolos(detector, target, bits=8, metadata=made_from)
    print(f"the detector is in {target.parent.name}/{target.name}")
    if store:
        lists = [load_training_lists(dataset, args.limit) for dataset in profile.detector_train]
        seen = {name: fingerprint(records) for part in lists for name, records in part.items()}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        store_curve(folder, name + profile.suffix, provenance(seen, checkpoints=[target], device=device) | made_from)


TABLE2_SELECTORS = (*DEPTHS, "random", "oracle-mask", "oracle-box")  # the others are for `bavit compare`
# The ways from BAViT's map to the detector's grid that Table 2 is measured for; other selectors run the first alone.
_VARIANTS = (
    PLAIN,
    PLAIN | {"fill_steps": PAPER.fill_steps},
    PLAIN | {"resize": "bilinear"},
    PLAIN | {"resize": "any"},
    PLAIN | {"spared": 0.25},
)


def fill_table2(args: argparse.Namespace) -> None:
    """Fill Table 2: the detector's AP at sparsities of 0 to 70 %, the tokens chosen by BAViT and others."""
    profile = get_profile(args.profile)
    records = load_records(*profile.detector_eval, args.limit)
    images = [record.image() for record in records]
    detector, checkpoint = profile_detector(profile, args.detector)
    detector = PrunedYolos(detector).eval()
    labels = torch.from_numpy(stacked_labels(records, profile.detector_grid, profile.pruner_rule))
    marks = fingerprint(records)
    folder = run_folder(f"sweep-{profile.name}-{short_hash(checkpoint)}-{marks}")
    dense = detections(detector, images, folder=folder)
    inputs = Inputs(profile, records, images, detector, checkpoint, args.seed)
    for selector in args.selectors or ("bavit-small", "random", f"oracle-{profile.pruner_rule}"):
        used, run, variants = [checkpoint], f"{args.detector}-{selector}", _VARIANTS[:1]
        maps = scores(selector, inputs)
        if selector in DEPTHS:
            used.append(profile.checkpoint(selector))
            variants = _VARIANTS if args.variants else variants
            kept = folder / f"{selector}-{short_hash(used[1])}"  # another pruner must not find these detections
        else:
            run += f"-seed{args.seed}"
            kept = folder / f"{selector}-{args.seed}"
        common = {"labels": labels, "folder": kept, "bavit": selector, "dense": dense, "seed": args.seed}
        rows = []
        for variant in variants:
            rows += sweep(profile, records, images, maps, detector, SWEEP_SPARSITIES, **variant, **common)
        rows = [{"detector": args.detector, "seed": args.seed} | row for row in rows]
        for row in rows:
            print(
                f"{selector}, {row['resize']}, {row['fill_steps']} filled, {row['spared']:.0%} spared: "
                f"sparsity {row['sparsity_reached']:.2f}, AP {row['AP']:.4f}, {row['delta_AP']:+.4f}"
            )
        if args.store:
            source = provenance({"/".join(profile.detector_eval): marks}, len(records), used)
            save_rows(f"table2-{profile.name}", run, rows, source)


def bench(args: argparse.Namespace) -> None:
    """Measure time and memory of dense and pruned detector in turn, BAViT included."""
    profile, sample = get_profile(args.profile), get_profile("sample")
    records = load_records(*sample.detector_eval)
    checkpoint = sample.checkpoint("bavit-small")
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = throughput(profile, maps, args.batch, args.repeats, device)
    for row in rows:
        print(
            f"batch {row['batch']}, {row['method']}, sparsity {row['sparsity']:.2f}: {row['median_ms']:.1f} ms, "
            f"{row['speedup']:.2f}x of {row['mac_speedup']:.2f}x, {row['peak_mb']:.0f} MB"
        )
    if args.store:
        source = provenance({"sample/val": fingerprint(records)}, len(records), [checkpoint], device=device)
        save_rows(f"throughput-{device}", profile.name, rows, source)
