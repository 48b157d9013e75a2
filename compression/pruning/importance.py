# SPDX-License-Identifier: Apache-2.0
"""Measures the importance of each channel, by which channels are removed.

taylor     A gate of 1 behind each batch normalization: y = z · (scale · x + offset). Removing the channel is z = 0, and
           to first order the loss E then changes by -∂E/∂z = -(scale · ∂E/∂scale + offset · ∂E/∂offset). Importance is
           its square, the mean over batches (Molchanov et al., 1906.10771, equations 8 and 9, gates of section 3.3).
magnitude  The squared norm of a channel's kernel with batch normalization folded in, over the mean of its layer's, so
           that layers of different scales can be compared.

A channel of a group occurs in several layers, including depthwise layers and residual sums; its importance is the sum.
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.channels import channel_groups
from learn2compress.compression.family.model import normalize
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.graphs.layer_walk import steps_of
from learn2compress.compression.pruning.channel_removal import tensor_groups
from learn2compress.compression.training.losses import family_losses
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.progress import Task


def taylor_importance(
    family: keras.Model,
    spec: FamilySpec,
    batches: Iterable,
    loss: LossConfig,
) -> dict[str, np.ndarray]:
    """Measures the first-order Taylor criterion with the distillation loss.

    Args:
        family: Joint model.
        spec: Its shape.
        batches: Training batches (images [b, h, w, c] uint8, labels [b], teacher logits [b, classes]).
        loss: Loss of each student, and its weight.

    Returns:
        Importance [channels] float64, by group.

    Source: Molchanov et al., 1906.10771.
    """
    norms = _norms(family, spec)
    weights = [loss.student_weights.get(name, 1.0) for name in spec.students]
    variables = [variable for layer, _ in norms for variable in (layer.gamma, layer.beta)]

    def gate_gradients(images: tf.Tensor, labels: tf.Tensor, teacher_logits: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = tf.nest.flatten(family(normalize(images), training=False))
            losses = family_losses(labels, teacher_logits, outputs, loss)
            total = tf.add_n([w * tf.reduce_mean(one) for w, one in zip(weights, losses, strict=True)])
        gradients = tape.gradient(total, variables, unconnected_gradients="zero")
        products = [variable * gradient for variable, gradient in zip(variables, gradients, strict=True)]
        return [scale + offset for scale, offset in zip(products[::2], products[1::2], strict=True)]

    measure = tf.function(gate_gradients, autograph=False, reduce_retracing=True)
    importance = {group.name: np.zeros(group.width) for group in channel_groups(spec)}
    task, count = Task("importance of channels: batch"), 0
    for batch in batches:
        for (_, group), gradient in zip(norms, measure(*batch), strict=True):
            importance[group] += gradient.numpy().astype(np.float64) ** 2
        count += 1
        task.advance()
    return {group: total / max(1, count) for group, total in importance.items()}


def magnitude_importance(family: keras.Model, spec: FamilySpec) -> dict[str, np.ndarray]:
    """Computes the squared norms of the channels' kernels with batch normalization folded in.

    Args:
        family: Joint model.
        spec: Its shape.

    Returns:
        Importance [channels] float64, by group.
    """
    importance = {group.name: np.zeros(group.width) for group in channel_groups(spec)}
    makers = {output: step.layer for step in steps_of(family) for output in step.outputs}
    sources = {step.layer.name: makers[step.inputs[0]] for step in steps_of(family) if step.inputs[0] in makers}
    for layer, group in _norms(family, spec):
        source = sources[layer.name]
        kernel = source.get_weights()[0].astype(np.float64)
        if isinstance(source, keras.layers.DepthwiseConv2D):
            kernel = kernel[..., 0]
        scale, _, _, variance = layer.get_weights()
        norms = np.sum(kernel.reshape(-1, kernel.shape[-1]) ** 2, axis=0) * scale**2 / (variance + layer.epsilon)
        importance[group] += norms / max(float(np.mean(norms)), np.finfo(np.float64).tiny)
    return importance


def _norms(family: keras.Model, spec: FamilySpec) -> list[tuple[keras.layers.Layer, str]]:
    """Lists each batch normalization of channels that can be removed, with their group."""
    groups = tensor_groups(family, spec)
    return [
        (step.layer, group)
        for step in steps_of(family)
        if isinstance(step.layer, keras.layers.BatchNormalization) and (group := groups[step.inputs[0]]) is not None
    ]
