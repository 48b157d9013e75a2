# SPDX-License-Identifier: Apache-2.0
"""Measures the importance of each unit of channels, by which channels are removed.

taylor     A gate of 1 behind each batch normalization: y = z · (scale · x + offset). Removing the channel is z = 0, and
           to first order the loss E then changes by -∂E/∂z = -(scale · ∂E/∂scale + offset · ∂E/∂offset). Importance is
           its square, the mean over batches (Molchanov et al., 1906.10771, equations 8 and 9, gates of section 3.3).
           A layer without batch normalization behind it has the gate before its activation, where its output is linear
           in its kernel and bias, so that ∂E/∂z = kernel · ∂E/∂kernel + bias · ∂E/∂bias. Batch normalization without a
           scale is linear in the kernel of the layer before it.
magnitude  The squared norm of a channel's kernel with batch normalization folded in, over the mean of its layer's, so
           that layers of different scales can be compared.

A channel of a group occurs in several layers, including depthwise layers and residual sums; its importance is the sum.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.channels.groups import Channels
from learn2compress.compression.channels.placement import Placement
from learn2compress.compression.family.model import normalize
from learn2compress.compression.training.losses import family_losses
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.progress import Task

_L = keras.layers
_COMPUTING = (_L.Conv1D, _L.Conv2D, _L.Conv2DTranspose, _L.DepthwiseConv2D, _L.SeparableConv2D, _L.Dense)


@dataclass
class _Gate:
    """A place where channels can be gated.

    Attributes:
        placement: Channels at that place.
        terms: Variables with a factor and the axes to sum over: the derivative by the gate is the sum of
            factor · ∂E/∂variable, where the factor None stands for the variable itself.
        norm: Batch normalization at that place.
        source: Layer whose kernel computes the channels, if there is one.
    """

    placement: Placement
    terms: list[tuple[tf.Variable, np.ndarray | None, tuple[int, ...]]] = field(default_factory=list)
    norm: keras.layers.BatchNormalization | None = None
    source: keras.layers.Layer | None = None

    def add_to(self, importance: dict[str, np.ndarray], channels: Channels, values: np.ndarray) -> None:
        """Adds values of channels to the importance of their units."""
        for index in np.unique(self.placement.group[self.placement.group >= 0]):
            positions, units = self.placement.of_group(index)
            np.add.at(importance[channels.groups[index].name], units, values[positions])


def taylor_importance(channels: Channels, batches: Iterable, loss: LossConfig) -> dict[str, np.ndarray]:
    """Measures the first-order Taylor criterion with the distillation loss.

    Args:
        channels: Channels of a joint model.
        batches: Training batches (images [b, h, w, c] uint8, labels [b], teacher logits [b, classes]).
        loss: Loss of each student, and its weight.

    Returns:
        Importance [width] float64, by group.

    Source: Molchanov et al., 1906.10771.
    """
    family, gates = channels.model, [gate for gate in _gates(channels) if gate.terms]
    weights = [loss.student_weights.get(name, 1.0) for name in channels.names]
    variables = [variable for gate in gates for variable, _, _ in gate.terms]

    def gate_gradients(images: tf.Tensor, labels: tf.Tensor, teacher_logits: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = tf.nest.flatten(family(normalize(images), training=False))
            losses = family_losses(labels, teacher_logits, outputs, loss)
            total = tf.add_n([w * tf.reduce_mean(one) for w, one in zip(weights, losses, strict=True)])
        found = iter(tape.gradient(total, variables, unconnected_gradients="zero"))
        gradients = []
        for gate in gates:
            parts = []
            for variable, factor, axes in gate.terms:
                product = (variable if factor is None else tf.constant(factor, variable.dtype)) * next(found)
                parts.append(tf.reshape(tf.reduce_sum(product, axes), [-1]) if axes else product)
            gradients.append(parts[0] if len(parts) == 1 else tf.add_n(parts))
        return gradients

    measure = tf.function(gate_gradients, autograph=False, reduce_retracing=True)
    importance = _nothing(channels)
    task, count = Task("importance of channels: batch"), 0
    for batch in batches:
        for gate, gradient in zip(gates, measure(*batch), strict=True):
            gate.add_to(importance, channels, gradient.numpy().astype(np.float64) ** 2)
        count += 1
        task.advance()
    return {group: total / max(1, count) for group, total in importance.items()}


def magnitude_importance(channels: Channels) -> dict[str, np.ndarray]:
    """Computes the squared norms of the channels' kernels with batch normalization folded in.

    Args:
        channels: Channels of a joint model.

    Returns:
        Importance [width] float64, by group.
    """
    importance = _nothing(channels)
    for gate in _gates(channels):
        norms: np.ndarray | float = 1.0
        if gate.source is not None:
            kernel, axes = _kernel(gate.source)
            norms = np.sum(kernel.numpy().astype(np.float64) ** 2, axis=axes).ravel()
        if gate.norm is not None:
            scale = gate.norm.gamma.numpy() if gate.norm.scale else np.ones(gate.norm.moving_mean.shape)
            norms = norms * scale**2
            if gate.source is not None:
                norms = norms / (gate.norm.moving_variance.numpy() + gate.norm.epsilon)
        norms = np.asarray(norms)
        gate.add_to(importance, channels, norms / max(float(np.mean(norms)), np.finfo(np.float64).tiny))
    return importance


def _nothing(channels: Channels) -> dict[str, np.ndarray]:
    return {group.name: np.zeros(group.width) for group in channels.groups}


def _gates(channels: Channels) -> list[_Gate]:
    """Lists the places of channels that can be removed: each batch normalization, and each layer without one behind."""
    makers = {output: step.layer for step in channels.steps for output in step.outputs}
    normalized = {step.inputs[0] for step in channels.steps if type(step.layer) is _L.BatchNormalization}
    gates = []
    for step in channels.steps:
        layer, placement = step.layer, channels.tensors[step.outputs[0]]
        if not np.any(placement.group >= 0):
            continue
        if type(layer) is _L.BatchNormalization:
            source = makers.get(step.inputs[0])
            gates.append(_normalized_gate(placement, layer, source if type(source) in _COMPUTING else None))
        elif type(layer) in _COMPUTING and step.outputs[0] not in normalized:
            kernel, axes = _kernel(layer)
            gate = _Gate(placement, [(kernel, None, axes)], source=layer)
            if layer.use_bias:
                gate.terms.append((layer.bias, None, ()))
            gates.append(gate)
    return gates


def _normalized_gate(
    placement: Placement, norm: keras.layers.BatchNormalization, source: keras.layers.Layer | None
) -> _Gate:
    gate = _Gate(placement, norm=norm, source=source)
    if norm.scale:
        gate.terms.append((norm.gamma, None, ()))
        if norm.center:
            gate.terms.append((norm.beta, None, ()))
    elif source is not None and norm.center:
        kernel, axes = _kernel(source)
        shift = norm.moving_mean.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
        gate.terms += [(kernel, None, axes), (norm.beta, norm.beta.numpy() - shift, ())]
        if source.use_bias:
            gate.terms.append((source.bias, None, ()))
    return gate


def _kernel(layer: keras.layers.Layer) -> tuple[tf.Variable, tuple[int, ...]]:
    """Returns the kernel that computes a layer's output channels, and its other axes."""
    kind = type(layer)
    if kind is _L.DepthwiseConv2D:
        return layer.depthwise_kernel, (0, 1)
    if kind is _L.SeparableConv2D:
        return layer.pointwise_kernel, (0, 1, 2)
    if kind is _L.Conv2DTranspose:
        return layer.kernel, (0, 1, 3)
    return layer.kernel, tuple(range(layer.kernel.shape.rank - 1))
