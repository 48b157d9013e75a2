# SPDX-License-Identifier: Apache-2.0
"""Any number of prepared examples at a time, for a model of a fixed batch, too."""

from collections.abc import Callable

import tensorflow as tf


def in_batches(call: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor, batch: int | None) -> tf.Tensor:
    """Call a model of a fixed batch on any number of images, the last group filled up with zeros."""
    if batch is None:
        return tf.cast(call(inputs), tf.float32)
    count = tf.shape(inputs)[0]
    sizes = inputs.shape[1:]
    padding = [[0, tf.math.floormod(-count, batch)], *([0, 0] for _ in sizes)]
    # Strings cannot be padded, but zeros of strings are empty ones.
    padded = tf.pad(inputs, padding) if inputs.dtype != tf.string else _pad_strings(inputs, padding[0][1])
    groups = tf.reshape(padded, tf.concat([[-1, batch], tf.shape(inputs)[1:]], axis=0))
    groups = tf.ensure_shape(groups, [None, batch, *sizes])
    answers = tf.map_fn(
        lambda group: tf.cast(call(group), tf.float32),
        groups,
        fn_output_signature=tf.TensorSpec(None, tf.float32),
    )
    answers = tf.reshape(answers, tf.concat([[-1], tf.shape(answers)[2:]], axis=0))
    return answers[:count]


def _pad_strings(texts: tf.Tensor, missing: tf.Tensor) -> tf.Tensor:
    return tf.concat([texts, tf.fill(tf.concat([[missing], tf.shape(texts)[1:]], axis=0), "")], axis=0)
