# SPDX-License-Identifier: Apache-2.0
"""Cuts each student out of nested dictionaries: the first rows and columns of the table, as layers of its own.

    ids [length] ── Embedding ── mean over the ids ── Dense ── logits
                    GATHER       MEAN                FULLY_CONNECTED

The mean is the sum that the student was trained with, divided by the number of ids; the kernel is multiplied by it.
"""

import numpy as np
import tf_keras as keras


def cut_student(name: str, length: int, table: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> keras.Model:
    """Copy a student out of the family.

    Args:
        name: Name of the student.
        length: Number of ids of a text.
        table: Its rows and columns of the family's table, [rows + 1, columns] float32.
        kernel: Its kernel, [columns, classes] float32.
        bias: Its bias, [classes] float32.

    Returns:
        A model from ids [batch, length] int32 to logits [batch, classes] float32.
    """
    table = table.copy()
    table[0] = 0
    ids = keras.Input((length,), dtype="int32", name="ids")
    words = keras.layers.Embedding(*table.shape, name=f"{name}_table")
    logits = keras.layers.Dense(kernel.shape[1], name=f"{name}_logits")
    student = keras.Model(ids, logits(keras.layers.GlobalAveragePooling1D(name=f"{name}_mean")(words(ids))), name=name)
    words.set_weights([table])
    logits.set_weights([kernel * length, bias])
    return student
