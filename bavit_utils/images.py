"""Decoded pictures on their way into a network: warped to the square, normalised, in batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# (mean, std) per RGB channel, for values in 0..1: BAViT's and our own detectors' (timm's ViT-tiny), and hub YOLOS's.
BAVIT_NORM = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET_NORM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMS = {"bavit": BAVIT_NORM, "imagenet": IMAGENET_NORM}


def warp(image: np.ndarray, img_size: int | tuple[int, int]) -> np.ndarray:
    """Resize a picture uint8 [H, W, 3], bilinear with antialiasing, to (height, width) or the square of a side.

    The picture fills the new size whatever its aspect ratio was, so a grid on it divides the original picture into
    equal rectangles. Pillow works in integers here: the same bytes on every machine.
    """
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def to_batch(images: Sequence[np.ndarray], img_size: int | tuple[int, int], normalise: str = "bavit") -> Tensor:
    """Warp decoded pictures (uint8 [H, W, 3], any sizes) and normalise them: float32 [B, 3, height, width].

    `img_size` is (height, width) or the side of a square, `normalise` is "bavit" (mean = std = 0.5) or "imagenet".
    Raises ValueError for another one and for an empty list.
    """
    if normalise not in NORMS:
        raise ValueError(f"unknown normalisation {normalise!r}: choose one of {', '.join(NORMS)}")
    if not len(images):
        raise ValueError("a batch needs at least one picture")
    batch = torch.from_numpy(np.stack([warp(image, img_size) for image in images]))
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in NORMS[normalise])
    return batch.permute(0, 3, 1, 2).contiguous().float().sub_(mean).div_(std)


def in_batches(
    function: Callable[[Tensor], Tensor],
    images: Sequence[np.ndarray],
    img_size: int | tuple[int, int],
    normalise: str = "bavit",
    batch_size: int = 32,
) -> Tensor:
    """`function` of all decoded pictures, a batch of `to_batch` at a time, its results put together again."""
    starts = range(0, len(images), batch_size)
    return torch.cat([function(to_batch(images[i : i + batch_size], img_size, normalise)) for i in starts])


def renormalise(pixels: Tensor, normalise: str) -> Tensor:
    """A batch [B, 3, height, width] of mean = std = 0.5, normalised as `to_batch` says: hub YOLOS wants ImageNet's."""
    if normalise == "bavit":
        return pixels
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in NORMS[normalise])
    return (0.5 * pixels + 0.5 - mean) / std
