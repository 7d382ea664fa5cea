"""Adaptive sparsity, the other half of the paper's future work: thresholds of several heads, learnt for a mean budget.

As LTMP (Bonnaerens and Dambre 2023) does it: whether a token stays is a hard step in the forward pass and a steep
sigmoid in the backward one, tokens that go are left out of the attention, and a squared term holds the budget. Detector
and heads stay as they are; each picture then gets what it needs. What is learnt is how the thresholds stand to each
other: a common shift then brings them to the budget on whole pictures, which training's crops don't resemble.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import YolosForObjectDetection
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from ..images import renormalise, warp
from ..inside import PatchHead
from ..packed import run_block
from ..yolos import PrunedYolos, predict
from .detector import detection_loss
from .pictures import DetectionPictures

TAU = 0.1  # of the sigmoid, in the head's logits
BUDGET_WEIGHT = 10.0
RATE, STEPS, BATCH_SIZE = 0.1, 120, 8
_FARTHEST, _HALVINGS = 4.0, 9  # of the common shift, in the logits


def learn_thresholds(
    detector: YolosForObjectDetection, heads: list[PatchHead], data: DetectionPictures, budget: float
) -> list[PatchHead]:
    """Copies of `heads` with learnt thresholds.

    `budget` is the wanted mean share of the patches over all layers that is computed. `data` are training pictures.
    """
    pruned = PrunedYolos(detector.requires_grad_(False)).eval()
    cuts = torch.nn.Parameter(torch.full((len(heads),), -2.0))  # in logits of foreground against background
    optimizer = torch.optim.Adam([cuts], lr=RATE)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(data.seed)).tolist()
    for step in range(STEPS):
        at = [(step * BATCH_SIZE + i) % len(order) for i in range(BATCH_SIZE)]
        items = [data[order[place], step * BATCH_SIZE + i] for i, place in enumerate(at)]
        pixels = renormalise(torch.stack([item[0] for item in items]), detector.config.normalise)
        output, computed = _soft_forward(pruned, heads, cuts, pixels)
        loss = detection_loss(output, [item[1] for item in items], detector.config)
        loss = loss + BUDGET_WEIGHT * (budget - computed) ** 2
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        optimizer.step()
    return [_with_cut(head, cut) for head, cut in zip(heads, cuts.tolist(), strict=True)]


def _with_cut(head: PatchHead, cut: float) -> PatchHead:
    """A copy of a head that keeps what is above a cut in the logits, foreground less background."""
    copied = PatchHead(head.after_layers, 1 / (1 + math.exp(cut)))
    copied.load_state_dict(head.state_dict())
    return copied.eval()


def move_to_budget(
    detector: YolosForObjectDetection, heads: list[PatchHead], images: Sequence[np.ndarray], budget: float
) -> tuple[list[PatchHead], float]:
    """Copies of heads whose cuts are all moved alike, until `images` reach the mean `budget`; and what they reach."""
    config = detector.config
    images = [warp(image, tuple(config.image_size)) for image in images]  # once, for every shift
    layers, cuts = config.num_hidden_layers, [math.log(1 / head.threshold - 1) for head in heads]
    ends = [*(head.after_layers for head in heads), layers]

    def computed(shift: float) -> float:
        pruned = PrunedYolos(detector, [_with_cut(head, cut + shift) for head, cut in zip(heads, cuts)]).eval()
        pruned.kept = []
        predict(pruned, images)
        shares = [torch.cat(stage).double().mean().item() for stage in zip(*pruned.kept, strict=True)]
        return float(np.diff([0, *ends]) @ shares) / layers

    low, high = -_FARTHEST, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = computed(middle)
        low, high = (middle, high) if reached > budget else (low, middle)
    return [_with_cut(head, cut + middle) for head, cut in zip(heads, cuts)], reached


def _soft_forward(
    pruned: PrunedYolos, heads: list[PatchHead], cuts: Tensor, pixels: Tensor
) -> tuple[YolosObjectDetectionOutput, Tensor]:
    """The detector with every token, those below a cut unseen by the others; and the share that the layers compute."""
    detector, count = pruned.detector, pruned.detector.config.num_detection_tokens
    x, layers = pruned.embed(pixels), detector.vit.encoder.layer
    seen, shares = x.new_ones(x.shape[:2]), []
    stages = {head.after_layers: (head, cut) for head, cut in zip(heads, cuts, strict=True)}
    for index, layer in enumerate(layers):
        if index in stages:
            head, cut = stages[index]
            logits = head(x[:, 1:-count])
            soft = ((logits[..., 1] - logits[..., 0] - cut) / TAU).sigmoid()
            stays = (soft > 0.5).to(soft) + soft - soft.detach()  # hard forwards, soft backwards
            seen = torch.cat([seen[:, :1], seen[:, 1:-count] * stays, seen[:, -count:]], dim=1)
        shares.append(seen[:, 1:-count].mean())
        x = run_block(layer, x, partial(_attend_to, seen))
    queries = detector.vit.layernorm(x)[:, -count:]
    output = YolosObjectDetectionOutput(
        logits=detector.class_labels_classifier(queries), pred_boxes=detector.bbox_predictor(queries).sigmoid()
    )
    return output, torch.stack(shares).mean()


def _attend_to(seen: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
    """Attention in which each key counts as much as `seen [B, T]` says; `[B, T, heads, head_dim]` in and out."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    weights = (query * scale) @ key.transpose(-2, -1)
    weights = (weights - weights.amax(dim=-1, keepdim=True).detach()).exp() * seen[:, None, None]
    return ((weights / weights.sum(dim=-1, keepdim=True)) @ value).transpose(1, 2)
