# SPDX-License-Identifier: Apache-2.0
"""Stores an image in few bytes, from which each reader decodes the same pixels.

An image is stored as the bytes of its source if that is a JPEG, or as lossless WebP of the resized pixels, whichever
has fewer bytes. Two bounds keep reading cheap and exact: a source with more than 16 times the pixels of the stored
image is not kept, since each reading would decode all of them, and none is kept where Pillow's JPEG decoder does not
give the reference's pixels. An image that would not become smaller is stored as raw pixels; for that reason its length
alone tells the two forms apart.

All readers, with and without TensorFlow, decode and resize with Pillow as the ingestion does. Its wheels bundle
libjpeg-turbo, whose default (accurate integer) inverse DCT and upsampling are exact on every processor; both sets of
pinned requirements have the same version. `tf.io.decode_jpeg` defaults to another DCT, and `tf.image.resize` resamples
in another way.
"""

import base64
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import PIL
from PIL import Image

from learn2compress.modalities.image.pixels import decode_image, fit_image
from learn2compress.schemas.errors import DataError

SOURCE_PIXELS = 16
"""A source has at most this many times the pixels of the stored image, or it is not kept."""
_JPEG, _WEBP = b"\xff\xd8\xff", b"RIFF"
_MOST_WEBP_SIDE = 16383
# Below this fraction of the raw pixels, no photograph is smaller as lossless WebP.
_SMALL_FRACTION = 0.25
_MOST_THREADS = 16

# A baseline JPEG of 24 x 16 pixels with halved chroma (4:2:0), and the SHA-256 of its pixels.
_PROBE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYV"
    "pQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAQ"
    "ABgDASIAAhEBAxEB/8QAGAAAAwEBAAAAAAAAAAAAAAAAAAMFBAb/xAAfEAACAgMAAgMAAAAAAAAAAAABAgADBAURBhITIjL/xAAXAQADAQAAAA"
    "AAAAAAAAAAAAAAAgME/8QAIREAAgEDAwUAAAAAAAAAAAAAAQMCAAQRBSIjMTJRYYH/2gAMAwEAAhEDEQA/AH37xypQVH7SXZSrsXZgPadFt8Ov"
    "AX8g9kBsFs+ux1cr6iAuYLBbKOCO37WoPhBHMzr6rfqtGmYCVtB5CL8M+Sqy5Gcnh5CRudUZZsKpnBpWao/O3cPNf//Z"
)
_PROBE_SHA256 = "a215c20c6cf5a00d56771612dac209f9c3f12951dc07f5ce03a5df96d57d3017"


def pack_pixels(stored: np.ndarray, source: bytes | None, source_pixels: int) -> bytes:
    """Writes an image as the smallest of: JPEG bytes of its source, lossless WebP, raw pixels.

    Args:
        stored: [height, width, 1 or 3] uint8, which `fit_image` made of the decoded source.
        source: Bytes of the source's file, or None.
        source_pixels: Number of pixels of the source.
    """
    raw, height, width = stored.tobytes(), *stored.shape[:2]
    best = raw
    if (
        source is not None
        and source.startswith(_JPEG)
        and len(source) < len(raw)
        and source_pixels <= SOURCE_PIXELS * height * width
        and decoder_is_exact()
    ):
        best = source
    if len(best) > _SMALL_FRACTION * len(raw) and max(height, width) <= _MOST_WEBP_SIDE:
        lossless = _to_webp(stored)
        best = lossless if len(lossless) < len(best) else best
    return best


def unpack_pixels(packed: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads the image back, [*shape] uint8.

    Args:
        packed: Bytes that `pack_pixels` wrote, or raw pixels.
        shape: Height, width and channels.

    Raises:
        DataError: The decoder is not exact, or the bytes are none of an image.
    """
    if len(packed) == int(np.prod(shape)):
        return np.frombuffer(packed, np.uint8).reshape(shape)
    if packed.startswith(_JPEG) and not decoder_is_exact():
        raise DataError(
            f"the JPEG decoder must give the pixels with which the examples were stored; got others from Pillow "
            f"{PIL.__version__}. Install Pillow's own wheel, or run again with data.storage: raw."
        )
    try:
        if packed.startswith(_WEBP):
            with Image.open(io.BytesIO(packed), formats=["WEBP"]) as picture:
                return np.asarray(picture.convert("RGB"))[:, :, : shape[2]].reshape(shape)
        return fit_image(decode_image(packed), shape)
    except (ValueError, OSError) as error:
        raise DataError(
            f"a stored image must be {'x'.join(map(str, shape))} pixels, a JPEG or a WebP file; got {len(packed):,} "
            f"bytes that are none ({error}). Run again with another output folder."
        ) from error


def unpack_batch(packed: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a batch of images, [images, *shape] uint8, in several threads: Pillow decodes without Python's lock.

    Args:
        packed: [images] objects of bytes.
        shape: Height, width and channels of every image.
    """
    batch = np.empty((len(packed), *shape), np.uint8)

    def unpack(index: int) -> None:
        batch[index] = unpack_pixels(packed[index], shape)

    list(_threads(os.getpid()).map(unpack, range(len(packed))))
    return batch


@cache
def decoder_is_exact() -> bool:
    """Returns whether Pillow's JPEG decoder gives the pixels of the reference."""
    return hashlib.sha256(decode_image(base64.b64decode("".join(_PROBE))).tobytes()).hexdigest() == _PROBE_SHA256


def _to_webp(pixels: np.ndarray) -> bytes:
    colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    stream = io.BytesIO()
    # The fastest method: others take ten times as long for a tenth of the bytes.
    Image.fromarray(colour).save(stream, "WEBP", lossless=True, method=0)
    return stream.getvalue()


@cache
def _threads(process: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """Makes the threads of a process; those of its parent are not there after a fork."""
    return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "decode")
