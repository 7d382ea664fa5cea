"""Thresholds against detections (Table 2): BAViT's maps once, the detector once per threshold, rows to store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from .config import DEPTHS, PAPER_SPARSITIES, Profile
from .cost import multiply_adds
from .datasets import Record
from .metrics import DetectionEvaluation, bootstrap_ap, paired_difference
from .pruning import detector_keep, spare_some, threshold_for_sparsity
from .weights import save_weights
from .yolos import PrunedYolos, predict

# How Table 2 most likely comes from BAViT's map to the detector's grid; the columns that say so in stored rows.
PLAIN = {"resize": "nearest", "fill_steps": 0, "spared": 0.0}


def sweep(
    profile: Profile,
    records: list[Record],
    images: Sequence[np.ndarray],
    maps: Tensor,
    detector: PrunedYolos,
    sparsities: Sequence[float] = PAPER_SPARSITIES,
    fill_steps: int = 0,
    resize: str = "nearest",
    labels: Tensor | None = None,
    folder: Path | None = None,
    bavit: str = "bavit-small",
    dense: list[dict] | None = None,
    spared: float = 0.0,
    seed: int = 0,
) -> list[dict]:
    """One row for each wanted sparsity, in Table 2's columns: detections, tokens and multiply-adds at its threshold.

    `records`, decoded `images` and `maps` (float32 [N, rows, cols], BAViT's probability or another score) go together.
    `labels`, int64 [N, *detector grid] with 1 foreground, add `fg_recall`. The difference in AP is to the dense
    detector's `dense` detections, found here if they aren't given. With a `folder`, detections are kept there after
    each threshold, and the same call goes on where an interrupted one stopped. `spared` is the share of the background
    that is kept all the same, drawn by `seed`. `sparsity` is the wanted one and `sparsity_reached` the mean over
    pictures.
    """
    maps = spare_some(maps, spared, seed) if spared else maps
    reference = DetectionEvaluation(records, dense or detections(detector, images, folder=folder, name="dense"))
    rows = []
    for wanted in tqdm(sparsities, desc="sweep", unit="threshold"):
        # Threshold 1 keeps everything: Table 2's last row.
        threshold = threshold_for_sparsity(maps, wanted, profile.detector_grid, fill_steps, resize) if wanted else 1.0
        keep = detector_keep(maps, threshold, profile.detector_grid, fill_steps, resize)
        name = f"sparsity-{wanted}-fill-{fill_steps}-{resize}" + (f"-spared-{spared}-seed-{seed}" if spared else "")
        found = detections(detector, images, keep, folder, name)
        evaluation = DetectionEvaluation(records, found)
        rows.append(
            {
                "bavit": bavit,
                "fill_steps": fill_steps,
                "resize": resize,
                "spared": spared,
                "sparsity": wanted,
                "threshold": threshold,
                **evaluation.average_precision(),
                **bootstrap_ap(evaluation),
                **paired_difference(evaluation, reference),
                **_costs(profile, keep, bavit),
                "fg_recall": _recall(keep, labels),
                "n_images": len(records),
            }
        )
    return rows


def detections(
    detector: PrunedYolos,
    images: Sequence[np.ndarray],
    keep: Tensor | None = None,
    folder: Path | None = None,
    name: str = "dense",
) -> list[dict[str, Tensor]]:
    """`predict`, kept in `folder` under `name`: read from there if a former call left it."""
    path = folder and Path(folder) / f"{name}.safetensors"
    if path and path.exists():
        stored = load_file(path)
        return [dict(zip(stored, values)) for values in zip(*stored.values())]
    found = predict(detector, images, keep)
    if path:
        save_weights(
            path, {key: torch.stack([f[key] for f in found]) for key in found[0]}, {"model": "detections"}, half=False
        )
    return found


def _costs(profile: Profile, keep: Tensor, bavit: str) -> dict[str, float]:
    """Tokens over all layers as Table 2 counts them, with class and detection tokens too, and multiply-adds in 1e9."""
    kept = keep.flatten(1).sum(dim=1).double()
    pruner = DEPTHS.get(bavit, 0) * int(np.prod(profile.bavit_grid))
    tokens = pruner + profile.detector_depth * kept.mean().item()
    return {
        "sparsity_reached": 1 - kept.mean().item() / keep[0].numel(),
        "tokens": tokens,
        "tokens_with_prefix": tokens + profile.detector_depth * (1 + profile.num_detection_tokens),
        "gmacs": multiply_adds(kept.numpy(), profile, bavit if bavit in DEPTHS else None) / 1e9,
    }


def _recall(keep: Tensor, labels: Tensor | None) -> float | None:
    """The share of foreground tokens that stay, over all pictures."""
    return None if labels is None else keep[labels == 1].double().mean().item()
