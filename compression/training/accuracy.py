# SPDX-License-Identifier: Apache-2.0
"""Measures the top-1 accuracy of each student of a family."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.modalities.protocol import StudentInput


def family_accuracy(
    family: keras.Model, names: Sequence[str], batches: tf.data.Dataset, inputs: StudentInput
) -> dict[str, float]:
    """Measure the top-1 accuracy of each student of a family on one device.

    Args:
        family: Model with an output of logits [batch, classes] for each student.
        names: The students, in the order of the outputs.
        batches: Batches of (stored examples, labels [b] int64).
        inputs: Conversion of stored examples to the input of the students.

    Returns:
        Top-1 accuracy in [0, 1] by student.
    """

    def predict(examples: tf.Tensor) -> list[tf.Tensor]:
        outputs = family(inputs.normalize(examples), training=False)
        return list(outputs) if isinstance(outputs, list | tuple) else [outputs]

    signature = [inputs.spec(family.input_shape[1:])]
    return top1_accuracy(tf.function(predict, autograph=False, input_signature=signature), names, batches)


def top1_accuracy(predict: Callable, names: Sequence[str], batches: tf.data.Dataset) -> dict[str, float]:
    """Measure the top-1 accuracy of each student by a function that runs inference.

    Args:
        predict: Function from stored examples to a list of logits [b, classes], one for each student.
        names: The students, in the order of the outputs.
        batches: Batches of (stored examples, labels [b] int64).

    Returns:
        Top-1 accuracy in [0, 1] by student.
    """
    correct, images = np.zeros(len(names)), 0
    for batch, labels in batches:
        for index, logits in enumerate(predict(batch)):
            correct[index] += int(np.sum(np.argmax(logits.numpy(), -1) == labels.numpy()))
        images += len(labels)
    return dict(zip(names, (correct / max(1, images)).tolist(), strict=True))
