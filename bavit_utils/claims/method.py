"""Checks of the method's details (section 3.5, appendix, figures), and of what is said and measured nowhere."""

import numpy as np
import pandas as pd
import torch
from skimage.measure import label as connected_components
from transformers import DetrConfig

from ..config import PATCH_SIZE, Profile
from ..cost import yolos_multiply_adds
from ..finetuning_tables import TRAINED_AT
from ..paper import PAPER
from ..plots import copies
from ..pruning import fill_neighbours, keep_mask
from ..results import NOT_RUN
from .base import (
    NOT_AS_STATED,
    PARTLY,
    REPRODUCED,
    Claim,
    NotRun,
    Outcome,
    change,
    listed,
    measured_status,
    of_each_data,
    percent,
    stored,
    table2_rows,
)

_ROWS = PAPER.bavit_img_size // PATCH_SIZE
_WIDE_ROWS = PAPER.detector_img_size // PATCH_SIZE


def _drawn(shape: tuple[int, ...], share: float, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < share)


def grid_to_grid(profile: Profile) -> Outcome:
    """Counts how often nearest resizing copies each cell, and compares three ways to resize in AP (stored)."""
    counts, cells = np.unique(copies(_ROWS, _WIDE_ROWS), return_counts=True)

    def read(name: str) -> list[pd.Series]:
        return [table2_rows(name, resize=mode).loc[TRAINED_AT] for mode in ("nearest", "bilinear", "any")]

    found = of_each_data(profile, read)
    apart = any(max(row.delta_low for row in rows) > min(row.delta_high for row in rows) for rows in found.values())
    told = listed({name: " / ".join(change(row) for row in rows) for name, rows in found.items()})
    uneven = ", ".join(f"{cell} cells {count}x" for count, cell in zip(counts, cells, strict=True))
    return Outcome(
        REPRODUCED if len(counts) == 1 else NOT_AS_STATED if apart else PARTLY,
        f"Nearest copies {uneven}. Nearest / bilinear / any at {percent(TRAINED_AT, 0)} sparsity, change in AP {told}.",
    )


def connected_component_analysis(profile: Profile) -> Outcome:
    """Fills drawn grids with 8 and 4 neighbours, and labels their connected components, which changes no cell."""
    keep = _drawn((64, _ROWS, _ROWS), 0.3)
    around, cross = (fill_neighbours(keep, PAPER.fill_steps, PAPER.fill_more_than, n) for n in (8, 4))
    labelled = torch.from_numpy(np.stack([connected_components(grid, connectivity=2) > 0 for grid in keep.numpy()]))
    before, after, after_cross = (grid.float().mean().item() for grid in (keep, around, cross))
    same = torch.equal(labelled, around)
    return Outcome(
        REPRODUCED if same else NOT_AS_STATED,
        f"Component labelling leaves every cell as it was. {PAPER.fill_steps} fills of drawn grids with "
        f"{percent(before, 0)} FG end at {percent(after, 0)} with eight neighbours, {percent(after_cross, 0)} with four, "
        f"and remove {int((keep & ~around).sum())} FG cells: a threshold on a count, which can only lower sparsity. Which "
        "neighbours isn't said.",
    )


def caption_of_figure_6(profile: Profile) -> Outcome:
    """Applies the fill to drawn mistakes of both kinds, and counts which kind it can correct."""
    truth = torch.zeros(64, _ROWS, _ROWS, dtype=torch.bool)
    truth[:, 6:18, 6:18] = True
    predicted = truth ^ _drawn(tuple(truth.shape), 0.1)
    filled = fill_neighbours(predicted, PAPER.fill_steps, PAPER.fill_more_than)
    text, caption = (int((wrong & (filled == truth)).sum()) for wrong in (truth & ~predicted, ~truth & predicted))
    kinds = (int((truth & ~predicted).sum()), int((~truth & predicted).sum()))
    return Outcome(
        REPRODUCED if caption else PARTLY if text else NOT_AS_STATED,
        f"The fill corrects {text:,} of {kinds[0]:,} FG patches taken for BG, and {caption} of {kinds[1]:,} BG "
        "patches taken for FG; Fig. 6 (right) shows orange patches corrected.",
    )


def detr_or_yolos(profile: Profile) -> Outcome:
    """Looks at what transformers' DETR reads its tokens from, and which detectors have rows behind BAViT (stored)."""
    found = of_each_data(profile, table2_rows)
    backbone = DetrConfig().to_dict()["backbone_config"]["backbone"]
    rows = sum(map(len, found.values()))
    return Outcome(
        PARTLY if backbone and rows else REPRODUCED,
        f"transformers' DETR reads the map of a convolutional backbone ({backbone}), so there are no patches to "
        f"leave out; BAViT was put before YOLOS alone ({rows} stored rows).",
    )


def names(profile: Profile) -> Outcome:
    """Looks the name up in Table 1, and finds the model by the number of layers that Table 2's tokens come to."""
    known = {row["model"]: row["depth"] for row in PAPER.table1}
    layers = PAPER.table2[0]["tokens_bavit"] // PAPER.bavit_tokens
    meant = [name for name, depth in known.items() if depth == layers]
    return Outcome(
        REPRODUCED if "bavit-tiny" in known else PARTLY if len(meant) == 1 else NOT_AS_STATED,
        f"Table 1 has {' and '.join(known)}; {PAPER.table2[0]['tokens_bavit']:,} tokens are {layers} layers of "
        f"{PAPER.bavit_tokens}, so {meant[0]} is meant. Deformable attention is Deformable DETR's; Sparse DETR "
        "chooses tokens, and is compared as such here.",
    )


def _verdicts(rows: pd.DataFrame, value: str, low: str, high: str) -> dict[str, list[str]]:
    """Selectors that are clearly better than BAViT at all their budgets, clearly worse, or neither.

    Random choice and lower resolutions, which a status follows from, with their mean difference in points.
    """
    verdicts = {"better": [], "worse": [], "unclear": []}
    for selector, each in rows.groupby("selector", sort=False):
        key = "better" if (each[low] > 0).all() else "worse" if (each[high] < 0).all() else "unclear"
        decisive = selector.startswith(("random", "resolution"))
        verdicts[key].append(selector + (f" {100 * each[value].mean():+.1f}" if decisive else ""))
    return verdicts


_RIVALS = ("random", "sparse-detr", "focus-detr", "oracle-exact")


def missing_baselines(profile: Profile) -> Outcome:
    """Compares other choices with BAViT-small at 35 % sparsity, and cheaper ways at equal multiply-adds (stored)."""

    def read(name: str) -> tuple[dict, dict]:
        rows = stored(f"selectors-{name}", "gmacs")
        columns = ["delta_to_bavit", "delta_low", "delta_high"], ["delta_at_gmacs", "at_gmacs_low", "at_gmacs_high"]
        at_35 = rows[(rows.sparsity == TRAINED_AT) & rows.selector.isin(_RIVALS)].dropna(subset=columns[0])
        others = rows[rows.sparsity.isna() & (rows.selector != "dense")].dropna(subset=columns[1])
        if "budget" in others:  # of methods that come at several, BAViT's at 35 %
            others = others[others.budget.isna() | (others.budget == TRAINED_AT)]
        smaller = others[others.selector.str.startswith("resolution")]
        others = others.drop(smaller.index.difference(smaller.nlargest(1, "gmacs").index))  # the least resized is enough
        return _verdicts(at_35, *columns[0]), _verdicts(others, *columns[1])

    patches = (448 // PATCH_SIZE) ** 2
    told = (
        f"YOLOS at 448 px: {percent(1 - patches / PAPER.detector_tokens, 0)} fewer tokens, "
        f"{percent(1 - yolos_multiply_adds(patches, patches) / yolos_multiply_adds(PAPER.detector_tokens))} fewer "
        "multiply-adds, no second network. "
    )
    try:
        found = of_each_data(profile, read)
    except NotRun as missing:
        return Outcome(NOT_RUN, f"{told}{missing}")
    holds = {
        name: any(one.startswith("random") for one in chosen["worse"])
        and not any("resolution" in one for one in dense["better"])
        for name, (chosen, dense) in found.items()
    }
    shown = listed({name: " | ".join(map(_shown, pair)) for name, pair in found.items()})
    return Outcome(measured_status(holds), f"{told}Against BAViT at equal sparsity | at equal multiply-adds, {shown}.")


def _shown(verdicts: dict[str, list[str]]) -> str:
    return "; ".join(f"{key}: {', '.join(each)}" for key, each in verdicts.items() if each) or NOT_RUN


def partial_pruning(profile: Profile) -> Outcome:
    """Keeps a random quarter of the background, and compares at equal sparsity with pruning all of it (stored)."""

    def read(name: str) -> tuple[pd.Series, pd.Series]:
        return table2_rows(name).loc[TRAINED_AT], table2_rows(name, spared=0.25).loc[TRAINED_AT]

    found = of_each_data(profile, read)
    holds = {name: some.delta_high >= every.delta_low for name, (every, some) in found.items()}
    told = {name: f"{change(every)} completely, {change(some)} partially" for name, (every, some) in found.items()}
    return Outcome(
        measured_status(holds), f"It can be done. Change in AP at {percent(TRAINED_AT, 0)} sparsity {listed(told)}."
    )


def sparse_pictures(profile: Profile) -> Outcome:
    """Counts pictures of a COCO subset above 70 % sparsity, by labels and at two thresholds (stored)."""
    rows = stored("calibration-coco", "above_70", kind="sparsity-of-pictures")
    labels = rows[rows["of"] == "labels"].iloc[0]
    half, chosen = (row for _, row in rows[rows["of"] == "threshold"].sort_values("threshold").iterrows())
    many = [row.above_70 >= 0.25 for row in (labels, half, chosen)]
    return Outcome(
        REPRODUCED if all(many) else PARTLY if any(many) else NOT_AS_STATED,
        f"Of {int(labels.n_images)} pictures {percent(labels.above_70, 0)} by their labels and "
        f"{percent(half.above_70, 0)} at threshold {half.threshold:g}; at {chosen.threshold:.2f}, chosen to lose at "
        f"most 2 % of the foreground, {percent(chosen.above_70, 0)}. There the middle picture loses "
        f"{percent(chosen.q50, 0)}, the sparsest twentieth {percent(chosen.q95, 0)} or more.",
    )


def joint_training(profile: Profile) -> Outcome:
    """Looks whether a gradient passes the keep mask, and how sparsity varies over pictures (stored)."""
    passes = keep_mask(torch.rand(1, _ROWS, _ROWS, requires_grad=True), 0.5).requires_grad
    rows = stored("calibration-coco", "above_70", kind="sparsity-of-pictures", of="threshold")
    half = rows.sort_values("threshold").iloc[0]
    return Outcome(
        PARTLY if passes else NOT_AS_STATED,
        f"{'A' if passes else 'No'} gradient passes the keep mask, so the detector's loss "
        f"{'can' if passes else 'cannot'} train BAViT as it is described; the paper calls both future work. A fixed "
        f"threshold already prunes each picture differently: {percent(half.q05, 0)} (5th percentile) to "
        f"{percent(half.q95, 0)} (95th) on the COCO subset.",
    )


def all_of_cocos_val(profile: Profile) -> Outcome:
    """Looks for stored rows of Table 2 on COCO, and on how many pictures they are."""
    n_images = int(table2_rows("coco").n_images.iloc[0])
    complete = n_images == PAPER.n_val_images
    return Outcome(REPRODUCED if complete else PARTLY, f"Our rows of COCO are of {n_images:,} pictures.")


METHOD = (
    Claim(30, "§ 3.5", "“we upscale the tokens labels from 576 to 1024 keeping the relative BG/FG patch position "
          "same”: 24 to 32 is 4/3.", grid_to_grid),
    Claim(31, "Appendix", "“we use Connected Component Analysis (CCA) [36]”, and convert “for all pixels with "
          "convolution output greater than 2”.", connected_component_analysis),
    Claim(32, "Fig. 6, appendix", "“orange patch is BG misclassified as FG” (caption); “orange patches are FG "
          "misclassified as BG” (text).", caption_of_figure_6),
    Claim(33, "Abstract, § 3.5", "“object detection models like DETR/YOLOs”; “it cannot be applied to a CNN backbone "
          "based ViT object detectors”.", detr_or_yolos),
    Claim(34, "§ 4.2, § 2.2", "“we added BAViT-tiny”; Sparse DETR works “by substituting dense attention with "
          "deformable attention”.", names),
    Claim(35, "§ 1", "“provides a good latency/accuracy trade-off”: without random, oracle, merging, or a lower "
          "resolution beside it.", missing_baselines),
)  # fmt: skip
MEASURED_NOWHERE = (
    Claim(36, "Abstract", "“The background tokens can be pruned completely or partially”: partial pruning isn't "
          "shown.", partial_pruning),
    Claim(37, "§ 4.1", "“sparsity varies based on the image and it can be even more than 70% in many "
          "images”.", sparse_pictures),
    Claim(38, "Poster, § 3.2", "“supporting joint training and adaptive sparsity based on image complexity”; L_acc "
          "“can also be used with other loss functions”.", joint_training),
    Claim(39, "§ 4.2", "“the average reduction in tokens for 5000 COCO validation images”.", all_of_cocos_val),
)  # fmt: skip
