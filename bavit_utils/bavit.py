"""BAViT: a shallow ViT-tiny without class token that calls every patch foreground or background (sections 3.2-3.3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models import VisionTransformer
from torch import Tensor

from .annotations import IGNORE_INDEX
from .config import PATCH_SIZE
from .images import in_batches
from .weights import described, fill_model, read_weights, save_weights


def create_bavit(depth: int, img_size: int, blocks: dict[str, Tensor] | None = None) -> VisionTransformer:
    """ViT-tiny of `depth` blocks (2 is BAViT-small, 10 BAViT-large) with a two-way linear layer on every token.

    Maps pictures `[B, 3, img_size, img_size]`, normalised with mean = std = 0.5, to logits `[B, N, 2]` of background
    and foreground, N = (img_size / 16)^2. With `blocks`, as of `data.pretrained.imagenet_blocks`, all but the head
    starts from ImageNet's ViT-tiny. Pictures of another side than `img_size` are taken too, with the position table
    resized.
    """
    model = timm.create_model(
        "vit_tiny_patch16_384",
        depth=depth,
        img_size=img_size,
        num_classes=2,
        class_token=False,
        global_pool="",
        dynamic_img_size=True,
    )
    if blocks is not None:
        # The class row goes before the grid is resized: the model has no such token.
        positions = resample_abs_pos_embed(
            blocks["pos_embed"][:, 1:], list(model.patch_embed.grid_size), num_prefix_tokens=0
        )
        start, wanted = blocks | {"pos_embed": positions}, model.state_dict()
        model.load_state_dict({name: wanted[name] if name.startswith("head.") else start[name] for name in wanted})
    return model


@torch.no_grad()
def foreground_probability(model: VisionTransformer, images: Tensor) -> Tensor:
    """Probability that each patch is foreground, `[B, rows, cols]`, for a normalised batch `[B, 3, height, width]`.

    Without gradients; put the model into evaluation first.
    """
    rows, cols = (side // size for side, size in zip(images.shape[-2:], model.patch_embed.patch_size))
    return model(images).softmax(dim=-1)[..., 1].unflatten(1, (rows, cols))


def foreground_maps(model: VisionTransformer, images: Sequence[np.ndarray], batch_size: int = 32) -> Tensor:
    """`foreground_probability` of decoded pictures (uint8 [H, W, 3], any sizes): float32 [N, rows, cols], on the CPU.

    Each picture is warped to the model's size; put the model into evaluation first.
    """
    device, size = next(model.parameters()).device, model.patch_embed.img_size[0]
    return in_batches(
        lambda pixels: foreground_probability(model, pixels.to(device)).cpu(), images, size, batch_size=batch_size
    )


def accumulative_cross_entropy(logits: Tensor, labels: Tensor, fg_weight: float = 1.0) -> Tensor:
    """The accumulative cross-entropy (Eq. 3): as it divides by N x M, the mean cross-entropy over all tokens.

    `logits [B, N, 2]`, `labels [B, N]` or `[B, rows, cols]` with 0 background, 1 foreground, -100 ignored. The mean is
    over the tokens not ignored; a batch without any gives zero, with gradients of zero. `fg_weight` weighs foreground
    tokens, beside 1 for background: the mean is then the weighted one.
    """
    labels = labels.flatten().long()
    weight = logits.new_tensor([1.0, fg_weight])
    total = F.cross_entropy(logits.flatten(0, 1), labels, weight, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / token_weight(labels, fg_weight).clamp(min=min(1.0, fg_weight))


def token_weight(labels: Tensor, fg_weight: float = 1.0) -> Tensor:
    """What `accumulative_cross_entropy` divides by: the tokens not ignored, foreground counted `fg_weight` times."""
    return ((labels == 0) + fg_weight * (labels == 1)).sum()


def save_bavit(model: VisionTransformer, path: str | Path, metadata: dict | None = None, bits: int = 16) -> Path:
    """Saves a BAViT as one safetensors file that tells its own depth and size; `metadata` (JSON values) goes along."""
    shape = {"depth": len(model.blocks), "img_size": model.patch_embed.img_size[0]}
    return save_weights(path, model.state_dict(), {**(metadata or {}), "model": "bavit", **shape}, bits)


def load_bavit(path: str | Path) -> VisionTransformer:
    """Loads what `save_bavit` wrote, in float32 and in evaluation mode.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one or another kind or shape of model.
    """
    state, metadata = read_weights(path, "bavit")
    depth, size = described(metadata, "depth", path, high=64), described(metadata, "img_size", path, PATCH_SIZE)
    model = create_bavit(depth, size)
    return fill_model(model, state, path).eval()
