"""The gallery's entries of notebook 07: YOLOS-F and the control that the paper lacks (Table 2, section 4.2)."""

import pandas as pd
from matplotlib.figure import Figure

from ..config import Profile
from ..finetuning_tables import TRAINED_AT, ap_table, finetuning_figure, finetuning_rows, paper_ap
from ..paper import PAPER
from ..plots import training_curves
from ..results import load_rows
from .entry import Entry


def finetuning_curves(profile: Profile) -> pd.DataFrame:
    """The stored trainings of YOLOS-F and its control on the profile's data; empty where there are none."""
    curves = load_rows("curves", model=["yolos-f", "yolos-control"])
    return curves[curves["run"].str.contains(f"-{profile.detector_data}-")] if len(curves) else curves


def _claims(profile: Profile) -> pd.DataFrame:
    pruned, tuned, dense = paper_ap("yolos", TRAINED_AT), paper_ap("yolos-f", TRAINED_AT), 100 * PAPER.base_AP
    gained = f"{tuned:.1f} against {pruned:.1f} at {TRAINED_AT:.0%}: {tuned - pruned:+.1f}"
    claims = {
        "fine-tuning improves by 2 points": gained,
        "less than 2 points of drop after it": f"{tuned:.1f} against {dense:.1f}: {tuned - dense:+.1f}",
        "(no control: the same epochs without pruning)": "no such row",
    }
    return pd.DataFrame({"the paper says": claims.keys(), "Table 2": claims.values()})


def _recipe(profile: Profile) -> pd.DataFrame:
    recipes = {"training": profile.detector_recipe, "fine-tuning, and its control": profile.finetune_recipe}
    rows = [
        (name, one.epochs, f"{one.batch_size}", f"{one.lr:g}", f"{one.warmup_epochs:g}", ", ".join(one.augment))
        for name, one in recipes.items()
    ]
    rows.append(("the paper's fine-tuning", PAPER.finetune_epochs, *["not said"] * 4))
    return pd.DataFrame(rows, columns=["", "epochs", "batch", "peak rate", "warm-up, epochs", "changes"])


def _curves(profile: Profile) -> Figure | None:
    curves = finetuning_curves(profile)
    return training_curves(curves, "AP50 as it is trained") if len(curves) else None


def _by_sparsity(profile: Profile) -> Figure | None:
    rows = finetuning_rows(profile)
    return finetuning_figure(rows) if len(rows) else None


ENTRIES = (
    Entry(
        "table", "finetuning-claims", _claims, "07",
        "Fine-tuning in the paper's text, and in its Table 2.", "Table 2",
    ),
    Entry(
        "table", "finetuning-recipe", _recipe, "07",
        "The recipe of the detector's training, and of what follows it.",
    ),
    Entry(
        "figure", "finetuning-curves", _curves, "07",
        "YOLOS-F, measured with 35 % pruned, and its control, measured with everything: whether they are still "
        "climbing, not which is better.", results=("curves",),
    ),
    Entry(
        "table", "finetuning", lambda profile: ap_table(finetuning_rows(profile)), "07",
        "AP in points at some of Table 2's sparsities: the paper's on COCO, ours on the profile's data.",
        "Table 2", ("table2-{p.name}",),
    ),
    Entry(
        "figure", "finetuning", _by_sparsity, "07",
        "AP against sparsity for the detector as trained, YOLOS-F and its control; the distance between the last two "
        "is what seeing pruned pictures is worth.", "Table 2", ("table2-{p.name}",),
    ),
)  # fmt: skip
