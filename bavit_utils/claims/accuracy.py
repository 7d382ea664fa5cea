"""Checks of what the paper says of its loss, its training (sections 3.3, 3.4) and its accuracy (section 4.1)."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..bavit import accumulative_cross_entropy, create_bavit
from ..config import PATCH_SIZE
from ..paper import PAPER, TRAINED_AT
from .base import Interval, Status, claim, left_open, listed, on_each, percent, stored, verdict

_SMALL_ON_COCO = next(row["accuracy"] for row in PAPER.table1 if (row["depth"], row["dataset"]) == (2, "coco"))


@claim(7, "§ 3.3, Eq. 3", "“we propose a new loss function” that “calculates the Cross Entropy Loss [32] for each "
       "token individually and then aggregates these losses”: as printed it is their mean.")  # fmt: skip
def loss_is_the_mean():
    """Writes Eq. 3 out as its three sums, and compares it with the mean cross-entropy over all tokens, drawn ones."""
    draw = np.random.default_rng(0)
    logits = torch.from_numpy(4 * draw.standard_normal((8, PAPER.bavit_tokens, 2)))
    labels = torch.from_numpy(draw.integers(0, 2, logits.shape[:2]))
    log_probability = logits - logits.exp().sum(dim=-1, keepdim=True).log()
    equation = -(F.one_hot(labels, 2) * log_probability).sum() / labels.numel()
    mean, ours = F.cross_entropy(logits.flatten(0, 1), labels.flatten()), accumulative_cross_entropy(logits, labels)
    return verdict(torch.allclose(equation, mean) and torch.allclose(equation, ours)), (
        f"Eq. 3 gives {equation:.4f} over {labels.numel():,} tokens, torch's mean cross-entropy {mean:.4f}. Dividing "
        "by N × M makes the sum a mean; no other loss is in it."
    )


@claim(8, "§ 3.4", "“the Adam [33] optimizer with a step learning rate scheduler and trained the model for 100 epochs”: "
       "no batch size, rate, steps, augmentation, seed, or list of the blocks kept.", "measured")  # fmt: skip
def recipe():
    """Compares our reading of the recipe with our own one, and their gap with the spread of seeds (stored)."""
    where = {"dataset": "coco", "rule": "mask", "model": "bavit-small"}
    as_read, best = (stored("table1", "accuracy", recipe=name, **where).accuracy for name in ("paper", "best"))
    others, spread = stored("ablation-recipe", "accuracy").accuracy, best.max() - best.min()
    return left_open(abs(best.mean() - as_read.mean()) > spread), (
        f"On COCO's masks our reading (Adam, the rate tenfold down twice, {PAPER.epochs} epochs) gives "
        f"{percent(as_read.mean())}, our own recipe {percent(best.mean())}, with {percent(spread)} between its "
        f"{len(best)} seeds; {len(others)} recipes on VOC2012 lie between {percent(others.min())} and "
        f"{percent(others.max())}."
    )


@claim(9, "§ 3.4, § 4.1", "“reported mAP (mean Average Precision) result on the validation dataset for both”, “with mAP "
       "70.88%”.")  # fmt: skip
def map_is_accuracy():
    """Looks the number up in Table 1, and looks at what BAViT gives for a picture: two scores a token, or boxes."""
    side = 4 * PATCH_SIZE
    scores = create_bavit(2, side)(torch.zeros(1, 3, side, side))
    return verdict(scores.shape[1:] != (16, 2), otherwise=Status.SLIP), (
        f"{100 * _SMALL_ON_COCO:.2f} is Table 1's token accuracy of BAViT-small on COCO. BAViT gives "
        f"{scores.shape[-1]} scores for each token and no boxes, so there is no mAP of it."
    )


@claim(10, "§ 4.1", "“COCO images have an average of 40% of background tokens which means that only 60% tokens are "
       "important”.", "measured")  # fmt: skip
def background_share():
    """Reads the background's share by both label rules on a subset of COCO, and accuracy beside it (stored)."""
    rows = stored("table1", "accuracy", "fg_share", dataset="coco", model="bavit-small", recipe="best")
    by_rule = rows.groupby("rule").mean(numeric_only=True)
    background, claimed = 1 - by_rule.fg_share, PAPER.coco_background_share
    shares = " and ".join(f"{percent(background[rule])} by its {rule} labels" for rule in background.index)
    ours = by_rule.iloc[-1]
    return verdict(*((background - claimed).abs() < 0.05), own=rows.n_images.min() >= PAPER.n_val_images), (
        f"Background on {int(ours.n_images)} pictures: {shares}. With {percent(claimed, 0)} always foreground would "
        f"have {percent(1 - claimed, 0)}, {100 * (_SMALL_ON_COCO - 1 + claimed):.1f} points below the paper's "
        f"{100 * _SMALL_ON_COCO:.2f}. Ours by {by_rule.index[-1]}s: {percent(ours.accuracy)} (always one class "
        f"{percent(ours.majority)}), balanced {percent(ours.balanced_accuracy)}, AUROC {ours.auroc:.2f}, "
        f"{percent(ours.fg_recall_at_35)} of FG kept at 35 % sparsity."
    )


@claim(11, "Abstract", "“75% and 88% accuracy on VOC dataset and 71% and 80% accuracy on COCO dataset”, of Table 1's "
       "numbers.")  # fmt: skip
def abstract_rounding():
    """Truncates and rounds Table 1's percentages, and compares both with the abstract's."""
    pairs = [
        (round(100 * row["accuracy"], 2), round(100 * short))
        for row, short in zip(PAPER.table1, PAPER.abstract_accuracy, strict=True)
    ]
    truncated, rounded = ([cut(value) == short for value, short in pairs] for cut in (math.floor, round))
    slip = all(map(any, zip(truncated, rounded, strict=True)))
    return verdict(all(rounded) or all(truncated), otherwise=Status.SLIP if slip else None), (
        f"{', '.join(f'{value} → {short}' for value, short in pairs)}: truncating gives {sum(truncated)} of the "
        f"{len(pairs)}, rounding {sum(rounded)}."
    )


@claim(12, "§ 4.1, Fig. 4", "“Figure 4 shows the BAViT-large model output”, while Table 2 prunes with BAViT-small: does "
       "one stand for the other?", "measured")  # fmt: skip
def figure_4_and_table_2():
    """Subtracts BAViT-small's token accuracy from BAViT-large's, and AP at equal sparsity likewise (stored)."""
    large, small = (
        Interval.of(stored("table1", "accuracy_low", dataset="sample", depth=depth).iloc[0], "accuracy")
        for depth in (10, 2)
    )

    def read(name: str) -> Interval:
        rows = stored(f"selectors-{name}", "delta_to_bavit", selector="bavit-large", sparsity=TRAINED_AT)
        return Interval.of(rows.iloc[0], "delta_to_bavit", "delta")

    in_ap = on_each(read)
    # Alike is within a point.
    return verdict(*(each.within(0.01) for each in (large - small, *in_ap.values())), own="coco" in in_ap), (
        f"Large less small, in points: token accuracy on the sample world {large - small}; AP at "
        f"{percent(TRAINED_AT, 0)} sparsity {listed(in_ap)}."
    )
