# SPDX-License-Identifier: Apache-2.0
"""Normalizes images for students: pixels in [-1, 1].

An 8-bit input tensor with scale 1/127.5 has the same meaning, so that an int8 student needs no operator for the
normalization; a float file contains one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.schemas.scaling import Scaling


class ImageStudentInput:
    """Implements `StudentInput` for images: stored examples are uint8, and an app passes floats 0..255."""

    name = "image"
    normalization = Scaling.named("symmetric")
    few_operations = False

    def spec(self, shape: tuple[int, ...]) -> tf.TensorSpec:
        """Returns [batch, height, width, channels] uint8."""
        return tf.TensorSpec([None, *shape], tf.uint8)

    def fit(self, batch: Any, shape: tuple[int, ...]) -> tf.Tensor:
        """Resizes images to a student's height and width: bilinear, averaged over the area of a pixel, in uint8."""
        if tuple(batch.shape[1:3]) == tuple(shape[:2]):
            return batch
        resized = tf.image.resize(batch, shape[:2], antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)

    def normalize(self, batch: Any) -> tf.Tensor:
        """Converts pixels 0..255 of any dtype to float32 in [-1, 1]."""
        return (tf.cast(batch, tf.float32) - self.normalization.mean[0]) / self.normalization.std[0]

    def of_student(self, student: Any) -> "ImageStudentInput":  # noqa: ARG002
        """Returns the same, since all students take the same images."""
        return self

    def app_input(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Makes an input of floats 0..255, and the output of a Rescaling layer on it."""
        image = keras.Input(shape, name=self.name)
        scale = 1 / self.normalization.std[0]
        return image, keras.layers.Rescaling(scale, -self.normalization.mean[0] * scale, name="normalize")(image)

    def extremes(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Makes a black and a white image."""
        return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)]

    def representative(self, shape: tuple[int, ...], examples: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields images as [1, height, width, channels] float32.

        With the two extremes the range of the input is exactly [-1, 1], so that 8-bit pixels are represented exactly.
        """
        mean, std = self.normalization.mean[0], self.normalization.std[0]
        for image in (*self.extremes(shape), *examples):
            yield (image[None].astype(np.float32) - mean) / std
