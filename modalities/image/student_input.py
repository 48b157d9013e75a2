# SPDX-License-Identifier: Apache-2.0
"""What students take of images: pixels normalized to [-1, 1].

That normalization is also what an 8-bit input tensor means by itself (scale 1/127.5), so that an int8 student needs no
operator for it; a float file normalizes inside.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.schemas.scaling import Scaling


class ImageStudentInput:
    """Implements `StudentInput` for images: stored examples are uint8, an app's input is floats 0..255."""

    name = "image"
    normalization = Scaling.named("symmetric")

    def spec(self, shape: tuple[int, ...]) -> tf.TensorSpec:
        """Returns [batch, height, width, channels] uint8."""
        return tf.TensorSpec([None, *shape], tf.uint8)

    def normalize(self, batch: Any) -> tf.Tensor:
        """Turns pixels 0..255 of any dtype into float32 in [-1, 1]."""
        return (tf.cast(batch, tf.float32) - self.normalization.mean[0]) / self.normalization.std[0]

    def app_input(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Makes an input of floats 0..255, and a Rescaling layer behind it."""
        image = keras.Input(shape, name=self.name)
        scale = 1 / self.normalization.std[0]
        return image, keras.layers.Rescaling(scale, -self.normalization.mean[0] * scale, name="normalize")(image)

    def extremes(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Makes a black and a white image."""
        return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)]

    def representative(self, shape: tuple[int, ...], examples: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields images as [1, height, width, channels] float32.

        The two extremes make the input's range exactly [-1, 1], so that pixels enter as they are.
        """
        mean, std = self.normalization.mean[0], self.normalization.std[0]
        for image in (*self.extremes(shape), *examples):
            yield (image[None].astype(np.float32) - mean) / std
