# SPDX-License-Identifier: Apache-2.0
"""Measures the sensitivity of each layer: perturbs one layer at a time and compares the logits.

There are three perturbations: the smallest weights of a kernel are set to zero; a layer alone is quantized to 8 bits
(weights symmetric and per output channel, the output by its extremes, as by the converter); the least important
channels of a group are removed, as by channels/removal.py. They are applied to the float model on a few images; the
values before the perturbed layer are computed once. Since accuracy on a few hundred images is coarse, the divergence of
the outputs is measured as well, by which sparsity and channels are allocated.

The images are of the validation split, which chooses models; test images are used for the final figures only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.channels.groups import Channels
from learn2compress.compression.channels.removal import mixes_channels
from learn2compress.compression.family.model import normalize
from learn2compress.compression.graphs.layer_walk import (
    Edit,
    Step,
    chunks_of,
    input_id,
    output_ids,
    run_steps,
    steps_of,
)
from learn2compress.compression.pruning.magnitude import prunable_layers
from learn2compress.schemas.manifests import ChannelSensitivity, Drop, LayerSensitivity
from learn2compress.schemas.progress import Task

SHARES = (0.25, 0.5, 0.75)
_KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_FUSED = (keras.layers.BatchNormalization, keras.layers.ReLU)  # into the layer before, by the converter


@dataclass
class _Perturbation:
    """A perturbation of one place of the model, and its measured effect.

    Attributes:
        share: Fraction of the weights or channels that are changed.
        edits: Changed inputs and outputs, by the number of the step.
        layer: Layer whose kernel is replaced, if any.
        kernel: Kernel that replaces the layer's.
        wrong: Number of additional wrong predictions, by student.
        divergence: Sum of the Kullback-Leibler divergence over the images, by student.
    """

    share: float
    edits: dict[int, Edit]
    layer: keras.layers.Layer | None = None
    kernel: np.ndarray | None = None
    wrong: dict[str, int] = field(default_factory=dict)
    divergence: dict[str, float] = field(default_factory=dict)

    def drop(self, images: int) -> Drop:
        """Computes the mean effect over the students that contain the perturbed place."""
        count = max(1, images * len(self.wrong))
        accuracy, divergence = sum(self.wrong.values()) / count, sum(self.divergence.values()) / count
        return Drop(share=self.share, accuracy_drop=accuracy, divergence=divergence)


def layer_sensitivity(
    family: keras.Model, names: Sequence[str], images: np.ndarray, labels: np.ndarray
) -> list[LayerSensitivity]:
    """Measures the sensitivity of each layer that has a kernel, to zeros and to 8 bits.

    Args:
        family: Functional model with logits [batch, classes] for each student; it is the same afterwards.
        names: Names of the students, in the order of the outputs.
        images: [n, h, w, c] uint8.
        labels: [n] integers.

    Returns:
        The sensitivity of each layer, in the order of the model. Layers that are never pruned (see magnitude.py) are
        perturbed by 8 bits only.
    """
    steps = steps_of(family)
    kernels = {step.layer.name: step.layer for step in steps if type(step.layer) in _KERNELS}
    prunable = set(prunable_layers(family))
    zeros, rounded = {}, {}
    for layer in kernels.values():
        calls = [number for number, step in enumerate(steps) if step.layer is layer]
        kernel = layer.get_weights()[0]
        zeros[layer.name] = [
            _Perturbation(share, dict.fromkeys(calls, Edit()), layer, _without_smallest(kernel, share))
            for share in SHARES
            if layer.name in prunable
        ]
        ends = [_fused_end(steps, number) for number in calls]
        edits = dict.fromkeys(calls, Edit()) | dict.fromkeys(ends, Edit(outputs=_round_to_8_bits))
        rounded[layer.name] = _Perturbation(1.0, edits, layer, _kernel_in_8_bits(layer, kernel))
    perturbations = [*(one for several in zeros.values() for one in several), *rounded.values()]
    _try("sensitivity of layers", family, names, steps, perturbations, images, labels)
    return [
        LayerSensitivity(
            layer=layer.name,
            type=type(layer).__name__,
            weights=layer.get_weights()[0].size,
            students=list(rounded[layer.name].wrong),
            zeros=[perturbation.drop(len(images)) for perturbation in zeros[layer.name]],
            int8=rounded[layer.name].drop(len(images)),
        )
        for layer in kernels.values()
    ]


def channel_sensitivity(
    channels: Channels,
    importance: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
) -> list[ChannelSensitivity]:
    """Measures the sensitivity of each channel group to the removal of its least important channels.

    Args:
        channels: Channels of a joint model.
        importance: Importance of the units of channels [width], by group.
        images: [n, h, w, c] uint8.
        labels: [n] integers.

    Returns:
        The sensitivity of each group, in their order.
    """
    steps = channels.steps
    perturbations: dict[str, list[_Perturbation]] = {}
    for index, group in enumerate(channels.groups):
        readers = {
            number: channels.tensors[step.inputs[0]].of_group(index)
            for number, step in enumerate(steps)
            if mixes_channels(step.layer) and index in channels.tensors[step.inputs[0]].group
        }
        order = np.argsort(importance[group.name], kind="stable")
        perturbations[group.name] = []
        for share in SHARES:
            removed = order[: round(share * group.width)]
            edits = {
                number: Edit(inputs=_Without(positions[np.isin(units, removed)]))
                for number, (positions, units) in readers.items()
            }
            perturbations[group.name].append(_Perturbation(share, edits))
    every = [perturbation for several in perturbations.values() for perturbation in several]
    _try("sensitivity of channels", channels.model, channels.names, steps, every, images, labels)
    return [
        ChannelSensitivity(
            group=group.name,
            blocks=list(group.layers),
            channels=group.width,
            students=list(group.students),
            removed=[perturbation.drop(len(images)) for perturbation in perturbations[group.name]],
        )
        for group in channels.groups
    ]


def _try(
    what: str,
    family: keras.Model,
    names: Sequence[str],
    steps: Sequence[Step],
    perturbations: Sequence[_Perturbation],
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Applies each perturbation in turn and adds up its effect on the predictions."""
    outputs = dict(zip(output_ids(family), names, strict=True))
    pieces = [*chunks_of(family, np.arange(len(images)))]
    task = Task(what, len(perturbations) * len(pieces))
    for piece in pieces:
        before = {input_id(family): normalize(images[piece])}
        before |= run_steps(steps, before)
        for perturbation in perturbations:
            after = _run_perturbed(steps, before, perturbation)
            for tensor, name in outputs.items():
                if tensor not in after:
                    continue
                old, new = before[tensor].numpy().astype(np.float64), after[tensor].numpy().astype(np.float64)
                worse = np.sum(old.argmax(-1) == labels[piece]) - np.sum(new.argmax(-1) == labels[piece])
                perturbation.wrong[name] = perturbation.wrong.get(name, 0) + int(worse)
                perturbation.divergence[name] = perturbation.divergence.get(name, 0.0) + _divergence(old, new)
            task.advance()


def _run_perturbed(steps: Sequence[Step], before: Mapping, perturbation: _Perturbation) -> dict:
    if perturbation.layer is None:
        return run_steps(steps, before, perturbation.edits)
    weights = perturbation.layer.get_weights()
    perturbation.layer.set_weights([perturbation.kernel, *weights[1:]])
    try:
        return run_steps(steps, before, perturbation.edits)
    finally:
        perturbation.layer.set_weights(weights)


def _divergence(old: np.ndarray, new: np.ndarray) -> float:
    """Computes the Kullback-Leibler divergence of new outputs from old ones, in nats, summed over images."""
    old, new = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (old, new))
    return float(np.sum(np.exp(old) * (old - new)))


def _without_smallest(kernel: np.ndarray, share: float) -> np.ndarray:
    flat = kernel.ravel().copy()
    flat[np.argsort(np.abs(flat), kind="stable")[: round(share * flat.size)]] = 0
    return flat.reshape(kernel.shape)


def _kernel_in_8_bits(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """Rounds a kernel to -127..127 times a scale: a scale for each output channel, a single one for a dense layer."""
    axes = tuple(range(kernel.ndim)) if isinstance(layer, keras.layers.Dense) else tuple(range(kernel.ndim - 1))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        axes = (0, 1)
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.round(kernel / np.where(scale > 0, scale, 1)) * scale


def _round_to_8_bits(value: tf.Tensor) -> tf.Tensor:
    """Rounds values to 256 steps between their extremes, including zero."""
    low, high = min(float(tf.reduce_min(value)), 0.0), max(float(tf.reduce_max(value)), 0.0)
    return tf.quantization.fake_quant_with_min_max_args(value, low, high) if high > low else value


def _fused_end(steps: Sequence[Step], number: int) -> int:
    """Finds the last step that is fused with a layer: batch normalization and ReLU that follow it directly."""
    while True:
        readers = [n for n, step in enumerate(steps) if set(steps[number].outputs) & set(step.inputs)]
        if len(readers) != 1 or type(steps[readers[0]].layer) not in _FUSED:
            return number
        (number,) = readers


class _Without:
    """Replaces each removed channel by its mean."""

    def __init__(self, removed: np.ndarray) -> None:
        self.removed = removed

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        removed = np.zeros(value.shape[-1], bool)
        removed[self.removed] = True
        mean = tf.reduce_mean(value, list(range(value.shape.rank - 1)), keepdims=True)
        return tf.where(removed, mean, value)
