"""The detector's training (section 4.2): transformers' Hungarian loss over all processes, by `loop.fit`."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import YolosConfig, YolosForObjectDetection
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from ..config import PATCH_SIZE, Profile
from ..data import pretrained
from ..data.records import Record, class_names, load_training_lists
from ..images import renormalise, to_batch
from ..metrics import average_precision
from ..results import short_hash
from ..weights import fill_model
from ..yolos import PrunedYolos, create_yolos, load_yolos, predict
from .loop import WHOLE, Schedule, Task, fit, part_of_all, split_records
from .pictures import DetectionPictures, collate_detection
from .shared_heads import patch_loss, start_as_patches

if TYPE_CHECKING:
    from .finetuning import Pruner

# What the recipe is compared with, each as a training of its own: one thing less, or the background's patches left out first.
VARIANTS = {
    "sparse": {"half": "background"},
    "all-patches": {"half": ""},
    "no-shared-heads": {"shared_heads": False},
    "no-patch-start": {"patch_start": False},
    "no-mosaics": {"mosaics": 0.0},
}
_CLASS_SCORES = "class_labels_classifier.layers.2."  # the last layer of the head that names the classes


def detection_loss(output: YolosObjectDetectionOutput, targets: list[dict[str, Tensor]], config: YolosConfig) -> Tensor:
    """transformers' Hungarian loss, whose mean over processes is the loss of their pictures in one batch.

    In one process it equals `PrunedYolos`'s own, which in several divides the class term by the tokens of each, and the
    box terms by a number of boxes that is too small by the number of processes. `targets` are as that one's `labels`.
    """
    matcher = HungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
    criterion = ImageLoss(matcher, config.num_labels, config.eos_coefficient, ()).to(output.logits.device)
    outputs = {"logits": output.logits, "pred_boxes": output.pred_boxes}
    matches = matcher(outputs, targets)
    n_boxes = output.logits.new_tensor([float(sum(len(target["boxes"]) for target in targets)), 1.0])
    n_boxes, n_processes = reduce(n_boxes, "sum").tolist()
    n_boxes = max(n_boxes, 1) / n_processes
    terms = criterion.loss_labels(outputs, targets, matches, n_boxes)
    terms |= criterion.loss_boxes(outputs, targets, matches, n_boxes)
    matched = sum(len(rows) for rows, _ in matches)
    objects_and_rest = matched + config.eos_coefficient * (output.logits[..., 0].numel() - matched)
    class_loss = terms["loss_ce"] * part_of_all(output.logits.new_tensor(objects_and_rest))
    return (
        class_loss
        + config.bbox_loss_coefficient * terms["loss_bbox"]
        + config.giou_loss_coefficient * terms["loss_giou"]
    )


def train_yolos(profile: Profile, folder: Path, schedule: Schedule = WHOLE, start: Path | None = None) -> nn.Module:
    """Train the profile's YOLOS from the ImageNet blocks by the Hungarian loss, its state in `folder`; returns it.

    `start` is the checkpoint of another detector to go on from, which knows already where objects are: one of the same
    shape, save that it may know other classes. After each epoch the AP50 on the last pictures of the training list is
    logged. Raises ValueError for a `start` of another shape.
    """
    train, dev = detection_records(profile, schedule.limit)
    torch.manual_seed(schedule.seed)
    new = create_yolos(class_names(profile.detector_data), **profile.detector_shape)
    model = PrunedYolos(pretrained.start_from_imagenet(new, pretrained.imagenet_blocks()))
    recipe = schedule.recipe or profile.detector_recipe
    data = DetectionPictures(train, profile.detector_img_size, recipe, schedule.seed)
    if start:
        _start_from(model.detector, start)
    elif recipe.patch_start:
        some = [data.picture(index) for index in range(0, len(data), -(-len(data) // 64))]
        start_as_patches(model.detector, to_batch(some, profile.detector_img_size))
    identity = {"model": "yolos", "dataset": profile.detector_data, "start": short_hash(start) if start else None}
    return fit_yolos(model, data, dev, folder, identity, schedule).detector


def _start_from(detector: YolosForObjectDetection, path: Path) -> None:
    """Copies a stored detector's weights, in place; the class scores' layer only where the classes are the same."""
    start = load_yolos(path)
    state = start.state_dict()
    if start.config.label2id != detector.config.label2id:
        new = {name: value for name, value in detector.state_dict().items() if name.startswith(_CLASS_SCORES)}
        state.update(new)
    fill_model(detector, state, path)


def detection_records(profile: Profile, limit: int | None = None) -> tuple[list[Record], list[Record]]:
    """A profile's training pictures with boxes, and the last ones of its first list, on which choices are made."""
    train, dev = [], []
    for dataset in profile.detector_train:
        for records in load_training_lists(dataset, limit).values():
            parts = (records, []) if dev else split_records(records)
            train, dev = train + parts[0], dev + parts[1]
    return train, dev


def fit_yolos(
    model: PrunedYolos,
    data: DetectionPictures,
    dev: list[Record],
    folder: Path,
    identity: dict,
    schedule: Schedule,
    pruner: "Pruner | None" = None,
) -> PrunedYolos:
    """`fit` a detector by the Hungarian loss, with the AP50 on `dev` in the log after each epoch; returns it.

    `pruner` says which tokens are computed, without it all are. The model's heads, if any, are `training.inside`'s and
    learn along.
    """
    config, recipe, images = model.detector.config, data.recipe, [record.image() for record in dev]
    model.compiled = recipe.compiled
    dev_keep = pruner.of_images(images) if pruner and dev else None

    def evaluate(detector: PrunedYolos) -> float:
        found = predict(detector, images, dev_keep, square_side=data.img_size)
        return average_precision(dev, found)["AP50"] or 0.0

    def loss_of(detector: nn.Module, pixels: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        keep = pruner(pixels) if pruner else None
        if "keep" in targets[0]:
            keep = torch.stack([target["keep"] for target in targets])
        for head in model.heads:
            head.begin(targets)
        output = detector(renormalise(pixels, config.normalise), keep)
        loss = detection_loss(output, targets, config)
        for head in model.heads:
            keep, loss = head.kept, loss + head.loss(targets)
        if not recipe.shared_heads:
            return loss
        if keep is None:
            grid = (side // PATCH_SIZE for side in pixels.shape[2:])
            keep = torch.ones(len(pixels), *grid, dtype=torch.bool, device=pixels.device)
        with torch.autocast(pixels.device.type, enabled=False):
            return loss + patch_loss(model.detector, output.last_hidden_state, targets, keep)

    task = Task(loss_of, evaluate if dev else None, identity, collate_detection, recipe.clip)
    return fit(model, data, task, folder, **schedule.stops)
