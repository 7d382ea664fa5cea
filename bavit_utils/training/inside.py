"""Pruning inside the detector, the paper's future work: heads on its frozen layers, and the training of both together.

A frozen head takes minutes. The joint training draws a sparsity anew at every step, so that one detector serves every
budget; its controls drop patches at random after the same layer, or see smaller pictures, for as many epochs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert
from transformers import YolosForObjectDetection

from ..annotations import labels_from_boxes, stacked_labels
from ..bavit import accumulative_cross_entropy
from ..config import PATCH_SIZE, Profile, run_folder
from ..data.pretrained import profile_detector
from ..inside import PatchHead, heads_of, load_heads, tokens_after
from ..results import short_hash
from ..yolos import PrunedYolos
from .detector import detection_records, fit_yolos
from .loop import WHOLE, Schedule
from .pictures import DetectionPictures

LAYERS = (1, 2, 3, 4, 6, 9)  # after which a head is trained
HEAD_PICTURES = 2000  # of the training list, for the frozen heads
SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the patches pruned in a step of the joint training
_EPOCHS, _LEAST_STEPS, _TOKENS, _LR = 12, 200, 4096, 3e-3  # of the frozen heads, and of one step


def train_head(tokens: Tensor, labels: Tensor, after_layers: int, seed: int = 0) -> PatchHead:
    """A head for frozen tokens [N, rows, cols, C], by Eq. 3 against their labels [N, rows, cols] (-100: ignored)."""
    torch.manual_seed(seed)
    head = PatchHead(after_layers)
    known = labels.flatten() >= 0
    tokens, labels = tokens.flatten(0, 2)[known], labels.flatten()[known]
    steps = max(_EPOCHS * len(labels) // _TOKENS, _LEAST_STEPS)
    optimizer = torch.optim.AdamW(head.parameters(), lr=_LR, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (_TOKENS,))
        loss = accumulative_cross_entropy(head(tokens[chosen].float())[None], labels[chosen][None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def train_heads(
    profile: Profile,
    detector: YolosForObjectDetection,
    seed: int = 0,
    limit: int | None = None,
    layers: Sequence[int] = LAYERS,
) -> dict[int, PatchHead]:
    """A frozen detector's heads after each of `layers` that it has, on pictures from all over the training list."""
    train, _ = detection_records(profile, limit)
    some = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, HEAD_PICTURES).astype(int))]
    layers = [layer for layer in layers if layer < profile.detector_depth]
    tokens = tokens_after(detector, [record.image() for record in some], layers)
    labels = torch.from_numpy(stacked_labels(some, profile.detector_grid, profile.pruner_rule))
    return {layer: train_head(tokens[layer], labels, layer, seed) for layer in layers}


def _frozen_head(
    profile: Profile, detector: YolosForObjectDetection, stored: Path, mark: str, layer: int, limit: int | None
) -> PatchHead:
    """The head after a layer from a file, for the detector of that hash; where there is none, one that is trained now."""
    heads = load_heads(stored, mark) if stored.exists() else {}
    return heads[layer] if layer in heads else train_heads(profile, detector, limit=limit, layers=[layer])[layer]


class LearningHead(PatchHead):
    """A head that learns with its detector: it keeps the best patches by its own scores, as many in each picture.

    In training a share that is drawn for the step, in evaluation half.
    """

    share = 0.5

    def begin(self, targets: list[dict]) -> None:
        """Draw the share for the step of these targets, the same in every process."""
        self.share = np.random.default_rng((targets[0]["step"], 2)).choice(SHARES)

    def keep(self, tokens: Tensor, given: Tensor) -> Tensor:
        self.logits = self(tokens)
        scores = self.scores(self.logits)
        count = round((1 - (self.share if self.training else 0.5)) * scores[0].numel())
        best = scores.detach().flatten(1).topk(count, dim=1).indices
        self.kept = torch.zeros_like(scores, dtype=torch.bool).flatten(1).scatter(1, best, True).view_as(scores)
        return self.kept

    def scores(self, logits: Tensor) -> Tensor:
        """What the patches are ranked by, [B, rows, cols]."""
        return logits[..., 1] - logits[..., 0]

    def loss(self, targets: list[dict]) -> Tensor:
        """Eq. 3 against the box labels of the pictures as they were seen."""
        grid = tuple(self.logits.shape[1:3])
        size = tuple(PATCH_SIZE * cells for cells in grid)
        labels = []
        for target in targets:
            boxes = box_convert(target["boxes"].cpu(), "cxcywh", "xyxy") * torch.tensor([*size[::-1]] * 2)
            labels.append(torch.from_numpy(labels_from_boxes(boxes.numpy(), size, grid)))
        labels = torch.stack(labels).to(self.logits.device)
        return accumulative_cross_entropy(self.logits.float().flatten(1, 2), labels)


class RandomHead(LearningHead):
    """The control: any patches, as many; it has nothing to learn, and its parameters are none."""

    def __init__(self, after_layers: int):
        super().__init__(after_layers)
        del self.norm, self.score

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.new_zeros(*tokens.shape[:-1], 2)

    def scores(self, logits: Tensor) -> Tensor:
        return torch.rand(logits.shape[:-1], device=logits.device)

    def loss(self, targets: list[dict]) -> Tensor:
        return self.logits.new_zeros(())


def tune_inside(
    profile: Profile, way: str, at: int, start: str = "yolos", schedule: Schedule = WHOLE
) -> tuple[YolosForObjectDetection, PatchHead | None, Path, dict]:
    """Train a stored detector of the profile, `start`, on, in one of three ways, for the epochs of its fine-tuning recipe.

    `way` is "inside" (pruned after `at` layers by a head that learns along, from the frozen one), "random" (pruned
    there at random), or "resolution" (with every token of pictures of `at` pixels). Returns the
    detector, its head ("inside" alone), its folder, and what it was made from. ValueError for `at` that doesn't fit,
    and FileNotFoundError where a checkpoint is missing.
    """
    detector, path = profile_detector(profile, start)
    if not (0 < at < profile.detector_depth if way != "resolution" else at % PATCH_SIZE == 0 and at > 0):
        raise ValueError(f"{at} doesn't fit {way!r}: give a layer of {profile.detector_depth}, or whole patches of 16")
    heads, side = [], profile.detector_img_size
    if way == "inside":
        heads = [LearningHead(at)]
        stored = heads_of(profile.checkpoint(start))
        heads[0].load_state_dict(
            _frozen_head(profile, detector, stored, short_hash(path), at, schedule.limit).state_dict()
        )
    elif way == "random":
        heads = [RandomHead(at)]
    else:
        side = at
    train, dev = detection_records(profile, schedule.limit)
    data = DetectionPictures(train, side, profile.finetune_recipe, schedule.seed)
    model, name = PrunedYolos(detector, heads), f"{start}-{way}-{at}"
    folder = run_folder(f"{name}-{profile.detector_data}{profile.suffix}-seed{schedule.seed}")
    made_from = {"start": short_hash(path), "way": way, "at": at}
    identity = {"model": name, "dataset": profile.detector_data, **made_from}
    fit_yolos(model, data, dev, folder, identity, schedule)
    return detector, heads[0] if way == "inside" else None, folder, made_from
