"""Checks of the method's details (section 3.5, appendix, figures), and of what is said and measured nowhere."""

import numpy as np
import torch
from skimage.measure import label as connected_components
from transformers import DetrConfig

from ..config import PATCH_SIZE
from ..cost import yolos_multiply_adds
from ..paper import PAPER, TRAINED_AT
from ..pruning import fill_neighbours, keep_mask, resize_grid
from ..sweep import PLAIN
from .base import (
    Interval,
    NotRun,
    Status,
    ap_verdict,
    claim,
    left_open,
    percent,
    stored,
    table2_rows,
    together,
    verdict,
)

_ROWS = PAPER.bavit_img_size // PATCH_SIZE
_WIDE_ROWS = PAPER.detector_img_size // PATCH_SIZE


def _drawn(shape: tuple[int, ...], foreground: float) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape) < foreground)


@claim(30, "§ 3.5", "“we upscale the tokens labels from 576 to 1024 keeping the relative BG/FG patch position same”: 24 "
       "to 32 is 4/3.")  # fmt: skip
def grid_to_grid():
    """Counts how often nearest resizing copies each cell, and how much of drawn masks two ways to resize keep."""
    source = torch.arange(_ROWS**2, dtype=torch.float32).view(1, _ROWS, _ROWS)
    copied = resize_grid(source, (_WIDE_ROWS, _WIDE_ROWS)).flatten().long()
    counts, cells = np.unique(torch.bincount(copied, minlength=_ROWS**2).numpy(), return_counts=True)
    keep = _drawn((64, _ROWS, _ROWS), 0.5)
    nearest, overlap = (resize_grid(keep, (_WIDE_ROWS,) * 2, mode).double().mean() for mode in ("nearest", "any"))
    uneven = ", ".join(f"{cell} cells {count}x" for count, cell in zip(counts, cells, strict=True))
    return verdict(True) if len(counts) == 1 else left_open(abs(nearest - overlap) > 0.01), (
        f"Nearest copies {uneven}. Of drawn masks that keep {percent(keep.double().mean(), 0)} it keeps "
        f"{percent(nearest, 0)}, keeping what overlaps any kept cell {percent(overlap, 0)}. What that is worth in AP "
        "is claim 29's."
    )


@claim(31, "Appendix", "“we use Connected Component Analysis (CCA) [36]”, and convert “for all pixels with convolution "
       "output greater than 2”.")  # fmt: skip
def connected_component_analysis():
    """Fills drawn grids with 8 and 4 neighbours, and labels their connected components, which changes no cell."""
    keep = _drawn((64, _ROWS, _ROWS), 0.3)
    around, cross = (fill_neighbours(keep, PAPER.fill_steps, PAPER.fill_more_than, n) for n in (8, 4))
    labelled = torch.from_numpy(np.stack([connected_components(grid, connectivity=2) > 0 for grid in keep.numpy()]))
    before, after, after_cross = (percent(grid.double().mean(), 0) for grid in (keep, around, cross))
    return verdict(torch.equal(labelled, around)), (
        f"Component labelling leaves every cell as it was. {PAPER.fill_steps} fills of drawn grids with {before} FG end "
        f"at {after} with eight neighbours, {after_cross} with four, and remove {int((keep & ~around).sum())} FG cells: "
        "a threshold on a count, which can only lower sparsity. Which neighbours isn't said."
    )


@claim(32, "Fig. 6, appendix", "“orange patch is BG misclassified as FG” (caption); “orange patches are FG "
       "misclassified as BG” (text).")  # fmt: skip
def caption_of_figure_6():
    """Applies the fill to drawn mistakes of both kinds, and counts which kind it can correct."""
    truth = torch.zeros(64, _ROWS, _ROWS, dtype=torch.bool)
    truth[:, 6:18, 6:18] = True
    predicted = truth ^ _drawn(tuple(truth.shape), 0.1)
    right = fill_neighbours(predicted, PAPER.fill_steps, PAPER.fill_more_than) == truth
    missed, false = truth & ~predicted, ~truth & predicted
    text, caption = (int((wrong & right).sum()) for wrong in (missed, false))
    return verdict(caption > 0, otherwise=Status.SLIP if text else None), (
        f"The fill corrects {text:,} of {int(missed.sum()):,} FG patches taken for BG, and {caption} of "
        f"{int(false.sum()):,} BG patches taken for FG; Fig. 6 (right) shows orange patches corrected."
    )


@claim(33, "Abstract, § 3.5", "“object detection models like DETR/YOLOs”; “it cannot be applied to a CNN backbone based "
       "ViT object detectors”.", "text")  # fmt: skip
def detr_or_yolos():
    """Looks at what transformers' DETR reads its tokens from."""
    backbone = DetrConfig().to_dict()["backbone_config"]["backbone"]
    return Status.CONTRADICTED, (
        f"Section 3.5 excludes what the abstract names: transformers' DETR reads the map of a convolutional backbone "
        f"({backbone}), so it has no patches to leave out. BAViT was put before YOLOS alone, there and here."
    )


@claim(34, "§ 4.2, § 2.2", "“we added BAViT-tiny”; Sparse DETR works “by substituting dense attention with deformable "
       "attention”.")  # fmt: skip
def names():
    """Looks the name up in Table 1, and finds the model by the number of layers that Table 2's tokens come to."""
    known, tokens = {row["model"]: row["depth"] for row in PAPER.table1}, PAPER.table2[0]["tokens_bavit"]
    meant = [name for name, depth in known.items() if depth * PAPER.bavit_tokens == tokens]
    return verdict("bavit-tiny" in known, otherwise=Status.SLIP if len(meant) == 1 else None), (
        f"Table 1 has {' and '.join(known)}; {tokens:,} tokens are {tokens // PAPER.bavit_tokens} layers of "
        f"{PAPER.bavit_tokens}, so {' or '.join(meant) or 'none'} is meant. Deformable attention is Deformable DETR's; "
        "Sparse DETR chooses tokens, and is compared as such here."
    )


_NAMES = {"random": "random choice", "oracle-exact": "ground truth", "tome": "ToMe"}


def _rivals(name: str) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """AP less BAViT-small's, at 35 % sparsity of chance and the truth, and at equal cost of ways without a scorer.

    Cost is the share of the dense multiply-adds at the paper's sizes; of the smaller pictures only the largest, merging
    at BAViT's budget of 35 %.
    """
    at_35 = {
        one: stored(f"selectors-{name}", "delta_to_bavit", selector=one, sparsity=TRAINED_AT).mean(numeric_only=True)
        for one in ("random", "oracle-exact")
    }
    rows = stored(f"selectors-{name}", "delta_at_paper_share").sort_values("gmacs")
    rows = rows[rows.selector.str.match("resolution|tome") & (rows.budget.isna() | (rows.budget == TRAINED_AT))]
    cheaper = rows.groupby(rows.selector.str.split("-").str[0]).tail(1).set_index("selector")
    return {one: Interval.of(row, "delta_to_bavit", "delta") for one, row in at_35.items()}, {
        one: Interval.of(row, "delta_at_paper_share", "at_paper_share") for one, row in cheaper.iterrows()
    }


@claim(35, "§ 1", "“provides a good latency/accuracy trade-off”: without random, oracle, merging, or a lower resolution "
       "beside it.", "measured")  # fmt: skip
def missing_baselines():
    """Compares random choice and ground truth with BAViT-small at 35 % sparsity, and others at equal cost (stored)."""

    def read(name: str) -> tuple[bool | None, str]:
        try:
            chosen, cheaper = _rivals(name)
        except NotRun:  # no comparison of selectors, but Table 2 with random choice
            drawn = stored(
                f"table2-{name}", "delta_low", bavit="random", detector="yolos", sparsity=TRAINED_AT, **PLAIN
            )
            change = Interval.of(drawn.mean(numeric_only=True), "delta_AP", "delta")
            chosen, cheaper = {"random": change - table2_rows(name).change[TRAINED_AT]}, {}
        # Good is: clearly better than chance, and than what needs no second network.
        holds = together(*(rival.below() for rival in (chosen["random"], *cheaper.values())))
        if holds and not cheaper:
            holds = None  # of half of what it takes
        shown = []
        for cost, rivals in (("sparsity", chosen), ("cost", cheaper)):
            each = [
                f"{_NAMES.get(one) or one.removeprefix('resolution-') + ' px'} {rival}" for one, rival in rivals.items()
            ]
            shown += [f"at equal {cost} {', '.join(each)}"] if each else []
        return holds, ", ".join(shown)

    status, shown = ap_verdict(read)
    patches = (448 // PATCH_SIZE) ** 2
    less = 1 - yolos_multiply_adds(patches, patches) / yolos_multiply_adds(PAPER.detector_tokens)
    return status, (
        f"AP less BAViT's (cost: multiply-adds at the paper's sizes): {shown}. YOLOS at 448 px alone: "
        f"{percent(1 - patches / PAPER.detector_tokens, 0)} fewer tokens, {percent(less)} fewer multiply-adds."
    )


@claim(37, "§ 4.1", "“sparsity varies based on the image and it can be even more than 70% in many images”.", "measured")
def sparse_pictures():
    """Counts pictures of a COCO subset above 70 % sparsity, by labels and at two thresholds (stored)."""
    rows = stored("calibration-coco", "above_70_low", kind="sparsity-of-pictures")
    labels = rows[rows["of"] == "labels"].iloc[0]
    half, chosen = (row for _, row in rows[rows["of"] == "threshold"].sort_values("threshold").iterrows())
    above = [Interval.of(row, "above_70") for row in (labels, half, chosen)]
    by_labels, at_half, at_chosen = (f"{percent(m, 0)} [{100 * low:.0f}, {100 * high:.0f}]" for m, low, high in above)
    return verdict(*(each.above(0.25) for each in above), own=labels.n_images >= PAPER.n_val_images), (
        f"Of {int(labels.n_images)} pictures {by_labels} by their labels and {at_half} at threshold {half.threshold:g}; at "
        f"{chosen.threshold:.2f}, chosen to lose at most 2 % of the foreground, {at_chosen}. There the middle picture "
        f"loses {percent(chosen.q50, 0)}, the sparsest twentieth {percent(chosen.q95, 0)} or more. Many is taken for a "
        "quarter."
    )


@claim(38, "Poster, conclusion", "“supporting joint training and adaptive sparsity based on image complexity”; both are "
       "“future work” in the paper.", "text")  # fmt: skip
def joint_training():
    """Sees whether a gradient passes the keep mask, as joint training with the detector's loss would need."""
    passes = keep_mask(torch.rand(1, _ROWS, _ROWS, requires_grad=True), 0.5).requires_grad
    return Status.CONTRADICTED, (
        "The poster has what the conclusion leaves to the future. "
        f"{'A' if passes else 'No'} gradient passes the keep mask as it is described, so the detector's loss "
        f"{'can' if passes else 'cannot'} train BAViT through it."
    )
