# SPDX-License-Identifier: Apache-2.0
"""Computes the gradients of a batch in parts, one after the other, so that only one part's activations are in memory.

The mean over equal parts is that of the batch, as long as no layer looks at the whole batch.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras as keras

Gradients = tuple[tf.Tensor, list[tf.Tensor | None]]
_KNOWN = ("tf_keras", "tensorflow_model_optimization", "learn2compress")  # packages of layers that are understood
PART_PIXELS = 1 << 19  # of a part of a batch; activations take about a kilobyte for each of them


def parts_of(batch_size: int, input_shape: Sequence[int]) -> int:
    """Compute the number of equal parts of a batch, a power of two, so that each has at most `PART_PIXELS` pixels.

    Args:
        batch_size: Examples in a batch.
        input_shape: Shape of an example; the result is 1 unless it is (height, width, channels).
    """
    parts = 1
    if len(input_shape) == 3:
        pixels = batch_size * input_shape[0] * input_shape[1]
        while pixels > parts * PART_PIXELS and batch_size % (2 * parts) == 0:
            parts *= 2
    return parts


def looks_at_whole_batches(model: keras.Model) -> bool:
    """Tell whether a layer of a model may use the whole batch: batch normalization that is trained, or a user's own."""
    layers = [layer for layer in model.submodules if isinstance(layer, keras.layers.Layer)]
    return any(
        (isinstance(layer, keras.layers.BatchNormalization) and layer.trainable)
        or type(layer).__module__.partition(".")[0] not in _KNOWN
        for layer in layers
    )


def mean_of_parts(compute: Callable[..., Gradients], batch: Sequence[tf.Tensor], parts: int) -> Gradients:
    """Compute mean losses and gradients of a batch, each part after the one before; to be called in a graph.

    Args:
        compute: Function from the tensors of a part to its mean losses and their gradients; None stands for a variable
            without a gradient.
        batch: Tensors of the batch, [batch, …].
        parts: Number of parts, which divides the batch.
    """
    if parts == 1:
        return compute(*batch)
    total: Gradients | None = None
    for part in zip(*(tf.split(tensor, parts) for tensor in batch), strict=True):
        with tf.control_dependencies([] if total is None else tf.nest.flatten(_present(total))):
            losses, gradients = compute(*part)
            if total is not None:
                losses += total[0]
                gradients = [_sum(ours, theirs) for ours, theirs in zip(gradients, total[1], strict=True)]
            total = losses, gradients
    assert total is not None  # there are parts
    return total[0] / parts, [None if one is None else one / parts for one in total[1]]


def _present(total: Gradients) -> list[tf.Tensor]:
    return [total[0], *(gradient for gradient in total[1] if gradient is not None)]


def _sum(one: tf.Tensor | None, other: tf.Tensor | None) -> tf.Tensor | None:
    return None if one is None or other is None else one + other
