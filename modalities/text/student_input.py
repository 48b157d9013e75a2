# SPDX-License-Identifier: Apache-2.0
"""Describes the input of students of texts: the ids of words, of which an app fills in the same numbers.

A dictionary belongs to the students, so stored texts become ids where the students are known (`TrainingData.lookup`);
from there on the examples of this input are ids.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.schemas.scaling import Scaling


class TextStudentInput:
    """Implements `StudentInput` for texts, of which the examples are ids.

    Args:
        rows: Number of entries of the student, of which the ids of a larger dictionary are taken as unknown; None: all
            ids are its own.
    """

    def __init__(self, rows: int | None = None) -> None:
        self._rows = rows

    name = "ids"
    few_operations = True
    normalization = Scaling.named("none")

    def spec(self, shape: tuple[int, ...]) -> tf.TensorSpec:
        """Returns [batch, length] int32."""
        return tf.TensorSpec([None, *shape], tf.int32)

    def fit(self, batch: Any, shape: tuple[int, ...]) -> tf.Tensor:  # noqa: ARG002
        """Returns the ids themselves: all students of texts take the same number."""
        return batch

    def normalize(self, batch: Any) -> tf.Tensor:
        """Converts ids to int32."""
        return tf.cast(batch, tf.int32)

    def of_student(self, student: keras.Model) -> "TextStudentInput":
        """Returns the input of a student that was cut out of its family."""
        tables = [layer for layer in student.layers if isinstance(layer, keras.layers.Embedding)]
        return TextStudentInput(tables[0].input_dim - 1) if tables else self

    def app_input(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Makes an input of ids, which is also the student's input."""
        ids = keras.Input(shape, dtype="int32", name=self.name)
        return ids, ids

    def extremes(self, shape: tuple[int, ...]) -> list[np.ndarray]:  # noqa: ARG002
        """Returns no examples, since ids have no range that is measured."""
        return []

    def representative(self, shape: tuple[int, ...], examples: Sequence[np.ndarray]) -> Iterator[np.ndarray]:  # noqa: ARG002
        """Yields the ids of texts as [1, length] int32."""
        for example in examples:
            ids = np.asarray(example, np.int32)[None]
            yield ids if self._rows is None else np.where(ids > self._rows, 0, ids)
