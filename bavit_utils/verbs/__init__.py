"""What the verbs of `bavit` do: each loads, chooses, runs, stores. How they are called is in `cli`."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState

from ..config import Profile, Recipe
from ..data.records import Record, fingerprint
from ..results import provenance
from ..training.loop import Schedule
from ..training.state import store_curve


def device() -> str:
    """Where trainings and timings run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def shown(x: float | None, form: str = ".4f") -> str:
    """A number for a person to read; "undefined" where it is None."""
    return "undefined" if x is None else format(x, form)


def schedule(args: argparse.Namespace, recipe: Recipe | None = None) -> Schedule:
    """How a training is to run by these arguments; `--epochs`, where it is one, changes the recipe's."""
    given = vars(args)
    if given.get("epochs") is not None:
        recipe = replace(recipe, epochs=args.epochs)
    return Schedule(args.seed, recipe, args.limit, args.max_steps, given.get("max_minutes"))


def keep_trained(
    profile: Profile,
    name: str,
    save: Callable,
    folder: Path,
    seen: Mapping[str, list[Record]],
    made_from: dict,
    store: bool,
) -> None:
    """Save what was trained, by `save(path, metadata)`: in data/ with its curve, or, without `store`, in its folder.

    `seen` are the training lists by name. One process does it.
    """
    if not PartialState().is_main_process:
        return
    target = profile.checkpoint(name) if store else folder / "model.safetensors"
    save(target, metadata=made_from)
    print(f"{name} is in {target.parent.name}/{target.name}")
    if store:
        marks = {key: fingerprint(records) for key, records in seen.items()}
        source = provenance(marks, checkpoints=[target], device=device())
        store_curve(folder, name + profile.suffix, source | made_from)
