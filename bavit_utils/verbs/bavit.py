"""The verbs of `bavit` about BAViT alone: training, ablations, calibration, post-processing (Table 1, Figs. 4 to 6)."""

import argparse
from pathlib import Path

import torch
from accelerate import PartialState

from ..annotations import stacked_labels
from ..bavit import foreground_maps, load_bavit, save_bavit
from ..config import DEPTHS, EVAL_SPLIT, PAPER_RECIPE, Profile, get_profile, run_folder
from ..data.records import Record, check_pictures, load_records
from ..experiments.ablations import ABLATIONS, run_variant
from ..experiments.calibration import calibration_rows
from ..experiments.postprocessing import postprocessing_rows
from ..metrics import token_metrics
from ..results import device_name, store
from ..training.bavit import token_records, train_bavit
from ..training.loop import split_records
from ..training.state import read_curve, store_curve
from . import device, schedule, shown


def train(args: argparse.Namespace) -> None:
    """Train BAViT to tell foreground patches from background (Table 1).

    --store keeps accuracy and curve, and the checkpoint of seed 0 by the best recipe.
    """
    profile, dataset, rule = _chosen(args)
    recipe = {"best": profile.bavit_recipe, "paper": PAPER_RECIPE}[args.recipe]
    records = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    check_pictures(records, rule)
    folder = run_folder(f"{args.model}-{dataset}-{rule}-{args.recipe}{profile.suffix}-seed{args.seed}")
    model = train_bavit(profile, folder, args.model, dataset, rule, schedule(args, recipe))
    if not PartialState().is_main_process:  # of several, the first one measures and stores
        return
    keep = args.store and args.recipe == "best" and args.seed == 0
    target = profile.checkpoint(args.model, dataset, rule) if keep else folder / "model.safetensors"
    made_for = {"dataset": dataset, "rule": rule, "seed": args.seed}
    save_bavit(model, target, {"profile": profile.name, "recipe": args.recipe} | made_for, bits=8)
    row = made_for | token_metrics(*_maps_and_labels(target, records, profile, rule)) | {
        "model": args.model,
        "depth": DEPTHS[args.model],
        "recipe": args.recipe + profile.suffix,
        "n_train": len(token_records(dataset, args.limit)[0]),
        "n_images": len(records),
        "train_s": read_curve(folder)["seconds"].iloc[-1],
        "device": device_name(device()),
    }  # fmt: skip
    print(
        f"token accuracy {row['accuracy']:.4f} (always one class: {row['majority']:.4f}), "
        f"balanced {shown(row['balanced_accuracy'])}, on {len(records)} pictures"
    )
    if args.store:
        source = store("table1", folder.name, [row], {f"{dataset}/{EVAL_SPLIT[dataset]}": records}, [target])
        store_curve(folder, args.model + profile.suffix, source)


def postprocess(args: argparse.Namespace) -> None:
    """Measure the appendix's neighbour fill beside moving the threshold alone."""
    profile, dataset, rule = _chosen(args)
    # The bundled photographs are COCO's, and so is the BAViT for them.
    checkpoint = profile.checkpoint("bavit-small", "coco" if dataset == "photos" else dataset, rule)
    records = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    rows = postprocessing_rows(*_maps_and_labels(checkpoint, records, profile, rule))
    for row in rows:
        print(
            f"{row['neighbours']} neighbours, more than {row['more_than']}, {row['step']} steps: "
            f"accuracy {row['accuracy']:.4f}, recall {row['fg_recall']:.4f}, {row['fg_recall_alone']:.4f} by threshold"
        )
    if args.store:
        measured = {f"{dataset}/{EVAL_SPLIT[dataset]}": records}
        store(f"postprocessing-{dataset}", checkpoint.stem, rows, measured, [checkpoint])


def calibrate(args: argparse.Namespace) -> None:
    """Measure what BAViT's probabilities are worth, and choose the threshold.

    It is the one that loses at most 2 % of the foreground on pictures that BAViT was not trained on.
    """
    profile, dataset, rule = _chosen(args)
    checkpoint = profile.checkpoint("bavit-small", dataset, rule)
    # The end of the training list, which BAViT isn't trained on, decides; the held-out list is only measured.
    dev = split_records(load_records(dataset, "train"))[1][: args.limit]
    held_out = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    chosen_on, measured_on = (_maps_and_labels(checkpoint, records, profile, rule) for records in (dev, held_out))
    rows = calibration_rows(*chosen_on, *measured_on)
    for row in rows:
        if row["kind"] == "operating-point":
            print(
                f"threshold {row['threshold']:.4f} on {row['n_images']} {row['split']} pictures: "
                f"{row['fg_recall']:.4f} of the foreground kept, sparsity {row['sparsity']:.4f}"
            )
    if args.store:
        measured = {f"{dataset}/train, end": dev, f"{dataset}/{EVAL_SPLIT[dataset]}": held_out}
        store(f"calibration-{dataset}", checkpoint.stem, rows, measured, [checkpoint])


def ablate(args: argparse.Namespace) -> None:
    """Train BAViT at half scale with one thing varied: what decides its accuracy."""
    profile, dataset, _ = _chosen(args)
    train_list, dev = split_records(load_records(dataset, "train", args.limit))
    held_out = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    for what in args.what:
        # Choices are made on the end of the training list, statements on the held-out one.
        name, records = ("train, end", dev) if what == "recipe" else (EVAL_SPLIT[dataset], held_out)
        rows = []
        for variant in ABLATIONS[what]:
            folder = run_folder(f"ablation-{dataset}{profile.suffix}-{variant.name}-seed0")
            row = run_variant(variant, train_list, dev, records, folder)
            rows.append({"what": what, "dataset": dataset} | row)
            told = f"{what}, {variant.value}: token accuracy {row['accuracy']:.4f} on {len(records)} pictures"
            print(told, flush=True)
            if args.store:
                store(f"ablation-{what}", f"{dataset}-seed0", rows, {f"{dataset}/{name}": records})


def _chosen(args: argparse.Namespace) -> tuple[Profile, str, str]:
    """Profile, data set and label rule: the profile's where none is named."""
    profile, named = get_profile(args.profile), vars(args)
    return profile, named.get("dataset") or profile.bavit_data, named.get("rule") or profile.bavit_rule


def _maps_and_labels(
    checkpoint: Path, records: list[Record], profile: Profile, rule: str
) -> tuple[torch.Tensor, torch.Tensor]:
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    return maps, stacked_labels(records, profile.bavit_grid, rule)
