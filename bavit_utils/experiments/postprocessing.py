"""What the appendix's neighbour fill does to BAViT's answers, beside a threshold moved to prune as much."""

from itertools import product

import numpy as np
import pandas as pd
from torch import Tensor

from ..metrics import resampling_weights, with_interval
from ..paper import PAPER
from ..pruning import fill_neighbours, keep_mask
from .calibration import checked_tokens

THRESHOLD = 0.5  # before the fill
STEPS, NEIGHBOURS, MORE_THAN = range(6), (8, 4), (1, 2, 3, 4)  # every setting that is measured


def postprocessing_rows(maps: Tensor, labels: Tensor, n_boot: int = 1000) -> list[dict]:
    """A row for each way to fill (appendix, Fig. 5): `neighbours`, `more_than`, `step`, and its outcome.

    `maps` are foreground probabilities float32 [N, rows, cols], `labels` int64 of the same shape (1 FG, 0 BG, -100 left
    out of recall and accuracy). `sparsity`, `fg_recall` (share of all FG tokens that are kept) and `accuracy` are of
    the fill, `change_accuracy` is its accuracy less that of no fill. Its rival doesn't fill, but moves the threshold
    until it prunes as many tokens: `threshold_alone`, `fg_recall_alone`, `accuracy_alone`. `delta_fg_recall` and
    `delta_accuracy` are fill less rival. Differences have 95 % intervals `_low`, `_high` over `n_boot` resamples of the
    pictures, in each of which the rival's threshold is moved anew: above zero the fill earns its place. ValueErrors as
    in `calibration`.
    """
    prob, valid, is_fg = checked_tokens(maps, labels)
    settings, keeps = [], []
    for around, count in product(NEIGHBOURS, MORE_THAN):
        keep = keep_mask(maps, THRESHOLD)
        for step in STEPS:
            settings.append({"neighbours": around, "more_than": count, "step": step})
            keeps.append(keep.flatten(1).numpy())
            keep = fill_neighbours(keep, 1, count, around)
    weights = resampling_weights(len(prob), n_boot)
    # Of each setting, how many tokens a picture keeps: all, foreground, background [3, settings, N].
    kept = np.stack([[(keep & among).sum(axis=1) for keep in keeps] for among in (True, is_fg, valid & ~is_fg)])
    kept = kept @ weights.T  # [3, settings, B]
    alone, cuts = _moved_threshold(prob, is_fg, valid & ~is_fg, weights, kept[0])
    n_fg, n_bg = (weights @ among.sum(axis=1) for among in (is_fg, valid & ~is_fg))
    fill, rival = (
        {"fg_recall": fg / n_fg, "accuracy": (fg + n_bg - bg) / (n_fg + n_bg)} for fg, bg in (kept[1:], alone)
    )
    rows = []
    for i, setting in enumerate(settings):
        row = setting | {"sparsity": float(1 - kept[0, i, 0] / prob.size), "threshold_alone": float(1 - cuts[i])}
        for name in fill:
            row |= {name: float(fill[name][i, 0]), f"{name}_alone": float(rival[name][i, 0])}
            row |= with_interval(f"delta_{name}", fill[name][i] - rival[name][i])
        unfilled = fill["accuracy"][i - setting["step"]]
        rows.append(row | with_interval("change_accuracy", fill["accuracy"][i] - unfilled))
    return rows


def papers_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """The one row of the paper's setting: more than 2 neighbours, three steps, and the eight that its kernel covers."""
    return rows.query(f"neighbours == 8 and more_than == {PAPER.fill_more_than} and step == {PAPER.fill_steps}")


def _moved_threshold(
    prob: np.ndarray, is_fg: np.ndarray, is_bg: np.ndarray, weights: np.ndarray, n_kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background tokens kept, [2, S, B], when a threshold alone keeps `n_kept` [S, B]; its cuts [S].

    Pictures count `weights` [B, N] times, once each in the first row, of which the cuts (the least FG probability that
    is kept) are.
    """
    order = np.argsort(-prob, axis=None, kind="stable")
    picture = order // prob.shape[1]
    flags = np.stack([np.ones(prob.size), is_fg.ravel()[order], is_bg.ravel()[order]])
    kept = np.empty((2, *n_kept.shape))
    running = np.zeros((3, prob.size + 1))  # tokens, foreground, background among the first so many
    for b, weight in enumerate(weights):
        np.cumsum(flags * weight[picture], axis=1, out=running[:, 1:])
        kept[:, :, b] = running[1:, np.searchsorted(running[0], n_kept[:, b])]
    return kept, prob.ravel()[order][np.maximum(n_kept[:, 0].astype(int) - 1, 0)]
