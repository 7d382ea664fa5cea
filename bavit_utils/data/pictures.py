"""Pictures from files and uploads: decoded once, upright, in RGB."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_EXIF_ORIENTATION = 0x0112
MAX_UPLOAD_MEGAPIXELS = 50
_UPLOAD_SIDE = 2048
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # no others: Pillow gives some to programs


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
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
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
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers, whose range isn't known: save it with 8 bits a channel")
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
        if Path(path).exists() and not Path(path).is_file():
            raise ValueError("it is no file")
        with Image.open(path, formats=_FORMATS) as image:
            return read(image)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: fetch or generate its data set again") from None
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise DataError(f"{path} is truncated or no picture ({error}): fetch or generate it again") from error
