"""What pruning loses and why: object by object, how much of it was kept, and whether the detector still finds it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..annotations import overlaps
from ..data.records import Record
from ..metrics import DetectionEvaluation

MIN_SCORE, MIN_IOU = 0.3, 0.5  # of a detection that counts, and for which it has found its object
_BINS = np.linspace(0, 1, 5)  # of the share of an object's area that is kept
_SIZES = {"small": 0, "medium": 32**2, "large": 96**2}  # COCO's, from so many pixels on
_BORDER = 2  # pixels: an object that comes as near to its picture's border is likely cut by it


def object_table(
    records: Sequence[Record], keep: Tensor, dense: Sequence[dict], pruned: Sequence[dict]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """A row for each object, and the false positives, of a dense detector and of the same on the kept patches.

    `keep` is boolean [N, rows, cols], detections are as of `yolos.predict`. The columns: `size` (COCO's), `truncated`
    (it touches the border), `kept` (share of its box's area on kept patches), `found_dense`, `found_pruned`. The false
    positives: `n_dense`, those of the dense detector; `removed`, of these without a counterpart in the pruned one's;
    `new`, the reverse. Crowds and difficult objects are no objects, and what lies on them is no false positive.
    """
    rows, wrong = [], dict.fromkeys(("n_dense", "removed", "new"), 0)
    for record, kept, *found in zip(records, keep.numpy(), dense, pruned, strict=True):
        parts = [_sure(one) for one in found]
        (hits, false), (hits_pruned, false_pruned) = (_match(record, *part) for part in parts)
        before, after = ([part[index] for part in one] for one, index in zip(parts, (false, false_pruned)))
        wrong["n_dense"] += len(before[0])
        wrong["removed"] += int((~_has_counterpart(before, after)).sum())
        wrong["new"] += int((~_has_counterpart(after, before)).sum())
        (height, width), (x1, y1, x2, y2) = record.size, record.boxes.astype(np.float64).T
        touches = (record.boxes[:, :2] <= _BORDER).any(axis=1)
        touches |= (record.boxes[:, 2:] >= [width - _BORDER, height - _BORDER]).any(axis=1)
        down, across = overlaps(y1, y2, height, len(kept)), overlaps(x1, x2, width, len(kept[0]))
        shares = ((down @ kept) * across).sum(axis=1) / (down.sum(axis=1) * across.sum(axis=1))
        for j in np.flatnonzero(~(record.difficult | record.crowd)):
            size = [name for name, area in _SIZES.items() if record.areas[j] >= area][-1]
            rows.append((size, bool(touches[j]), float(shares[j]), bool(hits[j]), bool(hits_pruned[j])))
    return pd.DataFrame(rows, columns=["size", "truncated", "kept", "found_dense", "found_pruned"]), wrong


def object_rows(table: pd.DataFrame) -> list[dict]:
    """`object_table`'s objects counted by size, truncation and quarter of the share kept, to store."""
    low = _BINS[np.clip(np.digitize(table["kept"], _BINS) - 1, 0, len(_BINS) - 2)]
    groups = table.assign(kept_low=low).groupby(["size", "truncated", "kept_low"])
    return [
        {
            "kind": "object",
            "size": size,
            "truncated": bool(truncated),
            "kept_low": low,
            "kept_high": low + _BINS[1],
            "n": len(group),
            "found_dense": int(group["found_dense"].sum()),
            "found_pruned": int(group["found_pruned"].sum()),
            "lost": int((group["found_dense"] & ~group["found_pruned"]).sum()),
        }
        for (size, truncated, low), group in groups
    ]


def class_rows(evaluation: DetectionEvaluation, names: Sequence[str]) -> list[dict]:
    """AP of each class, to store."""
    return [
        {"kind": "class", "class": names[label], "AP": ap, "n": n}
        for label, (ap, n) in evaluation.average_precision_by_class().items()
    ]


def _sure(found: dict[str, Tensor]) -> list[Tensor]:
    """Boxes and labels of the detections that count, by falling score."""
    order = found["scores"].argsort(descending=True)
    order = order[found["scores"][order] >= MIN_SCORE]
    return [found["boxes"][order].float(), found["labels"][order]]


def _overlaps(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """IoU of boxes of the same label, 0 of others: [n, m]."""
    return box_iou(one[0], other[0]) * (one[1][:, None] == other[1])


def _match(record: Record, boxes: Tensor, labels: Tensor) -> tuple[np.ndarray, Tensor]:
    """Which objects are found, bool [n], one detection each; and which detections are false positives, bool [m]."""
    objects = [torch.from_numpy(record.boxes), torch.from_numpy(record.labels)]
    ignored = torch.from_numpy(record.difficult | record.crowd)
    hits, false = np.zeros(len(ignored), dtype=bool), torch.ones(len(boxes), dtype=torch.bool)
    for i, row in enumerate(_overlaps([boxes, labels], objects)):
        free = row * torch.from_numpy(~hits) * ~ignored
        if len(row) and free.max() >= MIN_IOU:
            hits[free.argmax()], false[i] = True, False
        elif len(row) and (row * ignored).max() >= MIN_IOU:
            false[i] = False
    return hits, false


def _has_counterpart(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """Which of the detections `one` have one of the same label at the same place in `other`."""
    if not len(other[0]):
        return torch.zeros(len(one[0]), dtype=torch.bool)
    return (_overlaps(one, other) >= MIN_IOU).any(dim=1)
