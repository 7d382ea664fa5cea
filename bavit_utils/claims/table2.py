"""Checks of Table 2, of Eq. 4, and of what the text says of them (section 4.2, abstract, conclusion)."""

import numpy as np
import pandas as pd

from ..config import get_profile
from ..cost import multiply_adds, token_reduction, token_table
from ..paper import PAPER, TRAINED_AT
from .base import (
    Interval,
    Status,
    ap_verdict,
    claim,
    left_open,
    listed,
    on_each,
    percent,
    speed,
    stored,
    table2_rows,
    verdict,
)

_TABLE = pd.DataFrame(PAPER.table2)
_YOLOS = _TABLE[_TABLE.detector == "yolos"].set_index("sparsity").sort_index()
_DROP = PAPER.base_AP - _YOLOS.AP  # at each sparsity
_TOKENS = int(_TABLE.tokens_yolos[0]), int(_TABLE.tokens_bavit[0])
_AS_PRINTED = 0.0005  # AP is printed in tenths of a point


@claim(21, "§ 4.2, Eq. 4", "Token reduction = Σ (T_y - (T_b + T_y · s)) / N, “s is sparsity percentage”.")
def equation_4():
    """Computes Eq. 4 as printed, and as a share with 1 - s for s, and compares both with Table 2's reductions."""
    printed = np.array([token_reduction(*_TOKENS, s, as_printed=True) for s in _TABLE.sparsity])
    meant = np.array([token_reduction(*_TOKENS, s) for s in _TABLE.sparsity])
    off, off_meant = (100 * np.abs(values - _TABLE.reduction).max() for values in (printed / _TOKENS[0], meant))
    at_zero = printed[_TABLE.sparsity == 0][0]
    most = "the most of all rows" if at_zero == printed.max() else "not the most"
    return verdict(off < 0.05, otherwise=Status.SLIP if off_meant < 0.05 else None), (
        f"As printed it saves {at_zero:,.0f} tokens where nothing is pruned, {most}, and is up to {off:.1f} points off "
        f"the table. (T_y - (T_b + T_y (1 - s))) / T_y is within {off_meant:.2f} points in all {len(_TABLE)} rows."
    )


@claim(22, "Table 2", "The column %Reduction, and “total number of tokens for 12 layers of BAViT is 12288”.")
def rounding_of_table_2():
    """Recomputes Table 2's reductions from its own tokens, and the tokens that its caption calls BAViT's."""
    computed = (100 * token_table(_TABLE.sparsity.tolist()).reduction).round(2)
    off = (100 * _TABLE.reduction - computed).abs()
    pairs = zip(_TABLE.reduction[off > 0.005], computed[off > 0.005], strict=True)
    depth = get_profile("coco").detector_depth
    of_yolos = _TOKENS[0] == depth * PAPER.detector_tokens
    return verdict(off.max() < 0.005 and not of_yolos, otherwise=Status.SLIP if off.max() < 0.05 else None), (
        f"{sum(off > 0.005)} of {len(_TABLE)} reductions are off in the second decimal "
        f"({', '.join(f'{100 * a:.2f} for {b:.2f}' for a, b in pairs)}). {_TOKENS[0]:,} = {depth} × "
        f"{PAPER.detector_tokens:,} tokens are YOLOS's layers, not “12 layers of BAViT”."
    )


@claim(23, "§ 4.2", "“the model with 34% sparsity reduces total tokens by 24% with an accuracy drop of 2.6%”.")
def row_of_34_percent():
    """Looks for the row, and computes its reduction by Eq. 4 and its drop between the neighbouring rows."""
    sparsity, reduction, drop = PAPER.text_row
    computed, there = token_reduction(*_TOKENS, sparsity), sparsity in _YOLOS.index
    between = float(np.interp(sparsity, _DROP.index, _DROP))
    below, beyond = _DROP[_DROP.index < sparsity].iloc[-1], _DROP[_DROP.index > sparsity].iloc[0]
    return verdict(there, abs(computed - reduction) < 0.005, abs(between - drop) < 0.005), (
        f"Table 2 has {'such a' if there else 'no such'} row. Eq. 4 as meant gives {percent(computed)} fewer tokens; "
        f"the neighbouring rows drop {100 * below:.1f} and {100 * beyond:.1f} points, some {100 * between:.1f} at "
        f"{percent(sparsity, 0)}."
    )


@claim(24, "Conclusion", "“reduce the number of tokens by 25% with a mAP drop of 3% on COCO dataset”.")
def quarter_of_the_tokens():
    """Looks up Table 2's drop at 25 % fewer tokens, and the reduction at a drop of 3 points."""
    at = (_YOLOS.reduction - PAPER.conclusion_reduction).abs().idxmin()
    nearest = (_DROP - PAPER.drop).abs().idxmin()
    return verdict(_DROP[at] < PAPER.drop + _AS_PRINTED), (
        f"Table 2's row of {percent(_YOLOS.reduction[at], 2)} fewer tokens drops {100 * _DROP[at]:.1f} points. The "
        f"drop nearest to {100 * PAPER.drop:.0f} is {100 * _DROP[nearest]:.1f}, at {percent(nearest, 0)} sparsity and "
        f"{percent(_YOLOS.reduction[nearest])} fewer."
    )


@claim(25, "Conclusion", "“recovered (less than 2% mAP drop) by sparse token finetuning by using just 30 epochs”.")
def after_finetuning():
    """Subtracts in Table 2; what fine-tuning gains over a control is a claim of its own."""
    tuned = _TABLE[_TABLE.detector == "yolos-f"].AP.iloc[0]
    return verdict(PAPER.base_AP - tuned < PAPER.drop_finetuned), (
        f"{100 * PAPER.base_AP:.1f} - {100 * tuned:.1f} = {100 * (PAPER.base_AP - tuned):.1f} points, and no control: "
        "the same epochs without pruning."
    )


@claim(26, "Abstract", "“increase the throughput by 30% - 40% with a mAP drop of 3% without any sparse "
       "fine-tuning”.", "measured")  # fmt: skip
def throughput_at_a_drop_of_3():
    """Takes the claim in tokens (Table 2), in multiply-adds, and in time at the paper's sizes (stored)."""
    low, high = PAPER.throughput_gain
    in_tokens = _DROP[(_YOLOS.reduction >= low) & (_YOLOS.reduction <= high)]
    nearest = (_DROP - PAPER.drop).abs().idxmin()
    paper, patches = get_profile("coco"), PAPER.detector_tokens
    saved = 1 - multiply_adds((1 - nearest) * patches, paper) / multiply_adds(patches, paper, bavit=None)
    rows = stored("throughput-cpu", "median_ms", profile="voc-512")
    faster = {batch: speed(rows, batch, nearest) for batch in sorted(rows.batch.unique())}
    shown = ", ".join(f"{text} with batch {batch}" for batch, (_, text) in faster.items())
    in_time = [gain.above(1 + low) for gain, _ in faster.values()]
    return verdict(in_tokens.min() < PAPER.drop + _AS_PRINTED, *in_time, own=False), (
        f"Table 2's rows with {percent(low, 0)} to {percent(high, 0)} fewer tokens drop {100 * in_tokens.min():.1f} to "
        f"{100 * in_tokens.max():.1f} points. The row that drops {100 * _DROP[nearest]:.1f} saves {percent(saved)} of "
        f"the multiply-adds, and such pruning runs {shown} on a CPU, BAViT's time counted (in brackets: quartiles of "
        "the rounds)."
    )


@claim(27, "Table 2", f"{100 * PAPER.base_AP:.1f} mAP at 0 % sparsity; the published YOLOS-tiny has "
       f"{100 * PAPER.published_base_AP:.1f}.", "measured")  # fmt: skip
def baseline():
    """Compares with the dense detector's AP on COCO (stored), where YOLOS-tiny was run."""
    dense = table2_rows("coco").loc[0.0]
    own = dense.n_images == PAPER.n_val_images
    return verdict(abs(dense.AP - PAPER.base_AP) < 0.0015, own=own), (
        f"{100 * dense.AP:.1f} AP on {int(dense.n_images):,} COCO pictures at 512 px."
    )


@claim(28, "Table 2", "The first 5 % of the tokens cost 1.1 mAP, the next 24 points of sparsity only 1.8: is it "
       "context, or mistakes?", "measured")  # fmt: skip
def first_five_percent():
    """Compares the first 5 % of sparsity with the next 24 points, and true labels with BAViT's choice (stored)."""

    def others(name: str) -> str:
        rows = stored(f"selectors-{name}", "delta_to_bavit", sparsity=0.05)
        rows = rows[rows.selector.str.match("oracle-exact|random$")].groupby("selector").mean(numeric_only=True)
        rows.index = rows.index.map({"random": "random choice", "oracle-exact": "ground truth"})
        return ", ".join(f"{who} {Interval.of(row, 'delta_to_bavit', 'delta')}" for who, row in rows.iterrows())

    def read(name: str) -> tuple[bool | None, str]:
        rows = table2_rows(name)
        at_once, later = rows.change[0.05], rows.delta_AP[0.29] - rows.delta_AP[0.05]
        # As in the paper: a clear loss at once, and less for each further token.
        holds = bool(at_once.estimate / 0.05 < later / 0.24) and at_once.below()
        return holds, f"{at_once}, then {100 * later:+.1f} more"

    first, rest = _DROP[0.05], _DROP[0.29] - _DROP[0.05]
    status, shown = ap_verdict(read)
    return status, (
        f"The paper: -{100 * first:.1f}, then -{100 * rest:.1f} more. Here {shown}. Of these 5 %, less BAViT's "
        f"choice, {listed(on_each(others))}."
    )


@claim(29, "§ 4.2", "“The sparsity is controlled by modifying the confidence threshold”: which thresholds, on which "
       "grid, with or without post-processing, isn't said.", "measured")  # fmt: skip
def what_isnt_said():
    """Compares the ways from BAViT's map to the kept tokens at equal sparsity (stored): does the choice change AP?"""
    ways = {
        "nearest": {},
        "bilinear": {"resize": "bilinear"},
        "any": {"resize": "any"},
        "post-processing": {"fill_steps": PAPER.fill_steps},
    }

    found = on_each(lambda name: [table2_rows(name, **way).change[TRAINED_AT] for way in ways.values()])
    # Each is paired with the dense detector: two differ clearly where their intervals don't meet.
    differ = any(max(one.low for one in each) > min(one.high for one in each) for each in found.values())
    shown = {
        name: ", ".join(f"{way} {one}" for way, one in zip(ways, each, strict=True)) for name, each in found.items()
    }
    return left_open(differ), (
        f"Change in AP at {percent(TRAINED_AT, 0)} sparsity {listed(shown)}: {'two' if differ else 'no two'} differ "
        "clearly. We took nearest, no post-processing, sparsity on the detector's grid, each picture's averaged."
    )


@claim(39, "§ 4.2", "“the average reduction in tokens for 5000 COCO validation images”.", "measured")
def all_of_cocos_val():
    """Looks for stored rows of Table 2 on COCO, and on how many pictures they are."""
    n_images = int(table2_rows("coco").n_images.iloc[0])
    status = verdict(n_images == PAPER.n_val_images, otherwise=Status.PARTLY)
    return status, f"Our rows of COCO are of {n_images:,} pictures."
