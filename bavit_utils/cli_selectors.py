"""The verbs of `bavit` about who chooses the tokens: training the other papers' scoring, and comparing (Fig. 1)."""

import argparse

import torch
from accelerate import PartialState

from .config import get_profile, run_folder
from .data.pretrained import profile_detector
from .data.records import fingerprint, load_records
from .results import provenance, save_rows, short_hash
from .selectors import comparison
from .selectors.heads import save_selector
from .selectors.runs import COMPARED
from .selectors.scores import CHOICES, REFERENCE, Inputs, trained_files
from .selectors.training import train_selector
from .training.curves import store_curve
from .yolos import PrunedYolos


def train(args: argparse.Namespace) -> None:
    """Train Sparse DETR's or Focus DETR's scoring of patches for the profile's detector."""
    profile = get_profile(args.profile)
    stops = {"limit": args.limit, "max_steps": args.max_steps}
    selector, folder, made_for = train_selector(profile, args.name, args.seed, **stops)
    if not PartialState().is_main_process:
        return
    target = profile.checkpoint(args.name) if args.store else folder / "model.safetensors"
    save_selector(selector, args.name, target, made_for)
    print(f"the scoring is in {target.parent.name}/{target.name}")
    if args.store:
        seen = {f"{profile.pruner_data}/train": fingerprint(load_records(profile.pruner_data, "train", args.limit))}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        source = provenance(seen, checkpoints=[target], device=device) | made_for
        store_curve(folder, args.name + profile.suffix, source)


def compare(args: argparse.Namespace) -> None:
    """Compare all who may choose the tokens, on one detector at equal budgets (Fig. 1)."""
    profile = get_profile(args.profile)
    records = load_records(*profile.detector_eval, args.limit)
    detector, checkpoint = profile_detector(profile)
    inputs = Inputs(profile, records, [record.image() for record in records], PrunedYolos(detector).eval(), checkpoint)
    names, files = [], [checkpoint]
    for name in dict.fromkeys((REFERENCE, *(args.selectors or COMPARED))):
        needed = trained_files(CHOICES[name].scorer if name in CHOICES else REFERENCE, profile)
        missing = [f"{path.name} is missing" for path in needed if not path.exists()]
        if name == "oracle-mask" and profile.pruner_rule == "box":
            missing.append("these pictures have boxes alone")
        if missing and not args.selectors and name != REFERENCE:
            print(f"{name}: not run here, as {missing[0]}")
            continue
        names, files = [*names, name], [*files, *needed]
    marks = fingerprint(records)
    folder = run_folder(f"selectors-{profile.name}-{short_hash(checkpoint)}-{marks}")
    rows = comparison.compare(inputs, names, folder, repeats=args.repeats)
    for row in rows:
        budget = "" if row["budget"] is None else f" at {row['budget']:.0%}"
        print(f"{row['selector']}{budget}: AP {row['AP']:.4f}, {row['share']:.3f} of the dense multiply-adds")
    if args.store:
        source = provenance({"/".join(profile.detector_eval): marks}, len(records), dict.fromkeys(files))
        for name in dict.fromkeys(row["selector"] for row in rows):
            save_rows(f"selectors-{profile.name}", name, [row for row in rows if row["selector"] == name], source)
