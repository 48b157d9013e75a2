# SPDX-License-Identifier: Apache-2.0
"""From a picture in a file to the pixels that a model sees: one way for all, so that training and use agree.

A picture is stretched as a whole to the model's height and width, as an app that hands a camera frame to a model does:
nothing is cropped and nothing is padded. The resampling is bilinear, and when it shrinks it averages over the area that
a pixel covers (Pillow's BILINEAR), without which fine texture turns into noise.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# What Pillow raises for a file that is cut short, mislabelled or hostile; it has no common base class.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
               Image.DecompressionBombError)  # fmt: skip


def decode_image(file: Path | bytes) -> np.ndarray:
    """Decode a picture: upright as its EXIF orientation says, transparency laid on white, 16-bit grey scaled to 8.

    Args:
        file: A path, or the encoded bytes.

    Returns:
        [height, width, channels] uint8, of 1 channel if the picture is grey and of 3 if it is coloured.

    Raises:
        ValueError: It is no picture that Pillow reads; the message is the reason alone.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            picture.load()
            return _to_array(ImageOps.exif_transpose(picture))
    except _UNREADABLE as error:
        reason = "it is no picture of a known kind" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(" ".join(reason.split()).rstrip(".") or type(error).__name__) from error


def fit_image(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Bring pixels to a model's input shape: colour to grey by luma (ITU-R 601) or grey to colour, then stretched.

    Args:
        image: [height, width, 1 or 3] uint8.
        shape: The height, width and channels (1 or 3) to reach.

    Returns:
        [*shape] uint8; the argument itself where it has that shape already.
    """
    if image.shape == shape:
        return image
    height, width, channels = shape
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    if channels == 1:
        picture = picture.convert("L")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    if array.ndim == 2:
        array = np.repeat(array[:, :, np.newaxis], channels, axis=2)
    return array


def _to_array(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        # 16-bit grey; Pillow's own conversion to "L" would clip it instead of scaling it.
        wide = np.asarray(picture).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("its grey levels exceed 16 bits")
        return (wide >> 8).astype(np.uint8)[:, :, np.newaxis]
    if picture.mode == "F":
        raise ValueError("its grey levels are floating-point numbers")
    grey = picture.mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    array = np.asarray(picture.convert("L" if grey else "RGB"))
    return array[:, :, np.newaxis] if grey else array
