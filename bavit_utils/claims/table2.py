"""Checks of Table 2, of Eq. 4, and of what the text says of them (section 4.2, abstract, conclusion)."""

import numpy as np
import pandas as pd

from ..config import Profile, get_profile
from ..cost import multiply_adds, token_reduction, token_table
from ..experiments.benchmark import times_dense
from ..finetuning_tables import TRAINED_AT, paper_ap
from ..paper import PAPER
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

_TABLE = pd.DataFrame(PAPER.table2)
_YOLOS = _TABLE[_TABLE.detector == "yolos"].set_index("sparsity").sort_index()
_DROP = PAPER.base_AP - _YOLOS.AP  # at each sparsity


def _tokens() -> tuple[int, int]:
    return int(_TABLE.tokens_yolos[0]), int(_TABLE.tokens_bavit[0])


def equation_4(profile: Profile) -> Outcome:
    """Computes Eq. 4 as printed, and as a share with 1 - s for s, and compares both with Table 2's reductions."""
    yolos, bavit = _tokens()
    printed = np.array([token_reduction(yolos, bavit, s, as_printed=True) for s in _TABLE.sparsity])
    meant = np.array([token_reduction(yolos, bavit, s) for s in _TABLE.sparsity])
    off, off_meant = (100 * np.abs(values - _TABLE.reduction).max() for values in (printed / yolos, meant))
    at_zero = printed[_TABLE.sparsity == 0][0]
    status = REPRODUCED if off < 0.05 else NOT_AS_STATED
    most = "the most of all rows" if at_zero == printed.max() else "not the most"
    return Outcome(
        status,
        f"As printed it saves {at_zero:,.0f} tokens where nothing is pruned, {most}, and is up to {off:.1f} points "
        f"off the table. (T_y - (T_b + T_y (1 - s))) / T_y is within {off_meant:.2f} points in all {len(_TABLE)} "
        "rows.",
    )


def rounding_of_table_2(profile: Profile) -> Outcome:
    """Recomputes Table 2's reductions from its own tokens, and the tokens that its caption calls BAViT's."""
    computed = (100 * token_table(_TABLE.sparsity.tolist()).reduction).round(2)
    slips = (100 * _TABLE.reduction - computed).abs() > 0.005
    told = ", ".join(
        f"{100 * a:.2f} for {b:.2f}" for a, b in zip(_TABLE.reduction[slips], computed[slips], strict=True)
    )
    yolos, paper = _tokens()[0], get_profile("coco")
    of_yolos = yolos == paper.detector_depth * PAPER.detector_tokens
    largest = (100 * _TABLE.reduction - computed).abs().max()
    status = REPRODUCED if not slips.any() and not of_yolos else PARTLY if largest < 0.05 else NOT_AS_STATED
    return Outcome(
        status,
        f"{slips.sum()} of {len(_TABLE)} reductions are off in the second decimal ({told}). {yolos:,} = "
        f"{paper.detector_depth} × {PAPER.detector_tokens:,} tokens are YOLOS's layers, not “12 layers of BAViT”.",
    )


def row_of_34_percent(profile: Profile) -> Outcome:
    """Looks for the row, and computes its reduction by Eq. 4 and its drop between the neighbouring rows."""
    sparsity, reduction, drop = PAPER.text_row
    computed = token_reduction(*_tokens(), sparsity)
    between = float(np.interp(sparsity, _DROP.index, _DROP))
    below, above = _DROP[_DROP.index < sparsity].iloc[-1], _DROP[_DROP.index > sparsity].iloc[0]
    fits = [sparsity in _YOLOS.index, abs(computed - reduction) < 0.005, abs(between - drop) < 0.005]
    return Outcome(
        REPRODUCED if all(fits) else PARTLY if fits[1] and fits[2] else NOT_AS_STATED,
        f"Table 2 has {'such a' if fits[0] else 'no such'} row. Eq. 4 as meant gives {percent(computed)} fewer "
        f"tokens; the neighbouring rows drop {100 * below:.1f} and {100 * above:.1f} points, some "
        f"{100 * between:.1f} at {percent(sparsity, 0)}.",
    )


def quarter_of_the_tokens(profile: Profile) -> Outcome:
    """Looks up Table 2's drop at 25 % fewer tokens, and the reduction at a drop of 3 points."""
    row = _YOLOS.loc[(_YOLOS.reduction - PAPER.conclusion_reduction).abs().idxmin()]
    drop = PAPER.base_AP - row.AP
    nearest = (_DROP - PAPER.drop).abs().idxmin()
    return Outcome(
        REPRODUCED if drop < PAPER.drop + 0.0005 else NOT_AS_STATED,
        f"Table 2's row of {percent(row.reduction, 2)} fewer tokens drops {100 * drop:.1f} points. The drop nearest "
        f"to {100 * PAPER.drop:.0f} is {100 * _DROP[nearest]:.1f}, at {percent(nearest, 0)} sparsity and "
        f"{percent(_YOLOS.reduction[nearest])} fewer.",
    )


def after_finetuning(profile: Profile) -> Outcome:
    """Subtracts in Table 2, and sets YOLOS-F beside a control: as many epochs without pruning (stored)."""
    drop = 100 * PAPER.base_AP - paper_ap("yolos-f", TRAINED_AT)
    told = f"{100 * PAPER.base_AP:.1f} - {paper_ap('yolos-f', TRAINED_AT):.1f} = {drop:.1f} points, and no control. "
    try:
        found = of_each_data(profile, _against_dense)
        told += "Pruned YOLOS-F against the dense detector " + listed(found) + "."
    except NotRun:
        told += "A control of ours isn't stored for this data."
    return Outcome(REPRODUCED if drop < 100 * PAPER.drop_finetuned else NOT_AS_STATED, told)


def _against_dense(name: str) -> str:
    tuned = table2_rows(name, detector="yolos-f").AP[TRAINED_AT]
    dense, control = (table2_rows(name, detector=detector).AP[0.0] for detector in ("yolos", "yolos-control"))
    return f"{100 * (tuned - dense):+.1f} as trained, {100 * (tuned - control):+.1f} trained as long"


def throughput_at_a_drop_of_3(profile: Profile) -> Outcome:
    """Takes the claim in tokens (Table 2), in multiply-adds, and in time at the paper's sizes (stored)."""
    low, high = PAPER.throughput_gain
    in_tokens = _DROP[(_YOLOS.reduction >= low) & (_YOLOS.reduction <= high)]
    nearest = (_DROP - PAPER.drop).abs().idxmin()
    paper, patches = get_profile("coco"), PAPER.detector_tokens
    saved = 1 - multiply_adds((1 - nearest) * patches, paper) / multiply_adds(patches, paper, bavit=None)
    rows = stored("throughput-cpu", "median_ms", profile="voc")
    faster = {batch: times_dense(rows, batch, pd.Series([nearest]))[0] for batch in sorted(rows.batch.unique())}
    holds = [in_tokens.min() < PAPER.drop + 0.0005, min(faster.values()) >= 1 + low - 0.005]
    told = ", ".join(f"{speed:.2f}x with batch {batch}" for batch, speed in faster.items())
    return Outcome(
        REPRODUCED if all(holds) else PARTLY if any(holds) else NOT_AS_STATED,
        f"Rows with 30 to 40 % fewer tokens drop {100 * in_tokens.min():.1f} to {100 * in_tokens.max():.1f} points. "
        f"The row that drops {100 * _DROP[nearest]:.1f} saves {percent(saved)} of the multiply-adds, and such "
        f"pruning runs {told} here: in time the claim {'can' if holds[1] else 'can not'} hold.",
    )


def baseline(profile: Profile) -> Outcome:
    """Compares with the dense detector's AP on COCO (stored), where YOLOS-tiny was run."""
    dense = table2_rows("coco").loc[0.0]
    near = abs(dense.AP - PAPER.base_AP) < 0.0015
    return Outcome(
        REPRODUCED if near and dense.n_images == PAPER.n_val_images else PARTLY if near else NOT_AS_STATED,
        f"{100 * dense.AP:.1f} AP on {int(dense.n_images):,} COCO pictures at 512 px.",
    )


def first_five_percent(profile: Profile) -> Outcome:
    """Compares the first 5 % of sparsity with the next 24 points, and true labels with BAViT's choice (stored)."""
    first, next_ones = _DROP[0.05], _DROP[0.29] - _DROP[0.05]

    def others(name: str) -> str:
        rows = stored(f"selectors-{name}", "delta_to_bavit", "delta_low", "delta_high", sparsity=0.05)
        rows = rows[rows.selector.str.match("oracle-exact|random$")].groupby("selector").mean(numeric_only=True)
        return ", ".join(f"{selector} {change(row, 'delta_to_bavit')}" for selector, row in rows.iterrows())

    found = of_each_data(profile, table2_rows)
    at_once, later = ({name: rows.delta_AP[s] for name, rows in found.items()} for s in (0.05, 0.29))
    # As in the paper: a clear loss at once, and less for each further token.
    holds = {
        name: rows.delta_high[0.05] < 0 and at_once[name] / 0.05 < (later[name] - at_once[name]) / 0.24
        for name, rows in found.items()
    }
    told = {
        name: f"{change(rows.loc[0.05])}, then {100 * (later[name] - at_once[name]):+.1f}"
        for name, rows in found.items()
    }
    told = f"The paper: -{100 * first:.1f}, then -{100 * next_ones:.1f} points. Here {listed(told)}. "
    try:
        truth = listed(of_each_data(profile, others))
    except NotRun as missing:
        return Outcome(NOT_RUN, f"{told}{missing}")
    return Outcome(measured_status(holds), f"{told}Of these 5 %, less BAViT's choice, {truth}.")


def what_isnt_said(profile: Profile) -> Outcome:
    """Compares the ways from BAViT's map to the kept tokens at equal sparsity (stored): does the choice change AP?"""
    ways = {
        "nearest": {},
        "bilinear": {"resize": "bilinear"},
        "any": {"resize": "any"},
        "post-processing": {"fill_steps": PAPER.fill_steps},
    }

    def read(name: str) -> pd.Series:
        changes = {way: table2_rows(name, **setting).delta_AP[TRAINED_AT] for way, setting in ways.items()}
        return 100 * pd.Series(changes)

    found = of_each_data(profile, read)
    spread = max(changes.max() - changes.min() for changes in found.values())
    told = {name: ", ".join(f"{value:+.1f} {way}" for way, value in changes.items()) for name, changes in found.items()}
    return Outcome(
        NOT_AS_STATED if spread > 0.5 else PARTLY,
        f"Change in AP at {percent(TRAINED_AT, 0)} sparsity {listed(told)}: the ways differ by {spread:.1f} points. "
        "We took nearest, no post-processing, sparsity on the detector's grid, each picture's averaged.",
    )


TABLE_2 = (
    Claim(21, "§ 4.2, Eq. 4", "Token reduction = Σ (T_y - (T_b + T_y · s)) / N, “s is sparsity "
          "percentage”.", equation_4),
    Claim(22, "Table 2", "The column %Reduction, and “total number of tokens for 12 layers of BAViT is "
          "12288”.", rounding_of_table_2),
    Claim(23, "§ 4.2", "“the model with 34% sparsity reduces total tokens by 24% with an accuracy drop of "
          "2.6%”.", row_of_34_percent),
    Claim(24, "Conclusion", "“reduce the number of tokens by 25% with a mAP drop of 3% on COCO "
          "dataset”.", quarter_of_the_tokens),
    Claim(25, "Conclusion", "“recovered (less than 2% mAP drop) by sparse token finetuning by using just 30 "
          "epochs”.", after_finetuning),
    Claim(26, "Abstract", "“increase the throughput by 30% - 40% with a mAP drop of 3% without any sparse "
          "fine-tuning”.", throughput_at_a_drop_of_3),
    Claim(27, "Table 2", f"{100 * PAPER.base_AP:.1f} mAP at 0 % sparsity; the published YOLOS-tiny has "
          f"{100 * PAPER.published_base_AP:.1f}.", baseline),
    Claim(28, "Table 2", "The first 5 % of the tokens cost 1.1 mAP, the next 24 points of sparsity only 1.8: is it "
          "context, or mistakes?", first_five_percent),
    Claim(29, "§ 4.2", "“The sparsity is controlled by modifying the confidence threshold”: which thresholds, on "
          "which grid, with or without post-processing, isn't said.", what_isnt_said),
)  # fmt: skip
