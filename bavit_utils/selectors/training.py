"""Trains Sparse DETR's and Focus DETR's scoring for a profile's detector, on the pictures that BAViT learnt from."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..annotations import stacked_labels
from ..config import Profile, Recipe, run_folder
from ..data.pretrained import profile_detector
from ..data.records import load_records
from ..images import renormalise, to_batch
from ..metrics import token_metrics
from ..results import short_hash
from ..training.loop import fit, split_records
from ..training.pictures import DetectionPictures, collate_detection
from ..yolos import PrunedYolos
from .heads import SELECTORS, attention_map, head_scores, patch_grid

# BAViT's recipe, in epochs of its own: Sparse DETR's target needs a run of the dense detector on every picture, Focus
# DETR's only boxes, so that the same time is worth more of them.
EPOCHS = {"sparse-detr": 1, "focus-detr": 4}


def selector_recipe(profile: Profile, name: str) -> Recipe:
    """The profile's recipe for BAViT, with a head's peak rate and as many epochs as take a comparable time."""
    recipe = profile.bavit_recipe
    return replace(recipe, epochs=recipe.epochs * EPOCHS[name], lr=1e-3, small_epochs=0)


def train_selector(
    profile: Profile,
    name: str,
    seed: int = 0,
    recipe: Recipe | None = None,
    folder: Path | None = None,
    limit: int | None = None,
    max_steps: int | None = None,
) -> tuple[nn.Module, Path, dict]:
    """Train `sparse-detr` or `focus-detr` for the profile's stored detector, which stays as it is.

    Sparse DETR's target is the detector's attention to each augmented picture, Focus DETR's its boxes. After each epoch
    the AUROC of the scores against the pruner's labels, on the last pictures of the training list, is logged. Returns
    the selector, its folder, and what it was made for. FileNotFoundError without a detector.
    """
    detector, made_for = profile_detector(profile)
    detector = PrunedYolos(detector.requires_grad_(False)).eval()
    train, dev = split_records(load_records(profile.pruner_data, "train", limit))
    torch.manual_seed(seed)
    selector = SELECTORS[name]()
    data = DetectionPictures(train, profile.detector_img_size, recipe or selector_recipe(profile, name), seed)
    normalise = detector.detector.config.normalise
    labels = stacked_labels(dev, profile.detector_grid, profile.pruner_rule) if dev else None
    batches = [to_batch([r.image() for r in dev[i : i + 32]], data.img_size, normalise) for i in range(0, len(dev), 32)]

    def evaluate(selector: nn.Module) -> float:
        detector.to(next(selector.parameters()).device)
        scores = [head_scores(selector, detector, batch.to(next(selector.parameters()))).cpu() for batch in batches]
        return token_metrics(torch.cat(scores).sigmoid(), labels, n_boot=10)["auroc"]

    def loss_of(selector: nn.Module, pixels: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        pixels = renormalise(pixels, normalise)
        detector.to(pixels.device)
        if name == "sparse-detr":
            target = attention_map(detector, pixels)
        else:
            target = [one["boxes"] for one in targets]
        levels = selector(patch_grid(detector, pixels))
        return getattr(selector, "module", selector).loss([level.float() for level in levels], target)

    folder = folder or run_folder(f"{name}-{profile.pruner_data}{profile.suffix}-seed{seed}")
    made_for = {"detector": short_hash(made_for), "dataset": profile.pruner_data, "profile": profile.name, "seed": seed}
    trained = fit(
        selector,
        data,
        loss_of,
        folder,
        evaluate if dev else None,
        collate_detection,
        identity={"model": name, **made_for},
        max_steps=max_steps,
    )
    return trained, folder, made_for
