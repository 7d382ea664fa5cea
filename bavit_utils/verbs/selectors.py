"""The verbs of `bavit` about who chooses the tokens: training the other papers' scoring, and comparing (Fig. 1)."""

import argparse
from functools import partial

from ..config import Profile, get_profile, run_folder
from ..data.pretrained import profile_detector
from ..data.records import fingerprint, load_records
from ..results import short_hash, store
from ..selectors import comparison
from ..selectors.runs import CHOICES, COMPARED, REFERENCE
from ..selectors.scores import Inputs, trained_files
from ..selectors.training import train_selector
from ..weights import save_weights
from ..yolos import PrunedYolos
from . import keep_trained, schedule, shown


def train(args: argparse.Namespace) -> None:
    """Train Sparse DETR's or Focus DETR's scoring of patches for the profile's detector."""
    profile = get_profile(args.profile)
    selector, folder, made_for = train_selector(profile, args.name, schedule(args))
    save = partial(save_weights, state=selector.state_dict())
    seen = {f"{profile.pruner_data}/train": load_records(profile.pruner_data, "train", args.limit)}
    keep_trained(profile, args.name, save, folder, seen, {**made_for, "model": args.name}, args.store)


def compare(args: argparse.Namespace) -> None:
    """Compare all who may choose the tokens, on one detector at equal budgets (Fig. 1)."""
    profile = get_profile(args.profile)
    records = load_records(*profile.detector_eval, args.limit)
    detector, checkpoint = profile_detector(profile)
    inputs = Inputs(profile, records, [record.image() for record in records], PrunedYolos(detector).eval(), checkpoint)
    names = tuple(dict.fromkeys((REFERENCE, *args.selectors))) if args.selectors else _at_hand(profile)
    files = [checkpoint, *(path for name in names for path in _files(name, profile))]
    folder = run_folder(f"selectors-{profile.name}-{short_hash(checkpoint)}-{fingerprint(records)}")
    rows = comparison.compare(inputs, names, folder)
    for row in rows:
        budget = "" if row["budget"] is None else f" at {row['budget']:.0%}"
        print(f"{row['selector']}{budget}: AP {shown(row['AP'])}, {row['share']:.3f} of the dense multiply-adds")
    if args.store:
        measured = {"/".join(profile.detector_eval): records}
        for name in dict.fromkeys(row["selector"] for row in rows):
            own = [row for row in rows if row["selector"] == name]
            store(f"selectors-{profile.name}", name, own, measured, dict.fromkeys(files))


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
