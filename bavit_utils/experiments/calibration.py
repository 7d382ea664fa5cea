"""What BAViT's probabilities are worth, and where its one dial, the threshold, should stand.

Maps are foreground probabilities [N, rows, cols], labels of the same shape (1 FG, 0 BG, -100 left out of everything but
sparsity, which is counted on BAViT's own grid). Intervals are 95 % of a bootstrap over pictures, as the patches of one
picture are not independent. All raise ValueError for unequal shapes, other labels, or labels without foreground.
"""

from collections.abc import Sequence

import numpy as np

from ..annotations import IGNORE_INDEX
from ..metrics import flat_tokens, interval, number, resampling_weights, with_interval
from ..paper import PAPER
from ..pruning import keep_mask

THRESHOLDS = (*(percent / 100 for percent in range(5, 96, 5)), 0.96, 0.97, 0.98, 0.99)
MOST_LOST = 0.02  # of the foreground, where a threshold is chosen
BINS = 10  # of probability, in the reliability curve
_DECIMALS = 4  # of a chosen threshold


def checked_tokens(maps, labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities float64, which tokens have a label, and which are FG: [N, tokens] each; ValueErrors as above."""
    prob, labels = flat_tokens(maps, labels)
    if not (labels == 1).any():
        raise ValueError("no foreground among the labels: there is nothing to recall, give pictures with objects")
    return prob, labels != IGNORE_INDEX, labels == 1


def calibration_rows(dev_maps, dev_labels, maps, labels, n_boot: int = 1000) -> list[dict]:
    """All rows of one BAViT: the threshold is chosen on the dev part of the training list, all else is held-out.

    `kind` is "reliability" (a row a bin), "calibration-error", "threshold" (a row each of `THRESHOLDS`),
    "operating-point" (`split` "dev" and "held-out") or "sparsity-of-pictures".
    """
    points = operating_point_rows(dev_maps, dev_labels, maps, labels, n_boot)
    return [
        *reliability_rows(maps, labels, n_boot),
        *threshold_rows(maps, labels, n_boot=n_boot),
        *points,
        *sparsity_rows(maps, labels, (0.5, points[0]["threshold"]), n_boot),
    ]


def reliability_rows(maps, labels, n_boot: int = 1000) -> list[dict]:
    """The reliability curve, a row for each of `BINS` equal ranges of probability, and the error in one last row.

    kind "reliability": `bin_low, bin_high, count` (tokens), `predicted` (mean probability), `observed` (share of FG),
    `observed_low, observed_high`; None in an empty bin. kind "calibration-error": `ece`, the mean of
    |predicted - observed| over tokens, with an interval mirrored at the estimate, as resampling adds noise to an
    absolute value; `bias`, the mean of predicted - observed, below 0 where there is more foreground than BAViT thinks.
    """
    prob, valid, is_fg = checked_tokens(maps, labels)
    weights = resampling_weights(len(prob), n_boot)
    index = np.minimum((prob * BINS).astype(int), BINS - 1) + BINS * np.arange(len(prob))[:, None]

    def in_bins(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(index[valid], values[valid], minlength=len(prob) * BINS)
        return weights @ sums.reshape(len(prob), BINS)

    count, predicted, observed = in_bins(valid), in_bins(prob), in_bins(is_fg)
    total = count.sum(axis=1)
    shares = _ratio(observed, count)
    rows = [
        {"kind": "reliability", "bin_low": k / BINS, "bin_high": (k + 1) / BINS, "count": int(count[0, k])}
        | {"predicted": number(_ratio(predicted, count)[0, k])}
        | with_interval("observed", shares[:, k])
        for k in range(BINS)
    ]
    ece = np.abs(predicted - observed).sum(axis=1) / total
    low, high = interval(2 * ece[0] - ece[1:])
    error = {"ece": float(ece[0]), "ece_low": max(low, 0.0), "ece_high": high}
    bias = with_interval("bias", (predicted - observed).sum(axis=1) / total)
    return [*rows, {"kind": "calibration-error", **error, **bias, "n_tokens": int(total[0]), "n_images": len(prob)}]


def threshold_rows(maps, labels, thresholds: Sequence[float] = THRESHOLDS, n_boot: int = 1000) -> list[dict]:
    """What each threshold (`pruning.keep_mask`) does on BAViT's own grid, each with its interval; kind "threshold".

    `sparsity` is the mean over pictures, `fg_recall` the share of all FG tokens that are kept, `accuracy` the share of
    all tokens whose answer is right.
    """
    prob, valid, is_fg = checked_tokens(maps, labels)
    keep = keep_mask(prob, np.asarray(thresholds)[:, None, None])
    weights = resampling_weights(len(prob), n_boot)

    def pooled(counts: np.ndarray, of: np.ndarray) -> np.ndarray:
        """The share over the pictures of each resample, [B, K], of counts [K, N, tokens] among `of` [N, tokens]."""
        return _ratio(weights @ counts.sum(axis=2).T, (weights @ of.sum(axis=1))[:, None])

    columns = {
        "sparsity": pooled(~keep, np.ones_like(valid)),
        "fg_recall": pooled(keep & is_fg, is_fg),
        "accuracy": pooled((keep == is_fg) & valid, valid),
    }
    rows = [{"kind": "threshold", "threshold": float(threshold)} for threshold in thresholds]
    for name, values in columns.items():
        for k, row in enumerate(rows):
            row.update(with_interval(name, values[:, k]))
    return rows


def operating_point_rows(dev_maps, dev_labels, maps, labels, n_boot: int = 1000) -> list[dict]:
    """The threshold chosen on dev pictures, what it does there and on the held-out ones; kind "operating-point".

    It prunes most while at most the share `MOST_LOST` of all FG tokens is lost (section 4.2). Each row has the columns
    of `threshold_rows`; `pictures_short`, the share of pictures that lose more of their own foreground; and, as far as
    dev pictures decide it, the interval of the choice, `threshold_low`, `threshold_high`.
    """
    prob, _, is_fg = checked_tokens(dev_maps, dev_labels)
    chosen = chosen_thresholds(prob, is_fg, resampling_weights(len(prob), n_boot))
    rows = []
    for split, *pictures in (("dev", dev_maps, dev_labels), ("held-out", maps, labels)):
        prob, _, is_fg = checked_tokens(*pictures)
        row = threshold_rows(*pictures, chosen[:1], n_boot)[0]
        own = _ratio((keep_mask(prob, chosen[0]) & is_fg).sum(axis=1), is_fg.sum(axis=1))
        short = float((own[is_fg.any(axis=1)] < 1 - MOST_LOST).mean())
        row |= {"kind": "operating-point", "split": split, "most_lost": MOST_LOST, "pictures_short": short}
        rows.append(row | with_interval("threshold", chosen) | {"n_images": len(prob)})
    return rows


def sparsity_rows(maps, labels, thresholds: Sequence[float], n_boot: int = 1000) -> list[dict]:
    """How sparsity is spread over pictures, a row a threshold and one for the labels; kind "sparsity-of-pictures".

    `of` is "threshold" or "labels" (the share of background, which a BAViT without a fault would prune). Columns:
    `mean`, `q05` to `q95` (quantiles over pictures), `above_70` (the share of pictures with a sparsity above 70 %, with
    its interval) and `histogram`, pictures in each of 20 equal ranges from 0 to 1.
    """
    prob, valid, is_fg = checked_tokens(maps, labels)
    background = _ratio((valid & ~is_fg).sum(axis=1), valid.sum(axis=1))
    spread = [("labels", None, background[valid.any(axis=1)])]
    spread += [("threshold", float(threshold), (~keep_mask(prob, threshold)).mean(axis=1)) for threshold in thresholds]
    rows = []
    for of, threshold, values in spread:
        row = {"kind": "sparsity-of-pictures", "of": of, "threshold": threshold, "mean": float(values.mean())}
        row |= {f"q{q:02d}": float(np.percentile(values, q)) for q in (5, 25, 50, 75, 95)}
        weights = resampling_weights(len(values), n_boot)
        above = weights @ (values > PAPER.sparsity_of_many_images) / len(values)
        counts = np.histogram(values, bins=20, range=(0, 1))[0].tolist()
        rows.append(row | with_interval("above_70", above) | {"histogram": counts, "n_images": len(values)})
    return rows


def chosen_thresholds(
    prob: np.ndarray, is_fg: np.ndarray, weights: np.ndarray, most_lost: float = MOST_LOST
) -> np.ndarray:
    """The thresholds [B] that prune most while at most the share `most_lost` of all FG tokens is lost (section 4.2).

    `prob` and `is_fg` [N, tokens] as of `checked_tokens`; pictures count `weights` [B, N] times. Rounded up to four
    decimals, so that what is written down is what was measured.
    """
    picture, token = np.nonzero(is_fg)
    order = np.argsort(prob[picture, token], kind="stable")
    picture, rising = picture[order], prob[picture[order], token[order]]
    cuts = np.empty(len(weights))
    for b, weight in enumerate(weights):
        lost = np.cumsum(weight[picture])  # foreground lost when a cut goes just above each token
        # A resample may hold no foreground: then nothing limits the cut.
        cuts[b] = rising[min(np.searchsorted(lost, most_lost * lost[-1], side="right"), len(rising) - 1)]
    return np.ceil((1 - cuts) * 10**_DECIMALS) / 10**_DECIMALS


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where whole is 0."""
    with np.errstate(invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
