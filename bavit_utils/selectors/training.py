"""Trains Sparse DETR's and Focus DETR's scoring for a profile's detector, on the pictures that BAViT learnt from."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..annotations import stacked_labels
from ..config import Profile, run_folder
from ..data.pretrained import profile_detector
from ..data.records import load_records
from ..images import in_batches, renormalise
from ..metrics import token_metrics
from ..results import short_hash
from ..training.loop import WHOLE, Schedule, Task, fit, split_records
from ..training.pictures import DetectionPictures, collate_detection
from ..yolos import PrunedYolos
from .heads import SELECTORS, attention_map, head_scores, patch_grid

# Epochs, of BAViT's, that take a comparable time: Sparse DETR's target needs a run of the dense detector on every
# picture, Focus DETR's only boxes.
EPOCHS = {"sparse-detr": 1, "focus-detr": 4}


def train_selector(profile: Profile, name: str, schedule: Schedule = WHOLE) -> tuple[nn.Module, Path, dict]:
    """Train `sparse-detr` or `focus-detr` for the profile's stored detector, which stays as it is.

    Sparse DETR's target is the detector's attention to each augmented picture, Focus DETR's its boxes. After each epoch
    the AUROC of the scores against the pruner's labels, on the last pictures of the training list, is logged. Returns
    the selector, its folder, and what it was made for. FileNotFoundError without a detector.
    """
    detector, checkpoint = profile_detector(profile)
    detector = PrunedYolos(detector.requires_grad_(False)).eval()
    train, dev = split_records(load_records(profile.pruner_data, "train", schedule.limit))
    torch.manual_seed(schedule.seed)
    selector = SELECTORS[name]()
    epochs = profile.bavit_recipe.epochs * EPOCHS[name]
    recipe = replace(profile.bavit_recipe, epochs=epochs, lr=1e-3, small_epochs=0)
    data = DetectionPictures(train, profile.detector_img_size, recipe, schedule.seed)
    normalise = detector.detector.config.normalise
    images = [record.image() for record in dev]
    labels = stacked_labels(dev, profile.detector_grid, profile.pruner_rule) if dev else None

    def evaluate(selector: nn.Module) -> float:
        weight = next(selector.parameters())
        detector.to(weight.device)

        def score(pixels: Tensor) -> Tensor:
            return head_scores(selector, detector, pixels.to(weight)).sigmoid().cpu()

        return token_metrics(in_batches(score, images, data.img_size, normalise), labels, n_boot=10)["auroc"]

    def loss_of(selector: nn.Module, pixels: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        pixels = renormalise(pixels, normalise)
        detector.to(pixels.device)
        boxes = [one["boxes"] for one in targets]
        target = attention_map(detector, pixels) if name == "sparse-detr" else boxes
        levels = selector(patch_grid(detector, pixels))
        return getattr(selector, "module", selector).loss([level.float() for level in levels], target)

    folder = run_folder(f"{name}-{profile.pruner_data}{profile.suffix}-seed{schedule.seed}")
    made_for = {"detector": short_hash(checkpoint), "dataset": profile.pruner_data}
    made_for |= {"profile": profile.name, "seed": schedule.seed}
    task = Task(loss_of, evaluate if dev else None, {"model": name, **made_for}, collate_detection)
    return fit(selector, data, task, folder, **schedule.stops), folder, made_for
