"""Checks of what the paper says of its loss, its training (sections 3.3, 3.4) and its accuracy (section 4.1)."""

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ..bavit import accumulative_cross_entropy, create_bavit
from ..config import PATCH_SIZE, Profile
from ..finetuning_tables import TRAINED_AT
from ..metrics import shown_interval
from ..paper import PAPER
from .base import (
    NOT_AS_STATED,
    PARTLY,
    REPRODUCED,
    Claim,
    Outcome,
    change,
    listed,
    of_each_data,
    percent,
    stored,
    table2_rows,
)

_TOLERANCE = 1e-5


def loss_is_the_mean(profile: Profile) -> Outcome:
    """Writes Eq. 3 out as its three sums, and compares it with the mean cross-entropy over all tokens, drawn ones."""
    draw = np.random.default_rng(0)
    logits = torch.from_numpy(4 * draw.standard_normal((8, PAPER.bavit_tokens, 2)))
    labels = torch.from_numpy(draw.integers(0, 2, logits.shape[:2]))
    log_probability = logits - logits.exp().sum(dim=-1, keepdim=True).log()
    equation = -(F.one_hot(labels, 2) * log_probability).sum() / labels.numel()
    mean = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    apart = max(abs(equation - mean).item(), abs(equation - accumulative_cross_entropy(logits, labels)).item())
    same = apart <= _TOLERANCE
    return Outcome(
        REPRODUCED if same else NOT_AS_STATED,
        f"Eq. 3 and torch's mean cross-entropy over {labels.numel():,} tokens are "
        f"{'equal' if same else 'not equal'}: {equation:.4f} and {mean:.4f}. Dividing by N × M makes the sum a mean; "
        "no other loss is in it.",
    )


def recipe(profile: Profile) -> Outcome:
    """Compares our reading of the recipe with our own one, and their gap with the spread of seeds (stored)."""
    where = {"dataset": "coco", "rule": "mask", "model": "bavit-small"}
    as_read, best = (stored("table1", "accuracy", recipe=name, **where) for name in ("paper", "best"))
    spread = best.accuracy.max() - best.accuracy.min()
    gap = abs(best.accuracy.mean() - as_read.accuracy.mean())
    others = stored("ablation-recipe", "accuracy").accuracy
    return Outcome(
        NOT_AS_STATED if gap > spread else PARTLY,
        f"On COCO's masks our reading (Adam, the rate tenfold down twice, {PAPER.epochs} epochs) gives "
        f"{percent(as_read.accuracy.mean())}, our own recipe {percent(best.accuracy.mean())}, with {percent(spread)} "
        f"between its {len(best)} seeds; {len(others)} recipes on VOC2012 lie between {percent(others.min())} and "
        f"{percent(others.max())}.",
    )


def map_is_accuracy(profile: Profile) -> Outcome:
    """Looks the number up in Table 1, and looks at what BAViT gives for a picture: two scores a token, or boxes."""
    small = next(row["accuracy"] for row in PAPER.table1 if row["model"] == "bavit-small" and row["dataset"] == "coco")
    bavit = create_bavit(2, 4 * PATCH_SIZE)
    scores = bavit(torch.zeros(1, 3, 4 * PATCH_SIZE, 4 * PATCH_SIZE))
    no_boxes = scores.shape[1:] == (16, 2)
    return Outcome(
        NOT_AS_STATED if no_boxes else REPRODUCED,
        f"{100 * small:.2f} is Table 1's token accuracy of BAViT-small on COCO. BAViT gives {scores.shape[-1]} "
        "scores for each token and no boxes, so there is no mAP of it.",
    )


def background_share(profile: Profile) -> Outcome:
    """Reads the background's share by both label rules on a subset of COCO, and accuracy beside it (stored)."""
    rows = stored("table1", "accuracy", dataset="coco", model="bavit-small", recipe="best")
    by_rule = rows.groupby("rule").mean(numeric_only=True)
    background = 1 - by_rule.fg_share
    claimed = PAPER.coco_background_share
    paper = next(row["accuracy"] for row in PAPER.table1 if row["model"] == "bavit-small" and row["dataset"] == "coco")
    near = (background - claimed).abs() < 0.05
    shares = ", ".join(
        f"{percent(share)} by {'boxes' if rule == 'box' else 'masks'}" for rule, share in background.items()
    )
    ours = by_rule.loc["mask"] if "mask" in by_rule.index else by_rule.iloc[0]
    return Outcome(
        REPRODUCED if near.all() else PARTLY if near.any() else NOT_AS_STATED,
        f"Background on {int(rows.n_images.iloc[0])} pictures: {shares}. With {percent(claimed, 0)} always-FG would "
        f"have {percent(1 - claimed, 0)}, and {100 * paper:.2f} be {100 * (paper - 1 + claimed):.1f} points above "
        f"it. Ours by masks: {percent(ours.accuracy)} (always-BG {percent(ours.majority)}), balanced "
        f"{percent(ours.balanced_accuracy)}, AUROC {ours.auroc:.2f}, {percent(ours.fg_recall_at_35)} of FG kept at "
        "35 % sparsity.",
    )


def abstract_rounding(profile: Profile) -> Outcome:
    """Truncates and rounds Table 1's percentages, and compares both with the abstract's."""
    table = [round(100 * row["accuracy"], 2) for row in PAPER.table1]
    abstract = [round(100 * value) for value in PAPER.abstract_accuracy]
    truncated = [math.floor(value) == shown for value, shown in zip(table, abstract, strict=True)]
    rounded = [round(value) == shown for value, shown in zip(table, abstract, strict=True)]
    either = [one or other for one, other in zip(truncated, rounded, strict=True)]
    status = REPRODUCED if all(rounded) or all(truncated) else PARTLY if all(either) else NOT_AS_STATED
    shown = ", ".join(f"{value} → {short}" for value, short in zip(table, abstract, strict=True))
    return Outcome(status, f"{shown}: truncating gives {sum(truncated)} of the {len(table)}, rounding {sum(rounded)}.")


def _accuracy(row: pd.Series) -> str:
    return f"{shown_interval(row.accuracy, row.accuracy_low, row.accuracy_high)} %"


def figure_4_and_table_2(profile: Profile) -> Outcome:
    """Compares BAViT-large with BAViT-small: token accuracy, and AP at equal sparsity (stored)."""
    both = {
        model: stored("table1", "accuracy_low", dataset="sample", model=model).iloc[0]
        for model in ("bavit-small", "bavit-large")
    }
    small, large = both.values()
    apart = large.accuracy_low > small.accuracy_high

    def changes(name: str) -> tuple:
        return tuple(table2_rows(name, bavit=model).loc[TRAINED_AT] for model in both)

    found = of_each_data(profile, changes)
    ap_apart = any(
        one.delta_high < other.delta_low or other.delta_high < one.delta_low for one, other in found.values()
    )
    told = listed({name: f"small {change(one)}, large {change(other)}" for name, (one, other) in found.items()})
    return Outcome(
        REPRODUCED if not apart else NOT_AS_STATED if ap_apart else PARTLY,
        f"Token accuracy on the sample world: small {_accuracy(small)}, large {_accuracy(large)}. Change in AP at "
        f"{percent(TRAINED_AT, 0)} sparsity {told}.",
    )


LOSS_AND_TRAINING = (
    Claim(7, "§ 3.3, Eq. 3", "“we propose a new loss function” that “calculates the Cross Entropy Loss [32] for each "
          "token individually and then aggregates these losses”: as printed it is their mean.", loss_is_the_mean),
    Claim(8, "§ 3.4", "“the Adam [33] optimizer with a step learning rate scheduler and trained the model for 100 "
          "epochs”: no batch size, rate, steps, augmentation, seed, or list of the blocks kept.", recipe),
    Claim(9, "§ 3.4, § 4.1", "“reported mAP (mean Average Precision) result on the validation dataset for both”, "
          "“with mAP 70.88%”.", map_is_accuracy),
)  # fmt: skip
ACCURACY = (
    Claim(10, "§ 4.1", "“COCO images have an average of 40% of background tokens which means that only 60% tokens "
          "are important”.", background_share),
    Claim(11, "Abstract", "“75% and 88% accuracy on VOC dataset and 71% and 80% accuracy on COCO dataset”, of Table "
          "1's numbers.", abstract_rounding),
    Claim(12, "§ 4.1, Fig. 4", "“Figure 4 shows the BAViT-large model output”, while Table 2 prunes with "
          "BAViT-small.", figure_4_and_table_2),
)  # fmt: skip
