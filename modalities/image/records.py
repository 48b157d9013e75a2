# SPDX-License-Identifier: Apache-2.0
"""Stores images as raw pixels of one shape, so that no epoch has to decode them, or packed as pictures.

Which of the two it is, `data.storage` says for all examples (data/example_records.py). What is read back are the same
pixels: a record with as many bytes as the shape has holds raw pixels, any other one a picture (packed_pixels.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from learn2compress.modalities.image.packed_pixels import pack_pixels, unpack_batch, unpack_pixels
from learn2compress.modalities.image.pixels import decode_image, fit_image

if TYPE_CHECKING:
    import tensorflow as tf


class ImageRecords:
    """Implements `Records` for images: raw and stored examples are [height, width, channels] uint8.

    Args:
        shape: Height, width and channels of every stored image.
    """

    feature = "image"

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.example_bytes = int(np.prod(shape))

    def read_file(self, path: Path) -> np.ndarray:
        """Decodes a picture; see `decode_image`."""
        return decode_image(path)

    def fit(self, raw: np.ndarray) -> np.ndarray:
        """Converts an image to the task's shape; see `fit_image`."""
        return np.ascontiguousarray(fit_image(raw, self.shape))

    def digest(self, example: np.ndarray) -> bytes:
        """Computes the SHA-256 of shape and pixels, of an image of any size."""
        return hashlib.sha256("x".join(map(str, example.shape)).encode() + b":" + example.tobytes()).digest()

    def split_key(self, raw: np.ndarray) -> bytes:
        """Returns the digest: only equal images are kept in the same split."""
        return self.digest(raw)

    def encode(self, stored: np.ndarray) -> bytes:
        """Encodes the pixels row by row."""
        return stored.tobytes()

    def pack(self, raw: np.ndarray, stored: np.ndarray, file: bytes | None) -> bytes:
        """Encodes the image as a picture, or as its pixels if they have no more bytes; see `pack_pixels`."""
        return pack_pixels(stored, file, raw.shape[0] * raw.shape[1])

    def decode(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Decodes images to [images, height, width, channels] uint8."""
        if all(len(one) == self.example_bytes for one in encoded):
            return np.frombuffer(b"".join(encoded), np.uint8).reshape(-1, *self.shape)
        return np.stack([unpack_pixels(one, self.shape) for one in encoded])

    def decode_tensor(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes images to [images, height, width, channels] uint8, packed ones in several threads."""
        import tensorflow as tf

        def unpack() -> tf.Tensor:
            pixels = tf.numpy_function(lambda batch: unpack_batch(batch, self.shape), [encoded], tf.uint8)
            return tf.ensure_shape(pixels, [None, *self.shape])

        # TensorFlow's own decoders differ between its versions, and its resizing differs from Pillow's.
        return tf.cond(
            tf.reduce_all(tf.strings.length(encoded) == self.example_bytes),
            lambda: tf.reshape(tf.io.decode_raw(encoded, tf.uint8), [-1, *self.shape]),
            unpack,
        )

    def statistics(self, raw: np.ndarray, stored: np.ndarray) -> dict[str, int | float]:
        """Measures the size of the source's picture, and the mean of the stored pixels from 0 to 1."""
        return {
            "original_height": raw.shape[0],
            "original_width": raw.shape[1],
            "brightness": float(stored.mean()) / 255,
        }
