"""Checks of what the paper says of parameters, operations, tokens, memory and time (sections 3.5 and 4.1)."""

import numpy as np
from transformers.models.yolos.image_processing_yolos import get_size_with_aspect_ratio_yolos

from ..bavit import create_bavit
from ..config import DEPTHS, PATCH_SIZE, Profile
from ..cost import (
    EMBED_DIM,
    bavit_multiply_adds,
    block_multiply_adds,
    token_table,
    yolos_multiply_adds,
    yolos_parameters,
)
from ..finetuning_tables import TRAINED_AT
from ..paper import PAPER
from .base import NOT_AS_STATED, PARTLY, REPRODUCED, Claim, Outcome, percent, stored

_PREFIX = 101  # YOLOS's class and detection tokens
_DEPTH = DEPTHS["bavit-small"]
_NEAR = 0.02


def _near(value: float, claimed: float) -> bool:
    return abs(value / claimed - 1) <= _NEAR


def _patches(height: int, width: int) -> int:
    return (height // PATCH_SIZE) * (width // PATCH_SIZE)


def added_parameters(profile: Profile) -> Outcome:
    """Builds BAViT at 384 px with two and with three blocks, and counts parameters."""
    two, three = (
        sum(p.numel() for p in create_bavit(depth, PAPER.bavit_img_size).parameters())
        for depth in (_DEPTH, _DEPTH + 1)
    )
    fits = [_near(count, PAPER.bavit_parameters) for count in (two, three)]
    return Outcome(
        REPRODUCED if fits[0] else PARTLY if fits[1] else NOT_AS_STATED,
        f"{two:,} with {_DEPTH} blocks ({two / 1e6:.2f} M), {three:,} with {_DEPTH + 1} ({three / 1e6:.2f} M), "
        f"beside {PAPER.bavit_parameters / 1e6:.2f} M.",
    )


def added_operations(profile: Profile) -> Outcome:
    """Computes BAViT-small's multiply-adds (MAC), of two FLOP each, at its own 384 px and at the detector's 512 px."""
    own, large = (bavit_multiply_adds(_DEPTH, patches) for patches in (PAPER.bavit_tokens, PAPER.detector_tokens))
    at_own, elsewhere = ([_near(factor * macs, PAPER.bavit_flops) for factor in (1, 2)] for macs in (own, large))
    return Outcome(
        REPRODUCED if any(at_own) else PARTLY if any(elsewhere) else NOT_AS_STATED,
        f"{own / 1e9:.2f} GMAC = {2 * own / 1e9:.2f} GFLOP at {PAPER.bavit_img_size} px, {large / 1e9:.2f} GMAC at "
        f"{PAPER.detector_img_size} px, beside {PAPER.bavit_flops / 1e9:.3f}.",
    )


def yolos_operations(profile: Profile) -> Outcome:
    """Computes YOLOS-tiny's multiply-adds at the 512×512 px of section 3.5, and at 512×704 px."""
    square, wide = (yolos_multiply_adds(n, n) for n in (PAPER.detector_tokens, _patches(512, 704)))
    here = any(_near(factor * square, PAPER.yolos_flops) for factor in (1, 2))
    there = _near(wide, PAPER.yolos_flops)
    return Outcome(
        REPRODUCED if here else PARTLY if there else NOT_AS_STATED,
        f"{square / 1e9:.2f} GMAC = {2 * square / 1e9:.1f} GFLOP at 512×512; {wide / 1e9:.1f} GMAC at 512×704, "
        f"beside {PAPER.yolos_flops / 1e9:.1f}.",
    )


def benchmark_shape(profile: Profile) -> Outcome:
    """Brings a 640×480 picture to the published evaluation's size (shorter side 512 px), and counts patches."""
    shorter = PAPER.detector_img_size
    size = get_size_with_aspect_ratio_yolos((480, 640), shorter, shorter * 1333 // 800)
    patches = _patches(*size)
    return Outcome(
        REPRODUCED if patches == PAPER.detector_tokens else NOT_AS_STATED,
        f"A 640×480 picture becomes {size[1]}×{size[0]} px, {patches:,} tokens, not {PAPER.detector_tokens:,}: the "
        "benchmark's AP isn't one of square pictures.",
    )


def prefix_tokens(profile: Profile) -> Outcome:
    """Counts Table 2's tokens with the class and detection tokens, which every layer computes too."""
    sparsities = [TRAINED_AT, 0.29]
    without, with_prefix = (token_table(sparsities, with_prefix=flag).reduction for flag in (False, True))
    printed = [next(row["reduction"] for row in PAPER.table2 if row["sparsity"] == s) for s in sparsities]
    agrees = [np.allclose(values, printed, atol=5e-4) for values in (with_prefix, without)]
    told = "; ".join(
        f"{percent(s, 0)} sparsity saves {percent(a)} with them, {percent(b)} without"
        for s, a, b in zip(sparsities, with_prefix, without, strict=True)
    )
    return Outcome(REPRODUCED if agrees[0] else PARTLY if agrees[1] else NOT_AS_STATED, f"{told}.")


def quadratic_share(profile: Profile) -> Outcome:
    """Computes which share of a block's multiply-adds grows with the square of the tokens, and what pruning saves."""
    tokens = PAPER.detector_tokens + _PREFIX
    share = 2 * tokens**2 * EMBED_DIM / block_multiply_adds(tokens)
    kept = (1 - TRAINED_AT) * PAPER.detector_tokens
    saved = 1 - yolos_multiply_adds(kept) / yolos_multiply_adds(PAPER.detector_tokens)
    return Outcome(
        REPRODUCED if share > 0.9 else PARTLY if share > 0.1 else NOT_AS_STATED,
        f"At {tokens:,} tokens {percent(share, 0)} of a block's multiply-adds are quadratic in them, "
        f"{percent(1 - share, 0)} linear: {percent(TRAINED_AT, 0)} fewer patches save {percent(saved)} of YOLOS's, "
        f"where a purely quadratic cost would save {percent(1 - (1 - TRAINED_AT) ** 2)}.",
    )


def times_bigger(profile: Profile) -> Outcome:
    """Divides the two numbers of parameters, without and with ours of BAViT; no operations are printed to divide."""
    ratio = PAPER.focus_detr_parameters / PAPER.yolos_parameters
    ours = yolos_parameters() + sum(p.numel() for p in create_bavit(_DEPTH, PAPER.bavit_img_size).parameters())
    return Outcome(
        REPRODUCED if round(ratio) == PAPER.focus_detr_ratio else PARTLY if 7 <= ratio < 8 else NOT_AS_STATED,
        f"{PAPER.focus_detr_parameters / 1e6:.0f} M over {PAPER.yolos_parameters / 1e6:.1f} M is {ratio:.1f} times, "
        f"over YOLOS-tiny with BAViT-small {PAPER.focus_detr_parameters / ours:.1f} times. The GFLOPS are missing, "
        "so “slower” can't be checked.",
    )


def conditions_of_measurement(profile: Profile) -> Outcome:
    """Looks up speed at 35 % sparsity for two batch sizes and two scales (stored)."""
    rows = stored("throughput-cpu", "speedup", method="gather")
    at = rows[(rows.sparsity - TRAINED_AT).abs() < 0.02]
    told = [
        f"{row.speedup:.2f}x with batch {row.batch} at {'512' if row.profile == 'voc' else '256'} px"
        for row in at.itertuples()
    ]
    depends = len(at) and at.speedup.max() > 1.1 * at.speedup.min()
    return Outcome(
        NOT_AS_STATED if depends else PARTLY,
        f"At about {percent(TRAINED_AT, 0)} sparsity, on {int(rows.threads.iloc[0])} CPU threads: {', '.join(told)}.",
    )


COST = (
    Claim(13, "§ 4.1", "BAViT-small adds parameters “(by 1.49M)”.", added_parameters),
    Claim(14, "§ 4.1", "BAViT-small adds “FLOP counts (+1.961 GFLOPS)”.", added_operations),
    Claim(15, "§ 4.1", "“YOLOS-tiny model has 6.5M parameters using 18.8 GFLOPS”.", yolos_operations),
    Claim(16, "§ 3.5", "“YOLOS (tiny) expects 512×512 inputs to achieve the benchmark mAP”.", benchmark_shape),
    Claim(17, "§ 4.1, Table 2", "“substantially reduced the amount of total number of tokens (25.63%)”, leaving out "
          "class and detection tokens.", prefix_tokens),
    Claim(18, "§ 4.1", "“which has the quadratic impact over the computational complexity of the ViT "
          "models”.", quadratic_share),
    Claim(19, "§ 4.1", "“48M parameters using GFLOPS which is almost 8x times bigger and slower”.", times_bigger),
    Claim(20, "Abstract", "“reduce runtime memory and increase throughput”: no memory, device, latency or batch size "
          "is given.", conditions_of_measurement),
)  # fmt: skip
