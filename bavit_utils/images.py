"""Pictures: decode, resize, normalise. A picture is decoded once and resized to as many sizes as needed."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .config import PATCH_SIZE

# (mean, std) per RGB channel, for values in 0..1: BAViT's and our own detectors' (timm's ViT-tiny), and hub YOLOS's.
BAVIT_NORM = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET_NORM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NORMS = {"bavit": BAVIT_NORM, "imagenet": IMAGENET_NORM}
_EXIF_ORIENTATION = 0x0112
MAX_UPLOAD_MEGAPIXELS = 50
_UPLOAD_SIDE = 2048


class DataError(ValueError):
    """A picture, mask or annotation that can't be used; the message names the file and the remedy."""


def load_image(path: str | Path) -> np.ndarray:
    """Decode a picture, turned the way its EXIF orientation says: uint8 [H, W, 3], RGB.

    Raises DataError for a file that is missing, truncated or no picture; a truncated one is never half decoded.
    """
    return _open(path, _upright_rgb)


def decode_upload(content: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a file that a person chose, as `load_image` does: uint8 [H, W, 3], RGB.

    A longer side above 2048 pixels is brought down to that, which is more than any network here sees. Raises DataError,
    with the file's `name`, for no picture, a truncated one, and one of more than `MAX_UPLOAD_MEGAPIXELS`, which is
    never decoded.
    """
    too_large = DataError(f"{name} has more than {MAX_UPLOAD_MEGAPIXELS} megapixels: choose a smaller copy of it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                if np.prod(image.size, dtype=float) > MAX_UPLOAD_MEGAPIXELS * 1e6:
                    raise too_large
                decoded = Image.fromarray(_upright_rgb(image))
                decoded.thumbnail((_UPLOAD_SIDE, _UPLOAD_SIDE))
                return np.array(decoded)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large from None
    except DataError:
        raise
    except Exception as error:  # as in `_open`
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise DataError(f"{name} is truncated or no picture{reason}: choose a JPEG or PNG file") from error


def _upright_rgb(image: Image.Image) -> np.ndarray:
    """Turned by EXIF, the first of several frames; what is transparent lies on white, 16 bits of grey become 8."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def load_class_mask(path: str | Path) -> np.ndarray:
    """Decode a picture whose single channel (grey or palette) holds class indices: uint8 [H, W].

    Raises DataError as `load_image` does, and for a picture of several channels.
    """
    mask = _open(path, np.array)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DataError(f"{path} is no class mask: it needs one 8-bit channel of class indices; fetch it again")
    return mask


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) in pixels of what `load_image` would return, from the header. Raises DataError as it does."""
    width, height, orientation = _open(path, lambda image: (*image.size, image.getexif().get(_EXIF_ORIENTATION, 1)))
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _open(path: str | Path, read):
    """`read(image)` on the opened picture, with every failure turned into a DataError."""
    try:
        with Image.open(path) as image:
            return read(image)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: fetch or generate its data set again") from None
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise DataError(f"{path} is truncated or no picture ({error}): fetch or generate it again") from error


def keep_aspect_size(image_size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """(height, width) of a picture whose shorter side becomes `shorter_side` pixels, with its aspect kept.

    The longer side is at most 1333/800 of that, 853 for 512, as in the evaluation behind the published YOLOS-tiny's
    28.7 AP. Both sides are then lowered to a multiple of the patch size, as transformers' YolosImageProcessor does:
    resized to this size, the whole picture is seen, nothing is cropped or padded, and its aspect changes by less than
    a patch.
    """
    shorter, longer = min(image_size), max(image_size)
    scale = min(shorter_side / shorter, shorter_side * 1333 // 800 / longer)
    # To whole pixels first; 1e-6 is for sides that meet their length but for rounding.
    sides = (round(side * scale) if side == shorter else int(side * scale + 1e-6) for side in image_size)
    height, width = (max(side // PATCH_SIZE, 1) * PATCH_SIZE for side in sides)
    return height, width


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
    if normalise not in _NORMS:
        raise ValueError(f"unknown normalisation {normalise!r}: choose one of {', '.join(_NORMS)}")
    if not len(images):
        raise ValueError("a batch needs at least one picture")
    batch = torch.from_numpy(np.stack([warp(image, img_size) for image in images]))
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in _NORMS[normalise])
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
    """A batch [B, 3, height, width] of mean = std = 0.5, normalised in `to_batch`'s words: hub YOLOS wants ImageNet's."""
    if normalise == "bavit":
        return pixels
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in _NORMS[normalise])
    return (0.5 * pixels + 0.5 - mean) / std
