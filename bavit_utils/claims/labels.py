"""Checks of what the paper says of its labels (section 3.1)."""

import numpy as np

from ..annotations import VOID, labels_from_boxes, labels_from_mask
from ..config import PATCH_SIZE, Profile
from ..data.records import Record, load_records
from ..paper import PAPER
from .base import NOT_AS_STATED, PARTLY, REPRODUCED, Claim, Outcome, percent, stored

_SIDE = PAPER.bavit_img_size
_GRID = (_SIDE // PATCH_SIZE,) * 2


def _sample_records() -> list[Record]:
    return load_records("sample", "val")


def literal_jaccard(profile: Profile) -> Outcome:
    """Labels square boxes around a patch, and the sample world's pictures, by Eq. 2 and by the share of the patch."""
    sides = range(PATCH_SIZE, _SIDE + 1)
    reached = [s for s in sides if labels_from_boxes([[0, 0, s, s]], (_SIDE, _SIDE), _GRID, "jaccard").any()]
    records = _sample_records()
    literal, coverage = (
        int(sum(labels_from_boxes(record.boxes, record.size, _GRID, rule).sum() for record in records))
        for rule in ("jaccard", "coverage")
    )
    status = NOT_AS_STATED if literal < 0.1 * coverage else PARTLY if literal < coverage else REPRODUCED
    others = " and ".join(f"{PATCH_SIZE**2 / side**2:.2f} at {side} px" for side in (2 * PATCH_SIZE, 4 * PATCH_SIZE))
    return Outcome(
        status,
        f"A box around a patch labels it up to a side of {max(reached)} px; J is {others}. Of "
        f"{len(records) * PAPER.bavit_tokens:,} tokens of the sample world Eq. 2 labels {literal:,} foreground, "
        f"coverage {coverage:,}.",
    )


def readings_of_equation_1(profile: Profile) -> Outcome:
    """Labels the sample world's tokens if one box is enough, if every box must reach τ, and with > for ≥."""
    any_box, every_box, more_than = [], [], []
    for record in (record for record in _sample_records() if len(record.boxes)):
        each = [labels_from_boxes(box[None], record.size, _GRID) for box in record.boxes]
        any_box.append(np.max(each, axis=0))
        every_box.append(np.min(each, axis=0))
        above = np.nextafter(PAPER.tau_box, 1)
        more_than.append(labels_from_boxes(record.boxes, record.size, _GRID, tau=above))
    some, every, more = (np.mean(labels) for labels in (any_box, every_box, more_than))
    turned = int(np.sum(np.array(any_box) != np.array(more_than)))
    status = REPRODUCED if some == every == more else PARTLY if some == every else NOT_AS_STATED
    return Outcome(
        status,
        f"{percent(some)} of the tokens are foreground if one box is enough, which must be meant, and "
        f"{percent(every)} if all boxes must reach τ. With > for ≥ {turned} of {np.size(any_box):,} tokens change.",
    )


def two_label_rules(profile: Profile) -> Outcome:
    """Compares BAViT-small trained and measured by masks and by boxes (stored rows), and labels a patch with void."""
    rows = stored("ablation-rule", "accuracy_low").set_index(["rule", "tau"])
    mask, box = rows.loc["mask", PAPER.tau_mask], rows.loc["box", PAPER.tau_box]
    patch = np.zeros((PATCH_SIZE, PATCH_SIZE), dtype=np.uint8)
    patch[:1], patch[-7:] = 1, VOID  # one row of an object, seven of void
    left_out, counted = (int(labels_from_mask(one, (1, 1))[0, 0]) for one in (patch, np.where(patch == VOID, 0, patch)))
    names = ("background", "foreground")
    apart = mask.accuracy_low > box.accuracy_high or box.accuracy_low > mask.accuracy_high
    return Outcome(
        NOT_AS_STATED if apart or left_out != counted else PARTLY,
        f"On the same VOC2012 pictures {percent(mask.accuracy)} accuracy by masks, {percent(box.accuracy)} by boxes. "
        f"A patch of {percent(1 / PATCH_SIZE)} object and "
        f"{percent(7 / PATCH_SIZE)} void is {names[left_out]} if void is left out, {names[counted]} if it counts.",
    )


def voc_split(profile: Profile) -> Outcome:
    """Says which pictures our VOC rows are of, and how accuracy moves with the number of training pictures (stored)."""
    rows = stored("table1", "accuracy", dataset="voc2012", rule="mask", model="bavit-small", recipe="best")
    first = rows.iloc[0]
    fewer = stored("ablation-pictures", "accuracy").set_index("n_train").sort_index()
    return Outcome(
        PARTLY,
        f"With lists of our own, {first.n_train:,} pictures to train and {first.n_images} held out: "
        f"{percent(rows.accuracy.mean())} over {len(rows)} seeds. At half scale {fewer.index[0]} pictures give "
        f"{percent(fewer.accuracy.iloc[0])}, {fewer.index[-1]:,} give {percent(fewer.accuracy.iloc[-1])}.",
    )


def grid_of_16(profile: Profile) -> Outcome:
    """Divides the input side by the patch size, and compares with the number of tokens that section 3.5 gives."""
    rows = _SIDE // PAPER.patch_size
    fits = rows**2 == PAPER.bavit_tokens and rows == PAPER.patch_size
    return Outcome(
        REPRODUCED if fits else NOT_AS_STATED,
        f"{PAPER.patch_size}-px patches of {_SIDE} px make a {rows}×{rows} grid, the {PAPER.bavit_tokens} tokens of "
        f"section 3.5; a {PAPER.patch_size}×{PAPER.patch_size} grid of them is a picture of {PAPER.patch_size**2} px.",
    )


def warped_or_letterboxed(profile: Profile) -> Outcome:
    """Computes how much of a square letterboxed picture is padding, at 640×480 and over the sample world's sizes."""
    records = _sample_records()
    padding = 1 - np.mean([min(record.size) / max(record.size) for record in records])
    warped = np.mean([labels_from_boxes(record.boxes, record.size, _GRID).mean() for record in records])
    boxed = np.mean([labels_from_boxes(record.boxes, (max(record.size),) * 2, _GRID).mean() for record in records])
    return Outcome(
        NOT_AS_STATED if abs(warped - boxed) > 0.01 else PARTLY,
        f"Of a letterboxed 640×480 picture {percent(1 - 480 / 640, 0)} of the tokens are padding, of the sample "
        f"world's pictures {percent(padding, 0)}; foreground falls from {percent(warped)} of the tokens, warped, to "
        f"{percent(boxed)}. We warp.",
    )


LABELS = (
    Claim(1, "§ 3.1, Eq. 2", "“labeled as one (Foreground - FG) if the overlap of a token with any of the bounding "
          "box is more than 0.5”, the overlap being J = |P ∩ B| / |P ∪ B|.", literal_jaccard),
    Claim(2, "§ 3.1, Eq. 1", "L = 1 if J(P, B) ≥ τ, for one box B: no word on several boxes, and ≥ beside “more than "
          "0.5”.", readings_of_equation_1),
    Claim(3, "§ 3.1", "“most of the results presented in this paper are from annotated data using segmentation map”: "
          "which are not isn't said, nor what becomes of void pixels.", two_label_rules),
    Claim(4, "§ 3.4", "“We use both Pascal VOC [14] and COCO 2017 [13] to train BAViT”: VOC2012 has masks for "
          f"{PAPER.voc2012_masks:,} pictures, more only with SBD's; the split isn't said.", voc_split),
    Claim(5, "Figs. 2 and 4", "“16×16 grid”, beside 16-pixel patches at 384 px.", grid_of_16),
    Claim(6, "§ 3.5", "“The BAViT model works on 384×384 input”: whether pictures are warped or letterboxed isn't "
          "said.", warped_or_letterboxed),
)  # fmt: skip
