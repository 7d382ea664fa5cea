"""BAViT's training (section 3.4)."""

from pathlib import Path

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from ..annotations import stacked_labels
from ..bavit import accumulative_cross_entropy, create_bavit, foreground_maps, token_weight
from ..config import DEPTHS, PATCH_SIZE, Profile
from ..data import pretrained
from ..data.records import Record, load_training_lists
from ..images import warp
from ..metrics import token_metrics
from .loop import WHOLE, Schedule, Task, fit, part_of_all, split_records
from .pictures import TokenPictures


def train_bavit(
    profile: Profile,
    folder: Path,
    model: str = "bavit-small",
    dataset: str | None = None,
    rule: str | None = None,
    schedule: Schedule = WHOLE,
) -> nn.Module:
    """Train `bavit-small` or `bavit-large` by Eq. 3 on a training split (section 3.4), in `folder`; returns it.

    Data set and rule default to the profile's. After each epoch the token accuracy on the last pictures of the training
    list is logged.
    """
    dataset, rule = dataset or profile.bavit_data, rule or profile.bavit_rule
    train, dev = token_records(dataset, schedule.limit)
    torch.manual_seed(schedule.seed)
    bavit = create_bavit(DEPTHS[model], profile.bavit_img_size, pretrained.imagenet_blocks())
    recipe = schedule.recipe or profile.bavit_recipe
    data = TokenPictures(train, profile.bavit_img_size, recipe, rule, schedule.seed)
    identity = {"model": model, "dataset": dataset, "rule": rule}
    return fit_bavit(bavit, data, dev, folder, identity, schedule)


def token_records(dataset: str, limit: int | None = None) -> tuple[list[Record], list[Record]]:
    """The pictures of a data set's training lists, and the last of its first list, on which choices are made."""
    first, *others = load_training_lists(dataset, limit).values()
    train, dev = split_records(first)
    return sum(others, train), dev


def fit_bavit(
    bavit: VisionTransformer,
    data: TokenPictures,
    dev: list[Record],
    folder: Path,
    identity: dict,
    schedule: Schedule = WHOLE,
) -> VisionTransformer:
    """`fit` a BAViT by Eq. 3, with the token accuracy on `dev` in the log after each epoch; returns it."""
    grid = (data.img_size // PATCH_SIZE,) * 2
    labels = stacked_labels(dev, grid, data.rule, data.tau) if dev else None
    images = [warp(record.image(), data.img_size) for record in dev]

    def evaluate(bavit: nn.Module) -> float:
        return token_metrics(foreground_maps(bavit, images), labels, n_boot=10)["accuracy"]

    def loss_of(bavit: nn.Module, pixels: Tensor, targets: Tensor) -> Tensor:
        fg_weight = data.recipe.fg_weight
        share = part_of_all(token_weight(targets, fg_weight))
        return accumulative_cross_entropy(bavit(pixels), targets, fg_weight) * share

    if not torch.cuda.is_available():
        for block in bavit.blocks:  # on a CPU the backward of the fused attention takes half of a step
            block.attn.fused_attn = False
    return fit(bavit, data, Task(loss_of, evaluate if dev else None, identity), folder, **schedule.stops)
