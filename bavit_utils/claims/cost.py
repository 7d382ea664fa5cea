"""Checks of what the paper says of parameters, operations, tokens, memory and time (sections 3.5 and 4.1)."""

import numpy as np
import pandas as pd

from ..config import DEPTHS, PATCH_SIZE, get_profile
from ..cost import (
    EMBED_DIM,
    bavit_multiply_adds,
    bavit_parameters,
    block_multiply_adds,
    token_table,
    yolos_multiply_adds,
    yolos_parameters,
)
from ..paper import PAPER, TRAINED_AT
from .base import claim, left_open, percent, speed, stored, verdict

_PREFIX = 101  # YOLOS's class and detection tokens
_DEPTH = DEPTHS["bavit-small"]


def _near(value: float, claimed: float) -> bool:
    return abs(value / claimed - 1) <= 0.02


@claim(13, "§ 4.1", "BAViT-small adds parameters “(by 1.49M)”.")
def added_parameters():
    """Builds BAViT at 384 px with two and with three blocks, and counts parameters."""
    two, three = map(bavit_parameters, (_DEPTH, _DEPTH + 1))
    return verdict(_near(two, PAPER.bavit_parameters)), (
        f"{two:,} with {_DEPTH} blocks ({two / 1e6:.2f} M), {three:,} with {_DEPTH + 1} ({three / 1e6:.2f} M), "
        f"beside {PAPER.bavit_parameters / 1e6:.2f} M."
    )


@claim(14, "§ 4.1", "BAViT-small adds “FLOP counts (+1.961 GFLOPS)”.")
def added_operations():
    """Computes BAViT-small's multiply-adds (MAC), of two FLOP each, at its own 384 px and at the detector's 512 px."""
    own, large = (bavit_multiply_adds(_DEPTH, patches) for patches in (PAPER.bavit_tokens, PAPER.detector_tokens))
    return verdict(any(_near(factor * own, PAPER.bavit_flops) for factor in (1, 2))), (
        f"{own / 1e9:.2f} GMAC = {2 * own / 1e9:.2f} GFLOP at {PAPER.bavit_img_size} px, {large / 1e9:.2f} GMAC at "
        f"{PAPER.detector_img_size} px, beside {PAPER.bavit_flops / 1e9:.3f}."
    )


@claim(15, "§ 4.1", "“YOLOS-tiny model has 6.5M parameters using 18.8 GFLOPS”.")
def yolos_operations():
    """Counts YOLOS-tiny's parameters, and its multiply-adds at the 512×512 px of section 3.5 and at 512×704 px."""
    square, wide = (yolos_multiply_adds(n, n) for n in (PAPER.detector_tokens, 512 * 704 // PATCH_SIZE**2))
    flops = any(_near(factor * square, PAPER.yolos_flops) for factor in (1, 2))
    return verdict(_near(yolos_parameters(), PAPER.yolos_parameters), flops), (
        f"{yolos_parameters() / 1e6:.2f} M parameters. {square / 1e9:.2f} GMAC = {2 * square / 1e9:.1f} GFLOP at "
        f"512×512; {wide / 1e9:.1f} GMAC at 512×704, beside {PAPER.yolos_flops / 1e9:.1f}."
    )


@claim(16, "§ 3.5", "“YOLOS (tiny) expects 512×512 inputs to achieve the benchmark mAP”.")
def benchmark_shape():
    """Brings a 640×480 picture to the published evaluation's size (shorter side 512 px), and counts patches."""
    rows, cols = (PAPER.detector_img_size * side // 480 // PATCH_SIZE for side in (480, 640))
    return verdict(rows * cols == PAPER.detector_tokens), (
        f"A 640×480 picture becomes {PATCH_SIZE * cols}×{PATCH_SIZE * rows} px, {rows * cols:,} tokens, not "
        f"{PAPER.detector_tokens:,}: the benchmark's AP isn't one of square pictures."
    )


@claim(17, "§ 4.1, Table 2", "“substantially reduced the amount of total number of tokens (25.63%)”, leaving out class "
       "and detection tokens.")  # fmt: skip
def prefix_tokens():
    """Counts Table 2's tokens with the class and detection tokens, which every layer computes too."""
    table = pd.DataFrame(PAPER.table2).drop_duplicates("sparsity")
    without, with_prefix = (token_table(table.sparsity.tolist(), with_prefix=flag).reduction for flag in (False, True))
    at = (table.sparsity == TRAINED_AT).argmax()
    return verdict(*(np.allclose(values, table.reduction, atol=5e-4) for values in (with_prefix, without))), (
        f"{percent(TRAINED_AT, 0)} sparsity saves {percent(with_prefix[at])} with them, {percent(without[at])} without; "
        f"on the whole Table 2 they take {percent((without - with_prefix).max())} at most."
    )


@claim(18, "§ 4.1", "“which has the quadratic impact over the computational complexity of the ViT models”.")
def quadratic_share():
    """Computes which share of a block's multiply-adds grows with the square of the tokens, and what pruning saves."""
    tokens = PAPER.detector_tokens + _PREFIX
    quadratic = 2 * tokens**2 * EMBED_DIM / block_multiply_adds(tokens)
    kept = (1 - TRAINED_AT) * PAPER.detector_tokens
    saved = 1 - yolos_multiply_adds(kept) / yolos_multiply_adds(PAPER.detector_tokens)
    return verdict(quadratic > 0.9, quadratic > 0.1), (
        f"At {tokens:,} tokens {percent(quadratic, 0)} of a block's multiply-adds are quadratic in them, "
        f"{percent(1 - quadratic, 0)} linear: {percent(TRAINED_AT, 0)} fewer patches save {percent(saved)} of YOLOS's, "
        f"where a purely quadratic cost would save {percent(1 - (1 - TRAINED_AT) ** 2)}."
    )


@claim(19, "§ 4.1", "“48M parameters using GFLOPS which is almost 8x times bigger and slower”.")
def times_bigger():
    """Divides the two numbers of parameters, without and with ours of BAViT; no operations are printed to divide."""
    ratio = PAPER.focus_detr_parameters / PAPER.yolos_parameters
    with_bavit = PAPER.focus_detr_parameters / (yolos_parameters() + bavit_parameters(_DEPTH))
    return verdict(round(ratio) == PAPER.focus_detr_ratio, None), (
        f"{PAPER.focus_detr_parameters / 1e6:.0f} M over {PAPER.yolos_parameters / 1e6:.1f} M is {ratio:.1f} times, "
        f"over YOLOS-tiny with BAViT-small {with_bavit:.1f} times. The GFLOPS are missing, so “slower” can't be checked."
    )


@claim(20, "Abstract", "“reduce runtime memory and increase throughput”: no memory, device, latency or batch size is "
       "given.", "measured")  # fmt: skip
def conditions_of_measurement():
    """Compares the speed at 35 % sparsity between batch sizes and picture sizes, by its quartiles (stored)."""
    rows = stored("throughput-cpu", "median_ms")
    speeds = {}
    for (name, batch), each in rows.groupby(["profile", "batch"], sort=False):
        sides = f"{get_profile(name).bavit_img_size}/{get_profile(name).detector_img_size} px"
        speeds[sides, batch] = speed(each, batch, TRAINED_AT)  # of one architecture once
    shown = ", ".join(f"{text} ({sides}, batch {n})" for (sides, n), (_, text) in speeds.items())
    gains = [gain for gain, _ in speeds.values()]
    return left_open(max(gain.low for gain in gains) > min(gain.high for gain in gains)), (
        f"At {percent(TRAINED_AT, 0)} sparsity, on {int(rows.threads.iloc[0])} CPU threads, in brackets by the quartiles of "
        f"the rounds: {shown}."
    )
