"""The verbs of `bavit` about BAViT alone: training, ablations, calibration, post-processing (Table 1, Figs. 4 to 6)."""

import argparse
from pathlib import Path

import torch
from accelerate import PartialState

from .annotations import stacked_labels
from .bavit import foreground_maps, load_bavit, save_bavit
from .config import DEPTHS, EVAL_SPLIT, PAPER_RECIPE, RUNS, Profile, get_profile
from .data.records import fingerprint, load_records
from .experiments.ablations import ABLATIONS, run_variant
from .experiments.calibration import calibration_rows
from .experiments.postprocessing import postprocessing_rows
from .metrics import token_metrics
from .results import device_name, provenance, save_rows
from .training.bavit import token_records, train_bavit
from .training.curves import read_curve, store_curve
from .training.loop import split_records


def train(args: argparse.Namespace) -> None:
    """Train BAViT to tell foreground patches from background (Table 1).

    --store keeps accuracy and curve, and the checkpoint of seed 0 by the best recipe.
    """
    profile = get_profile(args.profile)
    dataset, rule = args.dataset or profile.bavit_data, args.rule or profile.bavit_rule
    recipe = {"best": profile.bavit_recipe, "paper": PAPER_RECIPE}[args.recipe]
    folder = RUNS / f"{args.model}-{dataset}-{rule}-{args.recipe}{profile.suffix}-seed{args.seed}"
    model, _ = train_bavit(
        profile, args.model, dataset, rule, args.seed, recipe, folder, limit=args.limit, max_steps=args.max_steps
    )
    if not PartialState().is_main_process:  # of several, the first one measures and stores
        return
    keep = args.store and args.recipe == "best" and args.seed == 0
    target = profile.checkpoint(args.model, dataset, rule) if keep else folder / "model.safetensors"
    made_from = {"profile": profile.name, "dataset": dataset, "rule": rule, "recipe": args.recipe, "seed": args.seed}
    save_bavit(model, target, made_from)
    _evaluate_bavit(profile, args, target, dataset, rule, folder)


def _evaluate_bavit(profile: Profile, args, checkpoint: Path, dataset: str, rule: str, folder: Path) -> None:
    records = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    train, _ = token_records(dataset, args.limit)
    row = {
        "model": args.model,
        "depth": DEPTHS[args.model],
        "dataset": dataset,
        "rule": rule,
        "recipe": args.recipe + profile.suffix,
        "seed": args.seed,
        **token_metrics(*_maps_and_labels(checkpoint, records, profile, rule)),
        "n_train": len(train),
        "n_images": len(records),
        "train_s": read_curve(folder, args.model)[-1]["seconds"],
        "device": device_name("cuda" if torch.cuda.is_available() else "cpu"),
    }
    print(
        f"token accuracy {row['accuracy']:.4f} (always one class: {row['majority']:.4f}), "
        f"balanced {row['balanced_accuracy']:.4f}, on {len(records)} pictures"
    )
    if args.store:
        source = provenance({f"{dataset}/{EVAL_SPLIT[dataset]}": fingerprint(records)}, len(records), [checkpoint])
        save_rows("table1", folder.name, [row], source)
        store_curve(folder, args.model + profile.suffix, source)


def postprocess(args: argparse.Namespace) -> None:
    """Measure the appendix's neighbour fill beside moving the threshold alone."""
    profile, dataset, rule, checkpoint = _chosen(args)
    records = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    rows = postprocessing_rows(*_maps_and_labels(checkpoint, records, profile, rule))
    for row in rows:
        print(
            f"{row['neighbours']} neighbours, more than {row['more_than']}, {row['step']} steps: "
            f"accuracy {row['accuracy']:.4f}, recall {row['fg_recall']:.4f}, {row['fg_recall_alone']:.4f} by threshold"
        )
    if args.store:
        source = provenance({f"{dataset}/{EVAL_SPLIT[dataset]}": fingerprint(records)}, len(records), [checkpoint])
        save_rows(f"postprocessing-{dataset}", checkpoint.stem, rows, source)


def calibrate(args: argparse.Namespace) -> None:
    """Measure what BAViT's probabilities are worth, and choose the threshold.

    It is the one that loses at most 2 % of the foreground on pictures that BAViT was not trained on.
    """
    profile, dataset, rule, checkpoint = _chosen(args)
    # The end of the training list, which BAViT isn't trained on, decides; the held-out list is only measured.
    dev = split_records(load_records(dataset, "train"))[1][: args.limit]
    held_out = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    pictures = [_maps_and_labels(checkpoint, records, profile, rule) for records in (dev, held_out)]
    rows = calibration_rows(*pictures[0], *pictures[1])
    for row in rows:
        if row["kind"] == "operating-point":
            print(
                f"threshold {row['threshold']:.4f} on {row['n_images']} {row['split']} pictures: "
                f"{row['fg_recall']:.4f} of the foreground kept, sparsity {row['sparsity']:.4f}"
            )
    if args.store:
        marks = {f"{dataset}/train, end": fingerprint(dev), f"{dataset}/{EVAL_SPLIT[dataset]}": fingerprint(held_out)}
        save_rows(f"calibration-{dataset}", checkpoint.stem, rows, provenance(marks, len(held_out), [checkpoint]))


def _chosen(args: argparse.Namespace) -> tuple[Profile, str, str, Path]:
    """Profile, data set and label rule, the profile's where none is named, and BAViT-small's checkpoint for them.

    The bundled photographs are COCO's, and so is the BAViT for them.
    """
    profile = get_profile(args.profile)
    dataset, rule = args.dataset or profile.bavit_data, args.rule or profile.bavit_rule
    trained_on = "coco" if dataset == "photos" else dataset
    return profile, dataset, rule, profile.checkpoint("bavit-small", trained_on, rule)


def _maps_and_labels(checkpoint: Path, records, profile: Profile, rule: str) -> tuple[torch.Tensor, torch.Tensor]:
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    return maps, stacked_labels(records, profile.bavit_grid, rule)


def ablate(args: argparse.Namespace) -> None:
    """Train BAViT at half scale with one thing varied: what decides its accuracy."""
    profile = get_profile(args.profile)
    dataset, split = profile.bavit_data, EVAL_SPLIT[profile.bavit_data]
    train, dev = split_records(load_records(dataset, "train", args.limit))
    held_out = load_records(dataset, split, args.limit)
    for what in args.what:
        # Choices are made on the end of the training list, statements on the held-out one.
        measured = dev if what == "recipe" else held_out
        source = provenance(
            {f"{dataset}/{'train, end' if what == 'recipe' else split}": fingerprint(measured)}, len(measured)
        )
        rows = []
        for variant in ABLATIONS[what]:
            folder = RUNS / f"ablation-{dataset}{profile.suffix}-{variant.name}-seed{args.seed}"
            rows.append(
                {"what": what, "dataset": dataset} | run_variant(variant, train, dev, measured, folder, args.seed)
            )
            print(
                f"{what}, {variant.value}: token accuracy {rows[-1]['accuracy']:.4f} on {len(measured)} pictures",
                flush=True,
            )
            if args.store:
                save_rows(f"ablation-{what}", f"{dataset}-seed{args.seed}", rows, source)
