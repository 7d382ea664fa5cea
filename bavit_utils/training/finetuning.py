"""Sparse fine-tuning (section 4.2, Table 2's YOLOS-F): the trained detector goes on with the tokens that BAViT keeps.

The control, which the paper lacks, is the same with every token: same start, pictures, changes and steps. What it gains
comes of training longer, and not of getting used to pruning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor
from transformers import YolosForObjectDetection

from ..bavit import foreground_maps, foreground_probability, load_bavit
from ..config import Profile, run_folder
from ..data.pretrained import profile_detector
from ..pruning import detector_keep, threshold_for_sparsity
from ..results import short_hash
from ..yolos import PrunedYolos
from .detector import detection_records, fit_yolos
from .loop import WHOLE, Schedule
from .pictures import DetectionPictures, Pictures

THRESHOLD_PICTURES = 400  # of the training list, on which the threshold is chosen


def finetuned_name(sparsity: float) -> str:
    """Under which name its checkpoint, curve and rows go: `yolos-f`, or `yolos-control` where nothing is pruned."""
    return "yolos-f" if sparsity else "yolos-control"


@dataclass(frozen=True)
class Pruner:
    """BAViT at a threshold: which patches of the detector's `grid` are computed (section 3.5)."""

    bavit: VisionTransformer
    threshold: float
    grid: tuple[int, int]

    def __call__(self, pixels: Tensor) -> Tensor:
        """The keep mask, boolean [B, *grid], of a batch for the detector: float [B, 3, S, S], mean = std = 0.5.

        BAViT sees the same pixels at its own size, in single precision whatever the training's is: near 1, where
        thresholds lie, bf16 would move them. No gradients pass.
        """
        bavit = self.bavit.to(pixels.device)
        with torch.autocast(pixels.device.type, enabled=False):
            small = F.interpolate(pixels.float(), bavit.patch_embed.img_size, mode="bilinear", antialias=True)
            return detector_keep(foreground_probability(bavit, small), self.threshold, self.grid)

    def of_images(self, images: Sequence[np.ndarray]) -> Tensor:
        """The keep masks of decoded pictures, boolean [N, *grid]."""
        return detector_keep(foreground_maps(self.bavit, images), self.threshold, self.grid)


def choose_pruner(bavit: VisionTransformer, pictures: Pictures, sparsity: float, grid: tuple[int, int]) -> Pruner:
    """BAViT at the threshold that prunes the share `sparsity` of the patches, on average over unchanged pictures.

    These are spread over the whole training list. Augmented ones lose somewhat less: a crop shows more of its objects.
    """
    chosen = np.unique(np.linspace(0, len(pictures) - 1, THRESHOLD_PICTURES).astype(int))
    maps = foreground_maps(bavit, [pictures.picture(index) for index in chosen])
    return Pruner(bavit, threshold_for_sparsity(maps, sparsity, grid), grid)


def finetune(
    profile: Profile, sparsity: float = 0.35, schedule: Schedule = WHOLE, folder: Path | None = None
) -> tuple[YolosForObjectDetection, Path, dict]:
    """Train the profile's stored detector on, behind the profile's BAViT-small at `sparsity` (0: without, the control).

    BAViT looks at every augmented picture as the detector gets it. After each epoch the AP50 on the last pictures of
    the training list, pruned in the same way, is logged. Returns the detector, its folder, and what it was made from:
    hashes of the two checkpoints, sparsity and threshold. FileNotFoundError where a checkpoint is missing, ValueError
    for a sparsity outside [0, 1) and for a folder that holds the training of another start.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"the sparsity is a share from 0 up to, without, 1 (the paper's is 0.35), not {sparsity}")
    name = finetuned_name(sparsity)
    detector, start = profile_detector(profile)
    folder = folder or run_folder(f"{name}-{profile.detector_data}{profile.suffix}-seed{schedule.seed}")
    model = PrunedYolos(detector)
    bavit = load_bavit(profile.checkpoint("bavit-small")) if sparsity else None
    train, dev = detection_records(profile, schedule.limit)
    recipe = schedule.recipe or profile.finetune_recipe
    data = DetectionPictures(train, profile.detector_img_size, recipe, schedule.seed)
    made_from = {"start": short_hash(start), "sparsity": sparsity, "pruner": None}
    pruner = None
    if bavit is not None:
        made_from["pruner"] = short_hash(profile.checkpoint("bavit-small"))
        pruner = choose_pruner(bavit, data, sparsity, profile.detector_grid)
    identity = {"model": name, "dataset": profile.detector_data, **made_from}
    tuned = fit_yolos(model, data, dev, folder, identity, schedule, pruner).detector
    return tuned, folder, made_from | {"threshold": pruner and pruner.threshold}
