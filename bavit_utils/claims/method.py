"""Checks of the method's details (section 3.5, appendix, figures), and of what is said and measured nowhere."""

import numpy as np
import pandas as pd
import torch
from skimage.measure import label as connected_components
from transformers import DetrConfig

from ..config import PATCH_SIZE
from ..cost import yolos_multiply_adds
from ..paper import PAPER
from ..pruning import fill_neighbours, keep_mask, resize_grid
from .base import (
    CONTRADICTED,
    MEASURED,
    NotRun,
    SLIP,
    SMALL_DROP,
    TEXT,
    TRAINED_AT,
    above,
    change,
    claim,
    interval,
    listed,
    on_each_data,
    open_point,
    percent,
    stored,
    table2_rows,
    together,
    verdict,
    verdict_on_data,
)

_ROWS = PAPER.bavit_img_size // PATCH_SIZE
_WIDE_ROWS = PAPER.detector_img_size // PATCH_SIZE


def _drawn(shape: tuple[int, ...], share: float) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape) < share)


@claim(30, "§ 3.5", "“we upscale the tokens labels from 576 to 1024 keeping the relative BG/FG patch position same”: 24 "
       "to 32 is 4/3.", MEASURED)  # fmt: skip
def grid_to_grid():
    """Counts how often nearest resizing copies each cell, and compares three ways to resize in AP (stored)."""
    source = torch.arange(_ROWS**2, dtype=torch.float32).view(1, _ROWS, _ROWS)
    copied = resize_grid(source, (_WIDE_ROWS, _WIDE_ROWS)).flatten().long()
    counts, cells = np.unique(torch.bincount(copied, minlength=_ROWS**2).numpy(), return_counts=True)

    def read(name: str) -> list[pd.Series]:
        return [table2_rows(name, resize=mode).loc[TRAINED_AT] for mode in ("nearest", "bilinear", "any")]

    found = on_each_data(read)
    differ = any(max(row.delta_low for row in rows) > min(row.delta_high for row in rows) for rows in found.values())
    shown = {
        name: " / ".join(interval(row.delta_AP, row.delta_low, row.delta_high) for row in rows)
        for name, rows in found.items()
    }
    uneven = ", ".join(f"{cell} cells {count}x" for count, cell in zip(counts, cells, strict=True))
    return (
        verdict(True) if len(counts) == 1 else open_point(differ),
        f"Nearest copies {uneven}. Nearest / bilinear / any at {percent(TRAINED_AT, 0)} sparsity, change in AP "
        f"{listed(shown)}.",
    )


@claim(31, "Appendix", "“we use Connected Component Analysis (CCA) [36]”, and convert “for all pixels with convolution "
       "output greater than 2”.")  # fmt: skip
def connected_component_analysis():
    """Fills drawn grids with 8 and 4 neighbours, and labels their connected components, which changes no cell."""
    keep = _drawn((64, _ROWS, _ROWS), 0.3)
    around, cross = (fill_neighbours(keep, PAPER.fill_steps, PAPER.fill_more_than, n) for n in (8, 4))
    labelled = torch.from_numpy(np.stack([connected_components(grid, connectivity=2) > 0 for grid in keep.numpy()]))
    before, after, after_cross = (grid.float().mean().item() for grid in (keep, around, cross))
    return (
        verdict(torch.equal(labelled, around)),
        f"Component labelling leaves every cell as it was. {PAPER.fill_steps} fills of drawn grids with "
        f"{percent(before, 0)} FG end at {percent(after, 0)} with eight neighbours, {percent(after_cross, 0)} with "
        f"four, and remove {int((keep & ~around).sum())} FG cells: a threshold on a count, which can only lower "
        "sparsity. Which neighbours isn't said.",
    )


@claim(32, "Fig. 6, appendix", "“orange patch is BG misclassified as FG” (caption); “orange patches are FG "
       "misclassified as BG” (text).")  # fmt: skip
def caption_of_figure_6():
    """Applies the fill to drawn mistakes of both kinds, and counts which kind it can correct."""
    truth = torch.zeros(64, _ROWS, _ROWS, dtype=torch.bool)
    truth[:, 6:18, 6:18] = True
    predicted = truth ^ _drawn(tuple(truth.shape), 0.1)
    filled = fill_neighbours(predicted, PAPER.fill_steps, PAPER.fill_more_than)
    text, caption = (int((wrong & (filled == truth)).sum()) for wrong in (truth & ~predicted, ~truth & predicted))
    kinds = int((truth & ~predicted).sum()), int((~truth & predicted).sum())
    return (
        verdict(caption > 0, otherwise=SLIP if text else CONTRADICTED),
        f"The fill corrects {text:,} of {kinds[0]:,} FG patches taken for BG, and {caption} of {kinds[1]:,} BG "
        "patches taken for FG; Fig. 6 (right) shows orange patches corrected.",
    )


@claim(33, "Abstract, § 3.5", "“object detection models like DETR/YOLOs”; “it cannot be applied to a CNN backbone based "
       "ViT object detectors”.", TEXT)  # fmt: skip
def detr_or_yolos():
    """Looks at what transformers' DETR reads its tokens from."""
    backbone = DetrConfig().to_dict()["backbone_config"]["backbone"]
    return CONTRADICTED, (
        f"Section 3.5 excludes what the abstract names: transformers' DETR reads the map of a convolutional backbone "
        f"({backbone}), so it has no patches to leave out. BAViT was put before YOLOS alone, there and here."
    )


@claim(34, "§ 4.2, § 2.2", "“we added BAViT-tiny”; Sparse DETR works “by substituting dense attention with deformable "
       "attention”.")  # fmt: skip
def names():
    """Looks the name up in Table 1, and finds the model by the number of layers that Table 2's tokens come to."""
    known = {row["model"]: row["depth"] for row in PAPER.table1}
    tokens = PAPER.table2[0]["tokens_bavit"]
    meant = [name for name, depth in known.items() if depth * PAPER.bavit_tokens == tokens]
    return (
        verdict("bavit-tiny" in known, otherwise=SLIP if len(meant) == 1 else CONTRADICTED),
        f"Table 1 has {' and '.join(known)}; {tokens:,} tokens are {tokens // PAPER.bavit_tokens} layers of "
        f"{PAPER.bavit_tokens}, so {' or '.join(meant) or 'none'} is meant. Deformable attention is Deformable DETR's; "
        "Sparse DETR chooses tokens, and is compared as such here.",
    )


# What a reader would set beside BAViT: at equal sparsity, and at equal multiply-adds as shares of the dense detector's.
_AT_SPARSITY = ["delta_to_bavit", "delta_low", "delta_high"]
_AT_COST = ["delta_at_paper_share", "at_paper_share_low", "at_paper_share_high"]


def _rivals(name: str) -> dict[str, pd.DataFrame]:
    """Mean differences of AP to BAViT-small's, with intervals: of other choices at 35 % sparsity, and of cheaper ways.

    Of the smaller pictures only the largest; merging at BAViT's budget of 35 %.
    """
    rows = stored(f"selectors-{name}", "AP")
    chosen = rows[(rows.sparsity == TRAINED_AT) & rows.selector.isin(["random", "oracle-exact"])]
    cheaper = rows[rows.sparsity.isna() & rows.selector.str.match("resolution|tome")]
    cheaper = cheaper[cheaper.budget.isna() | (cheaper.budget == TRAINED_AT)] if "budget" in cheaper else cheaper
    smaller = cheaper[cheaper.selector.str.startswith("resolution")]
    cheaper = cheaper.drop(smaller.index.difference(smaller.nlargest(1, "gmacs").index))
    found = {}
    for key, each, columns in (("sparsity", chosen, _AT_SPARSITY), ("cost", cheaper, _AT_COST)):
        found[key] = each.dropna(subset=columns).groupby("selector")[columns].mean().set_axis(_AT_SPARSITY, axis=1)
    if not all(map(len, found.values())):
        raise NotRun(f"rows of selectors-{name}.json (chance, the truth, smaller pictures)")
    return found


@claim(35, "§ 1", "“provides a good latency/accuracy trade-off”: without random, oracle, merging, or a lower resolution "
       "beside it.", MEASURED)  # fmt: skip
def missing_baselines():
    """Compares chance and the truth with BAViT-small at 35 % sparsity, and cheaper ways at equal cost (stored)."""
    found = on_each_data(_rivals)
    patches = (448 // PATCH_SIZE) ** 2
    # Good, if it beats chance, and nothing that needs no second network beats it at its cost at the paper's sizes.
    holds, shown = {}, {}
    for name, rivals in found.items():
        against = pd.concat([rivals["sparsity"].loc[["random"]], rivals["cost"]])
        holds[name] = together(*(above(-row.delta_high, -row.delta_low) for row in against.itertuples()))
        shown[name] = " | ".join(
            ", ".join(f"{selector} {interval(*row)}" for selector, row in rows.iterrows()) for rows in rivals.values()
        )
    return (
        verdict_on_data(holds),
        f"AP less BAViT's, at equal sparsity | at equal share of the dense multiply-adds at the paper's sizes, "
        f"{listed(shown)}. YOLOS at 448 px alone: {percent(1 - patches / PAPER.detector_tokens, 0)} fewer tokens, "
        f"{percent(1 - yolos_multiply_adds(patches, patches) / yolos_multiply_adds(PAPER.detector_tokens))} fewer "
        "multiply-adds.",
    )


@claim(36, "Abstract", "“The background tokens can be pruned completely or partially”: partial pruning isn't "
       "shown.", MEASURED)  # fmt: skip
def partial_pruning():
    """Keeps a random quarter of the background, and asks, as of pruning all of it, whether AP bears it (stored)."""

    def read(name: str) -> tuple[pd.Series, pd.Series]:
        return table2_rows(name).loc[TRAINED_AT], table2_rows(name, spared=0.25).loc[TRAINED_AT]

    found = on_each_data(read)
    shown = {name: f"{change(every)} completely, {change(some)} partially" for name, (every, some) in found.items()}
    holds = {
        name: together(*(above(row.share_low, row.share_high, -SMALL_DROP) for row in pair))
        for name, pair in found.items()
    }
    return (
        verdict_on_data(holds),
        f"Change in AP at {percent(TRAINED_AT, 0)} sparsity {listed(shown)}, each paired with the dense detector. It "
        f"holds where the loss is clearly below the abstract's {100 * PAPER.drop:.0f} points of "
        f"{100 * PAPER.base_AP:.1f}, {percent(SMALL_DROP)}.",
    )


@claim(37, "§ 4.1", "“sparsity varies based on the image and it can be even more than 70% in many images”.", MEASURED)
def sparse_pictures():
    """Counts pictures of a COCO subset above 70 % sparsity, by labels and at two thresholds (stored)."""
    rows = stored("calibration-coco", "above_70_low", kind="sparsity-of-pictures")
    labels = rows[rows["of"] == "labels"].iloc[0]
    half, chosen = (row for _, row in rows[rows["of"] == "threshold"].sort_values("threshold").iterrows())
    return (
        verdict(
            *(above(row.above_70_low, row.above_70_high, 0.25) for row in (labels, half, chosen)),
            own=labels.n_images >= PAPER.n_val_images,
        ),
        f"Of {int(labels.n_images)} pictures {percent(labels.above_70, 0)} by their labels and "
        f"{percent(half.above_70, 0)} at threshold {half.threshold:g}; at {chosen.threshold:.2f}, chosen to lose at "
        f"most 2 % of the foreground, {percent(chosen.above_70, 0)}. There the middle picture loses "
        f"{percent(chosen.q50, 0)}, the sparsest twentieth {percent(chosen.q95, 0)} or more. Many is taken for a "
        "quarter.",
    )


@claim(38, "Poster, conclusion", "“supporting joint training and adaptive sparsity based on image complexity”; both are "
       "“future work” in the paper.", TEXT)  # fmt: skip
def joint_training():
    """Sees whether a gradient passes the keep mask, as joint training with the detector's loss would need."""
    passes = keep_mask(torch.rand(1, _ROWS, _ROWS, requires_grad=True), 0.5).requires_grad
    return CONTRADICTED, (
        "The poster has what the conclusion leaves to the future, a threshold that is learnt included. "
        f"{'A' if passes else 'No'} gradient passes the keep mask as it is described, so the detector's loss "
        f"{'can' if passes else 'cannot'} train BAViT through it."
    )


@claim(39, "§ 4.2", "“the average reduction in tokens for 5000 COCO validation images”.", MEASURED)
def all_of_cocos_val():
    """Looks for stored rows of Table 2 on COCO, and on how many pictures they are."""
    n_images = int(table2_rows("coco").n_images.iloc[0])
    return verdict(n_images == PAPER.n_val_images, own=False), f"Our rows of COCO are of {n_images:,} pictures."
