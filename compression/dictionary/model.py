# SPDX-License-Identifier: Apache-2.0
"""Builds nested dictionaries as one Keras model with one output per student.

    ids ── table ── sum of the first N_1 rows' words ── first d_1 columns ── logits of `small`
                 ├─ sum of the first N_2 rows' words ── first d_2 columns ── logits of `medium`
                 └─ sum of all words ───────────────── all columns ──────── logits of `large`

The table is gathered once, and the words of all students are summed by one matrix product. The kernels of all students
are one variable, and their logits one matrix product, so that further students cost almost nothing: a step of models
this small takes the time of its operations, not of their arithmetic.

A text of the file is the mean over all L ids, of which unknown and missing ones are a zero row: that is the sum of its
words, divided by a constant, which the logits' kernel makes up for. (A mean over the words that are there would need
operators without an 8-bit form.) While training, words are left out at random, so that no word relies on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.dictionary.cutting import cut_student
from learn2compress.compression.dictionary.spec import DictionarySpec

TABLE, LOGITS = "dictionary", "logits"
_INITIAL_WORD = 0.05  # standard deviation of the initial table


@keras.saving.register_keras_serializable("learn2compress")
class NestedDictionary(keras.layers.Layer):
    """Sums the rows of each student's words.

    Args:
        rows: Number of rows of each student, ascending, without row 0.
        columns: Number of columns of each student.
        drop: Fraction of the words that are left out while training.
        seed: Seed of the initial table.
    """

    def __init__(
        self, rows: Sequence[int], columns: Sequence[int], drop: float, seed: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.rows, self.columns, self.drop, self.seed = tuple(rows), tuple(columns), drop, seed
        self.dropout = keras.layers.Dropout(drop, name="words") if drop else None

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create the table, [rows + 1, columns]; row 0 is that of padding and unknown words, and is not used."""
        self.table = self.add_weight(
            "embeddings",
            (self.rows[-1] + 1, max(self.columns)),
            initializer=keras.initializers.RandomNormal(stddev=_INITIAL_WORD, seed=self.seed),
        )
        super().build(input_shape)

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the sums.

        Args:
            ids: [batch, length] int32.
            training: Whether words are left out.

        Returns:
            [batch, students, columns] float32; columns that a student does not have are 0.
        """
        each = ids[:, tf.newaxis]
        known = tf.cast(each > 0, tf.float32)
        if self.dropout is not None:
            known = self.dropout(known, training=training)
        own = tf.where(each <= tf.constant(self.rows, ids.dtype)[:, tf.newaxis], known, 0.0)
        sums = tf.matmul(own, tf.gather(self.table, ids))
        if len(set(self.columns)) > 1:
            sums *= tf.sequence_mask(self.columns, max(self.columns), tf.float32)
        return sums

    def cut_students(self, family: keras.Model, names: Sequence[str]) -> dict[str, keras.Model]:
        """Copy each student out of the family that this layer belongs to; see `family.model.cut_students`."""
        table = self.table.numpy()
        logits = family.get_layer(LOGITS)
        return {
            name: cut_student(name, family.input_shape[1], table[: rows + 1, :columns], *logits.of_student(index))
            for index, (name, rows, columns) in enumerate(zip(names, self.rows, self.columns, strict=True))
        }

    def select_students(self, family: keras.Model, names: Sequence[str], chosen: Sequence[str]) -> keras.Model:
        """Copy some students of the family that this layer belongs to into a family of their own.

        Args:
            family: The family.
            names: Names of its students, in the order of the outputs.
            chosen: Names of the students to copy, in the same order.
        """
        shapes = [shape for shape in zip(names, self.rows, self.columns, strict=True) if shape[0] in chosen]
        alone = assemble(shapes, family.input_shape[1], family.outputs[0].shape[-1], self.drop, self.seed or 0)
        nested = alone.get_layer(TABLE)
        nested.table.assign(self.table[: nested.rows[-1] + 1, : max(nested.columns)])
        indices = [names.index(name) for name in chosen]
        kernels, biases = family.get_layer(LOGITS).get_weights()
        alone.get_layer(LOGITS).set_weights([kernels[indices, : max(nested.columns)], biases[indices]])
        return alone

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        own = {"rows": self.rows, "columns": self.columns, "drop": self.drop, "seed": self.seed}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("learn2compress")
class NestedLogits(keras.layers.Layer):
    """Computes the logits of each student from its sums.

    Args:
        columns: Number of columns of each student.
        classes: Number of classes.
        seed: Seed of the initial kernels.
    """

    def __init__(self, columns: Sequence[int], classes: int, seed: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.columns, self.classes, self.seed = tuple(columns), classes, seed

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create the kernels, [students, columns, classes], and the biases."""
        students, width = len(self.columns), max(self.columns)
        self.kernel = self.add_weight("kernel", (students, width, self.classes), initializer=self._initial_kernels)
        self.bias = self.add_weight("bias", (students, self.classes), initializer="zeros")
        super().build(input_shape)

    def call(self, sums: tf.Tensor) -> list[tf.Tensor]:
        """Compute one [batch, classes] float32 per student from [batch, students, columns] float32."""
        students, width = len(self.columns), max(self.columns)
        # One product with a block-diagonal matrix takes less time than transposing the sums of the students.
        own = tf.eye(students)[:, tf.newaxis, :, tf.newaxis]
        blocks = tf.reshape(self.kernel[:, :, tf.newaxis] * own, (students * width, students * self.classes))
        logits = tf.matmul(tf.reshape(sums, (-1, students * width)), blocks) + tf.reshape(self.bias, (-1,))
        return tf.unstack(tf.reshape(logits, (-1, students, self.classes)), axis=1)

    def of_student(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel [columns, classes] and the bias [classes] of a student."""
        return self.kernel[index, : self.columns[index]].numpy(), self.bias[index].numpy()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "columns": self.columns, "classes": self.classes, "seed": self.seed}

    def _initial_kernels(self, shape: Sequence[int], dtype: tf.DType | None = None, **_: Any) -> tf.Tensor:
        """Make each student's kernel from a seed of its own, as wide as its columns."""
        kernels = []
        for index, columns in enumerate(self.columns):
            initial = keras.initializers.GlorotUniform(None if self.seed is None else self.seed + index)
            kernels.append(tf.pad(initial((columns, self.classes), dtype), ((0, shape[1] - columns), (0, 0))))
        return tf.stack(kernels)


def build_dictionaries(spec: DictionarySpec, drop: float, seed: int = 0) -> keras.Model:
    """Build the joint model.

    Args:
        spec: Rows and columns of each student.
        drop: Fraction of the words that are left out while training.
        seed: Seed of the initial weights; equal seeds give equal weights.

    Returns:
        A functional model with input [batch, length] int32 and one output of logits [batch, classes] float32 per
        student, smallest first.
    """
    shapes = [(student.name, student.rows, student.columns) for student in spec.students]
    return assemble(shapes, spec.length, spec.classes, drop, seed)


def assemble(shapes: Sequence[tuple[str, int, int]], length: int, classes: int, drop: float, seed: int) -> keras.Model:
    """Build the joint model from the name, the rows and the columns of each student; see `build_dictionaries`."""
    _, rows, columns = zip(*shapes, strict=True)
    ids = keras.Input((length,), dtype="int32", name="ids")
    sums = NestedDictionary(rows, columns, drop, seed, name=TABLE)(ids)
    outputs = NestedLogits(columns, classes, seed + 1, name=LOGITS)(sums)
    return keras.Model(ids, outputs, name="family")


def start_at(family: keras.Model, logits: np.ndarray) -> None:
    """Assign the table and the kernels so that each word adds about the given logits, in all students.

    The columns are the directions in which the logits vary most; with one column less than there are classes they
    are all of them.

    Args:
        family: Model of `build_dictionaries`.
        logits: Logits of each row but row 0, [rows, classes], with a mean of 0 over the classes.
    """
    nested, layer = family.get_layer(TABLE), family.get_layer(LOGITS)
    _, directions = np.linalg.eigh(logits.T @ logits)
    kernel = directions[:, ::-1].T[: max(nested.columns)]
    kernels = np.zeros(layer.kernel.shape)
    for index, columns in enumerate(nested.columns):
        kernels[index, :columns, :] = kernel[:columns]
    nested.table.assign(np.concatenate([np.zeros((1, len(kernel))), logits @ kernel.T]))
    layer.kernel.assign(kernels)


def nested_layer(family: keras.Model) -> NestedDictionary | None:
    """Return the table of a family of `build_dictionaries`; None for another model."""
    return next((layer for layer in family.layers if isinstance(layer, NestedDictionary)), None)
