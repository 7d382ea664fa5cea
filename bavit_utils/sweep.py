"""Thresholds against detections (Table 2): BAViT's maps once, the detector once per threshold, rows to store."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .annotations import stacked_labels
from .config import DEPTHS, Profile
from .cost import multiply_adds
from .data.records import Record
from .images import warp
from .metrics import DetectionEvaluation, bootstrap_ap, number, paired_difference
from .paper import PAPER_SPARSITIES
from .pruning import detector_keep, spare_some, threshold_for_sparsity
from .weights import read_weights, save_weights
from .yolos import PrunedYolos, predict

SWEEP_SPARSITIES = (0.70, 0.60, 0.53, *PAPER_SPARSITIES)  # and on to where little is left


@dataclass(frozen=True)
class Way:
    """From a map to the kept tokens (section 3.5): how Table 2 most likely does it, unless something else is said."""

    resize: str = "nearest"
    fill_steps: int = 0
    spared: float = 0.0  # this share of the background is kept all the same, drawn at random


PLAIN = vars(Way()) | {"readout": ["tokens", None]}  # the columns of stored rows that say so; older rows lack the last


@dataclass
class Setting:
    """What the thresholds of a sweep share: pictures, warped once, their labels, and what the dense detector finds.

    `records` and decoded `images` (uint8 [H, W, 3]) go together. With a `folder`, detections are kept there, and the
    same call goes on where an interrupted one stopped. `readout` is `yolos.predict`'s.
    """

    profile: Profile
    records: list[Record]
    images: Sequence[np.ndarray]
    detector: PrunedYolos
    folder: Path | None = None
    readout: str = "tokens"

    def __post_init__(self):
        self.sizes = [image.shape[:2] for image in self.images]
        square = tuple(self.detector.detector.config.image_size)
        self.images = [warp(image, square) for image in self.images]

    @cached_property
    def labels(self) -> Tensor:
        """The true labels on the detector's grid, by the rule of the profile's pruner: int64 [N, rows, cols]."""
        return torch.from_numpy(stacked_labels(self.records, self.profile.detector_grid, self.profile.pruner_rule))

    @cached_property
    def dense(self) -> DetectionEvaluation:
        """What the detector finds on all tokens."""
        return DetectionEvaluation(self.records, self.detections())

    def detections(self, keep: Tensor | None = None, name: str = "dense") -> list[dict[str, Tensor]]:
        """Detections on the kept tokens, boolean [N, rows, cols], or all: as of `yolos.predict`.

        In the folder they lie under the `name` and a hash of what is kept.
        """
        if keep is not None:
            name += "-" + hashlib.sha256(np.packbits(keep.numpy()).tobytes()).hexdigest()[:16]
        name += "" if self.readout == "tokens" else f"-{self.readout}"
        return detections(self.detector, self.images, keep, self.folder, name, sizes=self.sizes, readout=self.readout)


def sweep(
    setting: Setting,
    maps: Tensor,
    sparsities: Sequence[float] = PAPER_SPARSITIES,
    way: Way = Way(),
    bavit: str = "bavit-small",
    seed: int = 0,
) -> list[dict]:
    """One row for each wanted sparsity, in Table 2's columns: detections, tokens and multiply-adds at its threshold.

    `maps`, float32 [N, rows, cols], are BAViT's probability or another score, and `bavit` its name; `seed` is what was
    drawn by. `sparsity` is the wanted one and `sparsity_reached` the mean over pictures; the threshold that gives it is
    found on these very maps, without labels.
    """
    rows = []
    for wanted in tqdm(sparsities, desc="sweep", unit="threshold"):
        threshold, keep = keep_at(maps, wanted, setting.profile.detector_grid, way, seed)
        found = setting.detections(keep, bavit)
        evaluation = DetectionEvaluation(setting.records, found)
        rows.append(
            {
                "bavit": bavit,
                **vars(way),
                "readout": setting.readout,
                "sparsity": wanted,
                "threshold": threshold,
                **evaluation.average_precision(),
                **bootstrap_ap(evaluation),
                **paired_difference(evaluation, setting.dense),
                **_costs(setting.profile, keep, bavit),
                "fg_recall": number(keep[setting.labels == 1].double().mean().item()),  # None without objects
                "seed": seed,
                "n_images": len(setting.records),
            }
        )
    return rows


def keep_at(
    maps: Tensor, sparsity: float, grid: tuple[int, int], way: Way = Way(), seed: int = 0
) -> tuple[float, Tensor]:
    """The threshold whose mean sparsity is nearest to the wanted one, and its keep mask, boolean [N, *grid]."""
    maps = spare_some(maps, way.spared, seed) if way.spared else maps
    # Threshold 1 keeps everything: Table 2's last row.
    threshold = threshold_for_sparsity(maps, sparsity, grid, way.fill_steps, way.resize) if sparsity else 1.0
    return threshold, detector_keep(maps, threshold, grid, way.fill_steps, way.resize)


def by_sparsity(rows: pd.DataFrame) -> pd.DataFrame:
    """One choice's rows of Table 2 by rising sparsity, which is the index: averaged over seeds, AP as a share too.

    `rows` are of one detector and one way from the map to the tokens. `share` is AP over the dense detector's; `low` and
    `high` are the ends of the change's interval over resampled pictures (of several seeds, the ends' means), `share_low`
    and `share_high` the same of the share. Raises ValueError for a sparsity that one seed has twice.
    """
    if rows.duplicated(["sparsity", "seed"]).any():
        raise ValueError(
            "several rows of one sparsity and seed: pick one detector, one choice and one way to its tokens"
        )
    groups = rows.groupby("sparsity")
    table = groups.mean(numeric_only=True).assign(seeds=groups.size())
    table["low"], table["high"] = table["delta_low"], table["delta_high"]
    dense = table["AP"] - table["delta_AP"]
    shares = {"share": table["AP"], "share_low": dense + table["low"], "share_high": dense + table["high"]}
    return table.assign(**{name: values / dense for name, values in shares.items()})


def detections(
    detector: nn.Module,
    images: Sequence[np.ndarray],
    keep: Tensor | None = None,
    folder: Path | None = None,
    name: str = "dense",
    **options,
) -> list[dict[str, Tensor]]:
    """`predict`, kept in `folder` under `name`, if one is given: read from there if it's there.

    `options` are `predict`'s own; the name has to tell them apart.
    """
    path = folder and Path(folder) / f"{name}.safetensors"
    if path and path.exists():
        with suppress(ValueError, KeyError):  # damaged: they are found anew
            return read_detections(path)
    found = predict(detector, images, keep, **options)
    if path:
        save_detections(path, found)
    return found


def save_detections(path: Path, found: list[dict[str, Tensor]]) -> None:
    """Keeps detections, as of `yolos.predict`, in one file."""
    together = {key: torch.cat([one[key] for one in found]) for key in found[0]}
    together["counts"] = torch.tensor([len(one["scores"]) for one in found])
    save_weights(path, together, {"model": "detections"}, bits=32)


def read_detections(path: Path) -> list[dict[str, Tensor]]:
    """What `save_detections` kept; FileNotFoundError and ValueError as of `weights.read_weights`."""
    stored, _ = read_weights(path, "detections")
    counts = stored.pop("counts").tolist()
    parts = zip(*(values.split(counts) for values in stored.values()))
    return [dict(zip(stored, values)) for values in parts]


def _costs(profile: Profile, keep: Tensor, bavit: str) -> dict[str, float]:
    """Tokens over all layers as Table 2 counts them, with class and detection tokens too, and multiply-adds in 1e9."""
    kept, patches = keep.flatten(1).sum(dim=1).numpy(), keep[0].numel()
    depth = profile.detector_depth
    tokens = DEPTHS.get(bavit, 0) * int(np.prod(profile.bavit_grid)) + depth * kept.mean().item()
    return {
        "sparsity_reached": 1 - (kept / patches).mean().item(),
        "tokens": tokens,
        "tokens_with_prefix": tokens + depth * (1 + profile.num_detection_tokens),
        "gmacs": multiply_adds(kept, profile, bavit if bavit in DEPTHS else None) / 1e9,
    }
