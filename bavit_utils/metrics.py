"""How well tokens are told apart, and how well objects are found, each with intervals from a bootstrap over pictures.

A number that is not defined (the AUROC of one class, the AP of no objects) is None, as in the result files.
"""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import roc_auc_score

from .annotations import IGNORE_INDEX


def _array(x, dtype=None) -> np.ndarray:
    return np.asarray(x.detach().cpu().float() if hasattr(x, "detach") else x, dtype=dtype)


def number(x) -> float | None:
    """As a float; None where it is not finite, that is, not defined."""
    return float(x) if np.isfinite(x) else None


def resampling_weights(n_images: int, n_boot: int) -> np.ndarray:
    """How often each picture counts, [1 + n_boot, n_images]: once in the first row, as drawn in the others."""
    draws = np.random.default_rng(0).multinomial(n_images, np.full(n_images, 1 / n_images), size=n_boot)
    return np.concatenate([np.ones((1, n_images)), draws])


def token_metrics(fg_prob, labels, n_boot: int = 1000) -> dict[str, float | None]:
    """Token accuracy (Table 1) and what stands beside it, over all tokens that are not ignored (-100).

    `fg_prob` [N, rows, cols] and `labels` [N, rows, cols] (1 FG, 0 BG, -100 ignored). Keys: `accuracy` (FG where
    fg_prob >= 0.5) with its 95 % interval over pictures `accuracy_low`, `accuracy_high`; `majority`, the accuracy of
    always the commoner class; `balanced_accuracy`; `auroc`; `fg_share`; `fg_recall_at_35`. Raises ValueError for
    unequal shapes, other labels, probabilities that are not finite, or no token at all.
    """
    fg_prob, labels = flat_tokens(fg_prob, labels)
    valid, is_fg = labels != IGNORE_INDEX, labels == 1
    correct = ((fg_prob >= 0.5) == is_fg) & valid
    weights = resampling_weights(len(labels), n_boot)
    with np.errstate(invalid="ignore"):  # a resample may hold no token with a label
        accuracy = (weights @ correct.sum(1)) / (weights @ valid.sum(1))
    fg_share = is_fg.sum() / valid.sum()
    both = 0 < fg_share < 1
    recalls = (correct[is_fg].mean(), correct[valid & ~is_fg].mean()) if both else (np.nan,)
    return {
        **with_interval("accuracy", accuracy),
        "majority": float(max(fg_share, 1 - fg_share)),
        "balanced_accuracy": number(np.mean(recalls)),
        "auroc": float(roc_auc_score(is_fg[valid], fg_prob[valid])) if both else None,
        "fg_share": float(fg_share),
        "fg_recall_at_35": fg_recall_at(fg_prob, labels, 0.35),
    }


def fg_recall_at(fg_prob, labels, sparsity: float) -> float | None:
    """Share of all FG tokens that survive when each picture drops its `sparsity` share, lowest FG probability first.

    Shapes as in `token_metrics`. The cut is made in each picture, over all its tokens, ignored ones too, to the nearest
    whole token, equal probabilities in reading order; the mean is over all FG tokens.
    """
    fg_prob, labels = flat_tokens(fg_prob, labels)
    is_fg = labels == 1
    order = np.argsort(fg_prob, axis=1, kind="stable")
    survives = np.take_along_axis(is_fg, order, axis=1)[:, round(sparsity * labels.shape[1]) :]
    return float(survives.sum() / is_fg.sum()) if is_fg.any() else None


def flat_tokens(fg_prob, labels) -> tuple[np.ndarray, np.ndarray]:
    """Both as [N, tokens], the first in float64; ValueErrors as in `token_metrics`."""
    fg_prob, labels = _array(fg_prob, np.float64), _array(labels)
    if fg_prob.shape != labels.shape or labels.ndim < 2:
        raise ValueError(f"fg_prob {fg_prob.shape} and labels {labels.shape} should both be [N, rows, cols]")
    if not np.isfinite(fg_prob).all():
        raise ValueError("fg_prob holds numbers that are not finite")
    if not np.isin(labels, (0, 1, IGNORE_INDEX)).all() or (labels == IGNORE_INDEX).all():
        raise ValueError(f"labels should be 1 (FG), 0 (BG) or {IGNORE_INDEX} (ignored), and not all ignored")
    return fg_prob.reshape(len(labels), -1), labels.reshape(len(labels), -1)


class _DifficultAware(COCOeval):
    """COCOeval overwrites `ignore` with `iscrowd`; VOC's difficult objects are ignored too, and are no crowds."""

    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for gt in objects:
                gt["ignore"] = int(gt["iscrowd"] or gt["difficult"])


def _coco(n_images: int, annotations: list[dict], categories: Sequence[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(n_images)],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": int(k)} for k in categories],
    }
    coco.createIndex()
    return coco


def _annotations(index: int, boxes, labels, **columns) -> list[dict]:
    """One dictionary an object, boxes from xyxy to pycocotools' xywh."""
    boxes = _array(boxes, np.float64).reshape(-1, 4)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    columns = {"bbox": xywh, "category_id": _array(labels, np.int64), "area": xywh[:, 2:].prod(axis=1)} | columns
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"image_id": index, "iscrowd": 0} | dict(zip(columns, row, strict=True)) for row in rows]


class DetectionEvaluation:
    """Detections matched to objects once, by pycocotools; AP and its resamples over pictures are then cheap.

    `records`: one per picture, with `image_id`, `boxes` [n, 4] xyxy in original pixels, `labels` [n], `difficult` [n],
    `crowd` [n] and `areas` [n]. `predictions`: in the same order, dictionaries of `scores` [m], `labels` [m] and
    `boxes` [m, 4] xyxy in original pixels; arrays or tensors. Difficult objects and crowds are ignored: what matches
    them is neither right nor wrong. Raises ValueError for lists that don't pair up, or numbers that are not finite.
    """

    def __init__(self, records: Sequence, predictions: Sequence[dict]):
        self.image_ids = [record.image_id for record in records]
        if len(records) != len(predictions) or not len(records):
            raise ValueError(f"{len(records)} records and {len(predictions)} predictions: give one for each picture")
        if len(set(self.image_ids)) != len(records):
            raise ValueError("a picture appears twice among the records")
        objects, found = [], []
        for i, (record, prediction) in enumerate(zip(records, predictions, strict=True)):
            scores, boxes = _array(prediction["scores"], np.float64), _array(prediction["boxes"], np.float64)
            if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
                raise ValueError(f"picture {record.image_id}: a predicted score or box is not finite")
            flags = {"difficult": _array(record.difficult, int), "iscrowd": _array(record.crowd, int)}
            objects += _annotations(i, record.boxes, record.labels, area=_array(record.areas, np.float64), **flags)
            found += _annotations(i, boxes, prediction["labels"], score=scores)
        self._categories = sorted({a["category_id"] for a in objects})
        self._resampled: dict[int, np.ndarray] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            gt, dt = (_coco(len(records), annotations, self._categories) for annotations in (objects, found))
            coco_eval = _DifficultAware(gt, dt, "bbox")
            coco_eval.evaluate()
            coco_eval.accumulate()
            coco_eval.summarize()
        self._stats = coco_eval.stats[:6]
        self._precision = coco_eval.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], all sizes
        self._recalls = coco_eval.params.recThrs
        self._classes = self._flatten(coco_eval.evalImgs)

    def average_precision(self) -> dict[str, float | None]:
        """`AP` over IoU 0.50 to 0.95, `AP50`, `AP75`, by COCO's sizes `APs`, `APm`, `APl`; None without objects."""
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        return {name: float(value) if value > -1 else None for name, value in zip(names, self._stats, strict=True)}

    def average_precision_by_class(self) -> dict[int, tuple[float, int]]:
        """AP over IoU 0.50 to 0.95 of each class that has objects, and how many it has, by label."""
        counts = [int(objects.sum()) for _, _, _, objects in self._classes]
        means = self._precision.mean(axis=(0, 1)).tolist()
        return {label: (ap, n) for label, ap, n in zip(self._categories, means, counts, strict=True) if n}

    def _flatten(self, matches: list) -> list[tuple]:
        """For each class: pictures [D], true [T, D] and ignored [T, D] by falling score, objects a picture [N]."""
        n, classes = len(self.image_ids), []
        for k in range(len(self._categories)):
            found = [m for m in matches[4 * n * k : 4 * n * k + n] if m is not None]  # four sizes, "all" first
            pictures = np.concatenate([np.full(len(m["dtScores"]), m["image_id"]) for m in found])
            order = np.argsort(-np.concatenate([m["dtScores"] for m in found]), kind="stable")
            ignored = np.concatenate([m["dtIgnore"] for m in found], axis=1)[:, order]
            true = (np.concatenate([m["dtMatches"] for m in found], axis=1)[:, order] > 0) & ~ignored
            objects = np.zeros(n)
            for m in found:
                objects[m["image_id"]] = np.count_nonzero(np.asarray(m["gtIgnore"]) == 0)
            classes.append((pictures[order].astype(int), true, ignored, objects))
        return classes

    def resampled(self, n_boot: int) -> np.ndarray:
        """AP, and that of each resample of the pictures, [1 + n_boot]; nan where there is no object."""
        if n_boot not in self._resampled:
            weights = resampling_weights(len(self.image_ids), n_boot)
            self._resampled[n_boot] = self.weighted_average_precision(weights).mean(axis=1)
        return self._resampled[n_boot]

    def weighted_average_precision(self, weights: np.ndarray) -> np.ndarray:
        """AP at each of the ten IoU thresholds, [B, 10]; picture i counts `weights[b, i]` times, `weights` [B, N]."""
        total, present = np.zeros((len(weights), 10)), np.zeros(len(weights))
        for pictures, true, ignored, objects in self._classes:
            n_objects = weights @ objects
            drawn = weights[:, pictures]
            rank = np.cumsum(drawn, axis=1)
            for t in range(10):
                total[:, t] += self._interpolated(drawn, rank, true[t], ignored[t], n_objects)
            present += n_objects > 0
        with np.errstate(invalid="ignore"):
            return total / present[:, None]

    def _interpolated(self, drawn, rank, true, ignored, n_objects) -> np.ndarray:
        """Mean over COCO's 101 recalls of the best precision at that recall or a higher one, [B]; 0 without objects.

        Only true detections can be best, so precision is taken at those alone. `drawn` and `rank` [B, D] are weights
        and their running sum, by falling score; `true` and `ignored` [D].
        """
        at = np.flatnonzero(true)
        if not len(at):
            return np.zeros(len(drawn))
        skipped = np.flatnonzero(ignored)
        hits = np.cumsum(drawn[:, at], axis=1)
        counted = rank[:, at] - drawn[:, skipped] @ (skipped[:, None] < at)
        precision = hits / np.maximum(counted, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(self._recalls, hits / np.maximum(n_objects, 1)[:, None], side="right")
        return (np.diff(reached, axis=1, prepend=0) * best).sum(axis=1) / len(self._recalls)


def average_precision(records: Sequence, predictions: Sequence[dict]) -> dict[str, float | None]:
    """COCO's AP, AP50, AP75, APs, APm, APl of `predictions` on `records`, as `DetectionEvaluation` takes them."""
    return DetectionEvaluation(records, predictions).average_precision()


def bootstrap_ap(evaluation: DetectionEvaluation, n_boot: int = 1000) -> dict[str, float | None]:
    """The 95 % basic interval of AP over resampled pictures, `AP_low`, `AP_high`: resamples mirrored at the estimate.

    AP is higher the fewer different pictures there are, so that percentiles of resamples would lie too high.
    """
    ap, *resampled = evaluation.resampled(n_boot)
    return dict(zip(("AP_low", "AP_high"), interval((2 * ap - np.array(resampled)).clip(0, 1)), strict=True))


def paired_difference(
    evaluation: DetectionEvaluation, reference: DetectionEvaluation, n_boot: int = 1000
) -> dict[str, float | None]:
    """AP of `evaluation` less AP of `reference`, and its 95 % interval when both see the same resampled pictures.

    Keys `delta_AP`, `delta_low`, `delta_high`. Raises ValueError where the two are not of the same pictures, in order.
    """
    if evaluation.image_ids != reference.image_ids:
        raise ValueError("a paired difference needs the same pictures in the same order on both sides")
    return with_interval("delta_AP", evaluation.resampled(n_boot) - reference.resampled(n_boot), "delta")


def interval(resampled: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of bootstrap values [n_boot], those that are defined; None where none is."""
    defined = resampled[np.isfinite(resampled)]
    return tuple(map(number, np.percentile(defined, [2.5, 97.5]))) if len(defined) else (None, None)


def with_interval(name: str, values: np.ndarray, ends: str | None = None) -> dict[str, float | None]:
    """Columns of an estimate `values[0]` and of its interval over the resamples `values[1:]`: `<ends>_low`, `_high`."""
    low, high = interval(values[1:])
    return {name: number(values[0]), f"{ends or name}_low": low, f"{ends or name}_high": high}
