"""Checks of the paper's positive claims about the pruned detector: what it computes, AP, time, memory, fine-tuning."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..config import get_profile
from ..cost import token_table
from ..data.records import class_names
from ..experiments.benchmark import detect_masked
from ..paper import PAPER, TRAINED_AT
from ..pruning import keep_mask
from ..yolos import PrunedYolos, create_yolos
from .base import (
    Interval,
    ap_verdict,
    bears_pruning,
    claim,
    on_each,
    percent,
    speed,
    stored,
    table2_rows,
    together,
    verdict,
)

_TINY = replace(get_profile("sample"), detector_img_size=96, detector_depth=3, num_detection_tokens=5)
_TOLERANCE = 1e-4
_CLEARLY_LESS = f"clearly less than the abstract's {100 * PAPER.drop:.0f} of {100 * PAPER.base_AP:.1f} AP"


def _drawn_detector() -> tuple[PrunedYolos, Tensor, Tensor]:
    """A small detector with weights large enough for attention to matter, two pictures, and a keep mask."""
    draw = np.random.default_rng(0)
    detector = create_yolos(class_names(_TINY.detector_data), **_TINY.detector_shape).eval()
    for parameter in detector.parameters():
        std = 0.05 if parameter.ndim == 2 else 0.5
        if parameter.ndim > 1:
            nn.init.zeros_(parameter).add_(torch.from_numpy(std * draw.standard_normal(parameter.shape)))
    pictures = torch.from_numpy(draw.standard_normal((2, 3, 96, 96))).float()
    return PrunedYolos(detector), pictures, torch.from_numpy(draw.random((2, *_TINY.detector_grid)) < 0.5)


def _off(one, other) -> float:
    return max((one.logits - other.logits).abs().max().item(), (one.pred_boxes - other.pred_boxes).abs().max().item())


@claim(36, "Abstract", "“The background tokens can be pruned completely or partially”: partial pruning isn't "
       "shown.", "measured")  # fmt: skip
def partial_pruning():
    """Keeps a random quarter of the background, and asks, as of pruning all of it, whether AP bears it (stored)."""

    def read(name: str) -> tuple[bool | None, str]:
        (bears_all, every), (bears_some, some) = bears_pruning(name), bears_pruning(name, spared=0.25)
        return together(bears_all, bears_some), f"{every} completely, {some} partially"

    status, shown = ap_verdict(read)
    return status, (
        f"Change in AP at {percent(TRAINED_AT, 0)} sparsity {shown}, each paired with the dense detector. It "
        f"holds where both lose {_CLEARLY_LESS}, {percent(PAPER.drop_share)}."
    )


@claim(50, "§ 3.5", "“does not compute anything for the BG tokens and return zeros as the final output token”.")
@torch.no_grad()
def only_foreground_computed():
    """Runs a detector with drawn weights: outputs of pruned tokens, other pixels there, and masking instead."""
    pruned, pictures, keep = _drawn_detector()
    found = pruned(pictures, keep)
    patches = found.last_hidden_state[:, 1 : -_TINY.num_detection_tokens]
    hidden = ~keep.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    other = pruned(torch.where(hidden, -pictures, pictures), keep)
    masked = detect_masked(pruned.detector, pictures, keep)
    holds = {
        "outputs of pruned tokens are zeros": bool((patches[~keep.flatten(1)] == 0).all()),
        "other pixels in pruned patches change nothing": _off(found, other) == 0,
        "masking them instead gives the same detections": _off(found, masked) < _TOLERANCE,
        "keeping all tokens gives others": _off(found, pruned(pictures)) > 100 * _TOLERANCE,
    }
    shown = "; ".join(f"{name}: {'yes' if held else 'no'}" for name, held in holds.items())
    return verdict(all(holds.values())), f"{shown[0].upper()}{shown[1:]}."


@claim(51, "§ 4.2", "“BAViT on the other hand does not need model retraining”; the poster's “plug-and-play "
       "solution”.", "measured")  # fmt: skip
@torch.no_grad()
def no_retraining():
    """Keeps every token of a detector with drawn weights, and asks what AP is lost without training (stored)."""
    pruned, pictures, _ = _drawn_detector()
    same = _off(pruned(pictures), pruned.detector(pictures)) < _TOLERANCE
    status, costs = ap_verdict(bears_pruning)
    return status if same else verdict(same), (
        f"With every token kept the detector finds what it found before: {'yes' if same else 'no'}. Without training "
        f"{percent(TRAINED_AT, 0)} sparsity costs {costs}. It holds where that is {_CLEARLY_LESS}, {percent(PAPER.drop_share)}."
    )


@claim(52, "§ 4.2, poster", "“The sparsity is controlled by modifying the confidence threshold of background tokens”: "
       "“configurable sparsity”.", "measured")  # fmt: skip
def threshold_sets_sparsity():
    """Moves the threshold over drawn probabilities; compares the sparsity of a threshold that was chosen on the
    training list there and on held-out pictures (stored)."""
    drawn = torch.from_numpy(np.random.default_rng(0).random((8, 24, 24)))
    kept = [keep_mask(drawn, threshold).sum().item() for threshold in np.linspace(0, 1, 101)]
    rises = kept == sorted(kept)

    def read(dataset: str) -> tuple[Interval, Interval]:
        rows = stored(f"calibration-{dataset}", "sparsity", kind="operating-point").set_index("split")
        return tuple(Interval.of(rows.loc[split], "sparsity") for split in ("dev", "held-out"))

    found = on_each(read, dict.fromkeys(("coco", "voc2012", "voc2007", "sample")))
    shown = "; ".join(
        f"{name} {percent(dev.estimate)} → {percent(there.estimate)}, {there - dev}"
        for name, (dev, there) in found.items()
    )
    near = [(there - dev).within(0.05) for dev, there in found.values()]
    return verdict(*near, own=False) if rises else verdict(rises), (
        f"A higher threshold {'never' if rises else 'sometimes'} keeps less. Sparsity at a threshold chosen on the "
        f"training list, there → on held-out pictures: {shown}. It holds where that is clearly within 5 points. "
        "Thresholds in Table 2's rows here are set on the pictures they are measured on."
    )


@claim(53, "Poster", "“prunes 25% of YOLOs-tiny tokens, with a 3% mAP drop”, as measured here.", "measured")
def quarter_fewer_tokens():
    """Computes the reduction at 35 % sparsity, and looks up the change in AP as a share of the dense AP (stored)."""
    status, changes = ap_verdict(bears_pruning)
    paper = next(row["AP"] for row in PAPER.table2 if row["sparsity"] == TRAINED_AT) - PAPER.base_AP
    return status, (
        f"{percent(TRAINED_AT, 0)} sparsity is {percent(token_table(TRAINED_AT).reduction[0])} fewer tokens at the "
        f"paper's sizes. Change in AP {changes}; the paper's row "
        f"{100 * paper:+.1f} ({percent(paper / PAPER.base_AP)}), its text {-100 * PAPER.drop:+.0f} "
        f"({percent(-PAPER.drop_share)})."
    )


@claim(54, "Poster", "“An improved throughput of object-detection models by 30-40%”, as measured here.", "measured")
def throughput():
    """Reads how much faster BAViT and the pruned detector are than the dense one, at the paper's sizes (stored)."""
    rows = stored("throughput-cpu", "median_ms", profile="voc-512")
    keys = [(batch, sparsity) for batch in sorted(rows.batch.unique()) for sparsity in (0.29, TRAINED_AT)]
    speeds = {key: speed(rows, *key) for key in keys}
    shown = ", ".join(f"{text} at {percent(s, 0)} in batches of {batch}" for (batch, s), (_, text) in speeds.items())
    return verdict(*(gain.above(1 + PAPER.throughput_gain[0]) for gain, _ in speeds.values()), own=False), (
        f"{shown}; BAViT's time counted, on {int(rows.threads.iloc[0])} CPU threads with drawn weights, in brackets by "
        "the quartiles of the rounds."
    )


@claim(55, "Abstract", "“aimed to reduce runtime memory”; the poster's “Memory reduction, latency reduction”.",
       "measured")  # fmt: skip
def memory():
    """Compares peak memory above the weights, dense and pruned by about 35 %, at the paper's sizes (stored)."""
    rows = stored("throughput-cpu", "peak_mb", profile="voc-512")
    dense = rows[rows.method == "dense"].set_index("batch").peak_mb
    pruned = rows[(rows.method == "gather") & ((rows.sparsity - TRAINED_AT).abs() < 0.02)].set_index("batch").peak_mb
    less = pruned < dense
    shown = "; ".join(f"{dense[batch]:.0f} → {pruned[batch]:.0f} MB in batches of {batch}" for batch in dense.index)
    return verdict(*less, own=False), (
        f"{shown}, BAViT included, on a CPU. Less in {less.sum()} of {len(less)} cases; the paper gives no number."
    )


@claim(56, "§ 4.2", "“the overall number of token is less than the original model”.")
def fewer_tokens_overall():
    """Computes the sparsity at which BAViT's own tokens are paid for, and counts Table 2's rows beyond it."""
    table = pd.DataFrame(PAPER.table2)
    fewer = table.tokens_total < table.tokens_yolos
    return verdict(*fewer), (
        f"True above {percent(table.tokens_bavit[0] / table.tokens_yolos[0])} sparsity, so in {fewer.sum()} of Table "
        f"2's {len(fewer)} rows."
    )


@claim(57, "§ 4.2", "“finetuned one of the model with 35% sparsity and could improve the accuracy by 2 mAP "
       "points”.", "measured")  # fmt: skip
def finetuning_gain():
    """Compares YOLOS-F with the detector as trained, and with a control trained as long without pruning (stored)."""

    def read(name: str) -> tuple[bool | None, str]:
        rows = [table2_rows(name, each).loc[TRAINED_AT] for each in ("yolos", "yolos-f", "yolos-control")]
        start, tuned, control = (Interval.of(row, "AP") for row in rows)
        wanted = PAPER.finetune_gain / PAPER.base_AP * (rows[0].AP - rows[0].delta_AP)
        return (tuned - control).above(wanted), f"{tuned - start} AP, {tuned - control} over the control"

    status, gains = ap_verdict(read)
    return status, (
        f"At {percent(TRAINED_AT, 0)} sparsity YOLOS-F gains {gains}; the paper "
        f"{100 * PAPER.finetune_gain:+.0f} of {100 * PAPER.base_AP:.1f}, without a control. It holds where the gain "
        "over the control is at least as large a share at its lower end. Intervals are as of independent images, so too wide."
    )
