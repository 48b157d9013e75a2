# SPDX-License-Identifier: Apache-2.0
"""Decodes pictures and resizes them to a model's input, in the same way for training, evaluation and apps.

The whole picture is stretched to the model's height and width, as apps do with a camera frame: nothing is cropped or
padded. Resampling is bilinear; when a picture is reduced, it averages over the area of each pixel (Pillow's BILINEAR),
which avoids aliasing.
"""

import importlib
import importlib.util
import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from learn2compress.schemas.config import DataConfig

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
HEIC_SUFFIXES = (".heic", ".heif")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
# Formats of Pillow that it decodes itself, whatever a file is named. Others run a program: EPS runs Ghostscript.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF", "HEIF")
# Pictures that cannot be decoded here, by what their names end in; anything else is no picture.
OTHER_PICTURES = (*HEIC_SUFFIXES, ".avif", ".jxl", ".jp2", ".svg", ".psd", ".raw", ".dng", ".cr2", ".nef", ".arw")

# Exceptions of Pillow for truncated, mislabelled or malicious files; they have no common base class.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
               Image.DecompressionBombError)  # fmt: skip


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Returns what the names of pictures that can be decoded end in: with HEIC where pillow-heif is installed."""
    if importlib.util.find_spec("pillow_heif") is None:
        return SUFFIXES
    importlib.import_module("pillow_heif").register_heif_opener()
    return (*SUFFIXES, *HEIC_SUFFIXES)


MOST_PIXELS: int = DataConfig.model_fields["max_pixels"].default
"""Pixels of the largest picture that is decoded where there is no configuration."""
# Larger files are not kept in memory while their pictures are decoded.
_MOST_FILE_BYTES = 8 << 20
# Modes whose conversion takes several times the memory of the picture.
_COSTLY = {"I": 3, "I;16": 3, "I;16B": 3, "I;16L": 3, "RGBA": 2, "LA": 2, "PA": 2, "La": 2, "P": 2}


def decode_image(file: Path | bytes, max_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Decode a picture: rotated by its EXIF orientation, transparency on white, 16-bit grey scaled to 8 bits.

    Of several frames or pages, the first is taken.

    Args:
        file: Path, or the encoded bytes.
        max_pixels: Pixels that a picture may declare, see `data.max_pixels`.

    Returns:
        [height, width, channels] uint8, with 1 channel if the picture is grey, otherwise 3.

    Raises:
        ValueError: Pillow cannot read it; the message is the reason only.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_formats()) as picture:
            _check_size(picture, max_pixels)
            picture.load()
            return _to_array(ImageOps.exif_transpose(picture))
    except _UNREADABLE as error:
        reason = _unidentified(file) if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(" ".join(reason.split()).rstrip(".") or type(error).__name__) from error


def read_picture(path: Path, max_pixels: int = MOST_PIXELS) -> tuple[np.ndarray, bytes | None]:
    """Read and decode a picture; see `decode_image`.

    Returns:
        The pixels, and the bytes of the file from which they were decoded; None instead of very many bytes.

    Raises:
        ValueError: It cannot be read; the message is the reason only.
    """
    try:
        file = path.read_bytes() if path.stat().st_size <= _MOST_FILE_BYTES else None
    except OSError as error:
        raise ValueError(str(error)) from error
    return decode_image(path if file is None else file, max_pixels), file


def _unidentified(file: Path | bytes) -> str:
    head = file[:12] if isinstance(file, bytes) else file.read_bytes()[:12]
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "it is HEIC: install pillow-heif to read it, or convert it to JPEG"
    return "it is no picture of a known kind"


@cache
def _formats() -> list[str]:
    """Return the accepted formats that are installed."""
    readable_suffixes()  # registers HEIC with Pillow, in each process that decodes
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_size(picture: Image.Image, max_pixels: int) -> None:
    """Refuse a picture by its declared size, before it is decoded."""
    most = max_pixels // _COSTLY.get(picture.mode, 1)
    if picture.width * picture.height > most:
        raise ValueError(f"it declares {picture.width:,} x {picture.height:,} pixels, more than {most:,} in all")


def fit_image(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Convert an image to a model's input shape: colour to grey by luma (ITU-R 601) or grey to colour, then resized.

    Args:
        image: [height, width, 1 or 3] uint8.
        shape: Target height, width and channels (1 or 3).

    Returns:
        [*shape] uint8; the argument itself if it already has that shape.
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
