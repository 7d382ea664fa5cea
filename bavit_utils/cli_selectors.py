"""The verbs of `bavit` about who chooses the tokens: training the other papers' scoring, and the comparison (Fig. 1)."""

import argparse

import torch
from accelerate import PartialState

from .config import get_profile
from .curves import store_curve
from .datasets import fingerprint, load_records
from .results import provenance
from .selector_heads import save_selector
from .selector_training import train_selector


def train(args: argparse.Namespace) -> None:
    """Train Sparse DETR's or Focus DETR's scoring for the profile's detector; --store keeps checkpoint and curve."""
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
