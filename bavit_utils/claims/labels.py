"""Checks of what the paper says of its labels (section 3.1)."""

import numpy as np

from ..annotations import VOID, labels_from_boxes, labels_from_mask
from ..config import PATCH_SIZE
from ..data.records import load_records
from ..paper import PAPER
from .base import Interval, Status, claim, left_open, percent, stored, verdict

_SIDE = PAPER.bavit_img_size
_GRID = (_SIDE // PATCH_SIZE,) * 2


def _sample_labels(reduce=np.max, rule: str = "coverage", tau: float = PAPER.tau_box) -> np.ndarray:
    """Labels of the sample world's pictures with objects, [images, rows, cols]: `reduce` over those of single boxes."""
    return np.array([
        reduce([labels_from_boxes(box[None], record.size, _GRID, rule, tau=tau) for box in record.boxes], axis=0)
        for record in load_records("sample", "val") if len(record.boxes)
    ])  # fmt: skip


@claim(1, "§ 3.1, Eq. 2", "“labeled as one (Foreground - FG) if the overlap of a token with any of the bounding box is "
       "more than 0.5”, the overlap being J = |P ∩ B| / |P ∪ B|.")  # fmt: skip
def literal_jaccard():
    """Labels square boxes around a patch, and the sample world's pictures, by Eq. 2 and by the share of the patch."""
    sides = range(PATCH_SIZE, _SIDE + 1)
    reached = max(s for s in sides if labels_from_boxes([[0, 0, s, s]], (_SIDE, _SIDE), _GRID, "jaccard").any())
    literal, coverage = (_sample_labels(rule=rule).sum() for rule in ("jaccard", "coverage"))
    others = " and ".join(f"{PATCH_SIZE**2 / side**2:.2f} at {side} px" for side in (2 * PATCH_SIZE, 4 * PATCH_SIZE))
    return verdict(literal >= 0.9 * coverage, otherwise=Status.SLIP), (
        f"A box around a patch labels it up to a side of {reached} px; J is {others}. Of "
        f"{len(load_records('sample', 'val')) * PAPER.bavit_tokens:,} tokens of the sample world Eq. 2 labels "
        f"{literal:,} foreground, coverage of the patch, as the poster has it, {coverage:,}."
    )


@claim(2, "§ 3.1, Eq. 1", "L = 1 if J(P, B) ≥ τ, for one box B: over which boxes, only the text says (“any of the "
       "bounding box”), and it has “more than 0.5” for ≥.")  # fmt: skip
def readings_of_equation_1():
    """Labels the sample world's tokens if any box is enough, if every box must reach τ, and with > for ≥."""
    any_box, every_box = _sample_labels(), _sample_labels(np.min)
    some, every = any_box.mean(), every_box.mean()
    turned = (any_box != _sample_labels(tau=np.nextafter(PAPER.tau_box, 1))).mean()
    return Status.UNSPECIFIED if turned > 0.01 else verdict(some == every, otherwise=Status.SLIP), (
        f"{percent(some)} of the tokens are foreground if any box is enough, as the text says, {percent(every)} if all "
        f"boxes must reach τ. With > for ≥ {percent(turned, 2)} of the tokens change."
    )


@claim(3, "§ 3.1", "“most of the results presented in this paper are from annotated data using segmentation map”: "
       "which are not isn't said, nor what becomes of void pixels.", "measured")  # fmt: skip
def two_label_rules():
    """Compares BAViT-small trained and measured by masks and by boxes (stored), and labels a patch with void."""
    rows = stored("ablation-rule", "accuracy_low").set_index(["rule", "tau"])
    mask, box = (Interval.of(rows.loc[key], "accuracy") for key in (("mask", PAPER.tau_mask), ("box", PAPER.tau_box)))
    patch = np.zeros((PATCH_SIZE, PATCH_SIZE), dtype=np.uint8)
    patch[:1], patch[-7:] = 1, VOID  # one row of an object, seven of void
    left_out, counted = (labels_from_mask(one, (1, 1))[0, 0] for one in (patch, np.where(patch == VOID, 0, patch)))
    names = ("background", "foreground")
    return left_open((mask - box).above() is not None), (
        f"On the same VOC2012 pictures {percent(mask.estimate)} accuracy by masks, {percent(box.estimate)} by boxes: "
        f"{mask - box} points. A patch of {percent(1 / PATCH_SIZE)} object and {percent(7 / PATCH_SIZE)} void is "
        f"{names[left_out]} if void is left out, {names[counted]} if it counts."
    )


@claim(4, "§ 3.4", "“We use both Pascal VOC [14] and COCO 2017 [13] to train BAViT”: VOC2012 has masks for "
       f"{PAPER.voc2012_masks:,} pictures, more only with SBD's; the split isn't said.", "measured")  # fmt: skip
def voc_split():
    """Compares BAViT-small trained on the fewest and on the most VOC2012 pictures (stored)."""
    rows = stored("ablation-pictures", "accuracy_low").sort_values("n_train")
    fewest, most = rows.iloc[0], rows.iloc[-1]
    gain = Interval.of(most, "accuracy") - Interval.of(fewest, "accuracy")
    return left_open(gain.above() is not None), (
        f"Trained on {fewest.n_train:,} pictures of a list of ours {percent(fewest.accuracy)}, on {most.n_train:,} "
        f"{percent(most.accuracy)}: {gain} points, on the same {most.n_images} pictures at {most.img_size} px."
    )


@claim(5, "Figs. 2 and 4", "“16×16 grid”, beside 16-pixel patches at 384 px.")
def grid_of_16():
    """Divides the input side by the patch size, and compares with the number of tokens that section 3.5 gives."""
    rows, patch = _SIDE // PAPER.patch_size, PAPER.patch_size
    return verdict(rows == patch, otherwise=Status.SLIP if rows**2 == PAPER.bavit_tokens else None), (
        f"{patch}-px patches of {_SIDE} px make a {rows}×{rows} grid, {rows**2} tokens, and section 3.5 has "
        f"{PAPER.bavit_tokens}; a {patch}×{patch} grid is a picture of {patch**2} px."
    )


@claim(6, "§ 3.5", "“The BAViT model works on 384×384 input”: whether pictures are warped or letterboxed isn't said.")
def warped_or_letterboxed():
    """Computes how much of a square letterboxed picture is padding, and what becomes of the sample world's labels."""
    records = load_records("sample", "val")
    padding = 1 - np.mean([min(record.size) / max(record.size) for record in records])
    warped, boxed = (
        np.mean([labels_from_boxes(r.boxes, size, _GRID).mean() for r, size in zip(records, sizes, strict=True)])
        for sizes in ([r.size for r in records], [(max(r.size),) * 2 for r in records])
    )
    return left_open(abs(warped - boxed) > 0.01), (
        f"Of a letterboxed 640×480 picture {percent(1 - 480 / 640, 0)} of the tokens are padding, of the sample "
        f"world's {percent(padding, 0)}; foreground falls from {percent(warped)} of the tokens, warped, to "
        f"{percent(boxed)}. We warp."
    )
