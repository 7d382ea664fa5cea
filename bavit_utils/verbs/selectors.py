"""The verbs of `bavit` about who chooses the tokens: training the other papers' scoring, and comparing (Fig. 1)."""

import argparse

import torch
from accelerate import PartialState

from ..config import Profile, get_profile, run_folder
from ..data.pretrained import profile_detector
from ..data.records import fingerprint, load_records
from ..metrics import shown
from ..results import provenance, save_rows, short_hash
from ..selectors import comparison
from ..selectors.runs import CHOICES, COMPARED, REFERENCE
from ..selectors.scores import Inputs, trained_files
from ..selectors.training import train_selector
from ..training.curves import store_curve
from ..weights import save_weights
from ..yolos import PrunedYolos


def train(args: argparse.Namespace) -> None:
    """Train Sparse DETR's or Focus DETR's scoring of patches for the profile's detector."""
    profile = get_profile(args.profile)
    selector, folder, made_for = train_selector(profile, args.name, args.seed, args.limit, args.max_steps)
    if not PartialState().is_main_process:
        return
    target = profile.checkpoint(args.name) if args.store else folder / "model.safetensors"
    save_weights(target, selector.state_dict(), {**made_for, "model": args.name})
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
    names = tuple(dict.fromkeys((REFERENCE, *args.selectors))) if args.selectors else _at_hand(profile)
    files = [checkpoint, *(path for name in names for path in _files(name, profile))]
    marks = fingerprint(records)
    folder = run_folder(f"selectors-{profile.name}-{short_hash(checkpoint)}-{marks}")
    rows = comparison.compare(inputs, names, folder, repeats=args.repeats)
    for row in rows:
        budget = "" if row["budget"] is None else f" at {row['budget']:.0%}"
        print(f"{row['selector']}{budget}: AP {shown(row['AP'])}, {row['share']:.3f} of the dense multiply-adds")
    if args.store:
        source = provenance({"/".join(profile.detector_eval): marks}, len(records), dict.fromkeys(files))
        for name in dict.fromkeys(row["selector"] for row in rows):
            save_rows(f"selectors-{profile.name}", name, [row for row in rows if row["selector"] == name], source)


def _files(name: str, profile: Profile) -> tuple:
    return trained_files(CHOICES[name].scorer, profile) if name in CHOICES else ()


def _at_hand(profile: Profile) -> tuple[str, ...]:
    """All ways that can be compared here; says of the others why not."""
    names = []
    for name in COMPARED:
        missing = [f"{path.name} is missing" for path in _files(name, profile) if not path.exists()]
        if name == "oracle-mask" and profile.pruner_rule == "box":
            missing.append("these pictures have boxes alone")
        if missing and name != REFERENCE:
            print(f"{name}: not run here, as {missing[0]}")
        else:
            names.append(name)
    return tuple(names)
