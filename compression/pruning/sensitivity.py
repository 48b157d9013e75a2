# SPDX-License-Identifier: Apache-2.0
"""How much each layer matters, found by harming one at a time and looking at the answers.

Three harms: the smallest weights of a kernel made zero; a layer alone in 8 bits (weights per output channel and
symmetric, the output by its least and largest value, as the converter does it); the least important channels of a group
gone, as channel_removal.py removes them. All on the float model and a few images: what comes before the harmed
layer is computed once. Accuracy on a few hundred images is coarse, so the divergence of the answers is measured
besides, which is what zeros and channels are spread by.

Validation images, since they are the ones that choose; test images are for the final figures alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.channels import channel_groups
from learn2compress.compression.family.model import normalize
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.graphs.layer_walk import (
    Edit,
    Step,
    chunks_of,
    input_id,
    output_ids,
    run_steps,
    steps_of,
)
from learn2compress.compression.pruning.channel_removal import mixes_channels, tensor_groups
from learn2compress.compression.pruning.magnitude import prunable_layers
from learn2compress.schemas.manifests import ChannelSensitivity, Drop, LayerSensitivity
from learn2compress.schemas.progress import Task

SHARES = (0.25, 0.5, 0.75)
_KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_FUSED = (keras.layers.BatchNormalization, keras.layers.ReLU)  # into the layer before, when a file is made


@dataclass
class _Harm:
    """A change that is tried.

    Attributes:
        share: Of what it takes.
        edits: By the step's number.
        kernel: What takes the place of the harmed layer's, if anything does.
    """

    share: float
    edits: dict[int, Edit]
    layer: keras.layers.Layer | None = None
    kernel: np.ndarray | None = None
    wrong: dict[str, int] = field(default_factory=dict)  # more than before, by student
    divergence: dict[str, float] = field(default_factory=dict)

    def drop(self, images: int) -> Drop:
        """The mean over the students whose answers come by the harmed place."""
        count = max(1, images * len(self.wrong))
        accuracy, divergence = sum(self.wrong.values()) / count, sum(self.divergence.values()) / count
        return Drop(share=self.share, accuracy_drop=accuracy, divergence=divergence)


def layer_sensitivity(
    family: keras.Model, names: Sequence[str], images: np.ndarray, labels: np.ndarray
) -> list[LayerSensitivity]:
    """Tries zeros and 8 bits in each layer that has a kernel.

    Args:
        family: A functional model, an output of logits a student; it is left as it was.
        names: The students, in the order of the outputs.
        images: [n, h, w, c] uint8.
        labels: [n] integers.

    Returns:
        One a layer, in the order of the model. Layers that are never pruned (see magnitude.py) are tried in
        8 bits only.
    """
    steps = steps_of(family)
    kernels = {step.layer.name: step.layer for step in steps if type(step.layer) in _KERNELS}
    prunable = set(prunable_layers(family))
    zeros, rounded = {}, {}
    for layer in kernels.values():
        calls = [number for number, step in enumerate(steps) if step.layer is layer]
        kernel = layer.get_weights()[0]
        zeros[layer.name] = [
            _Harm(share, dict.fromkeys(calls, Edit()), layer, _without_smallest(kernel, share))
            for share in SHARES
            if layer.name in prunable
        ]
        ends = [_fused_end(steps, number) for number in calls]
        edits = dict.fromkeys(calls, Edit()) | dict.fromkeys(ends, Edit(outputs=_round_to_8_bits))
        rounded[layer.name] = _Harm(1.0, edits, layer, _kernel_in_8_bits(layer, kernel))
    harms = [*(h for several in zeros.values() for h in several), *rounded.values()]
    _try("sensitivity of layers", family, names, steps, harms, images, labels)
    return [
        LayerSensitivity(
            layer=layer.name,
            type=type(layer).__name__,
            weights=layer.get_weights()[0].size,
            students=list(rounded[layer.name].wrong),
            zeros=[harm.drop(len(images)) for harm in zeros[layer.name]],
            int8=rounded[layer.name].drop(len(images)),
        )
        for layer in kernels.values()
    ]


def channel_sensitivity(
    family: keras.Model,
    spec: FamilySpec,
    importance: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
) -> list[ChannelSensitivity]:
    """Tries each channel group without its least important channels.

    Args:
        family: The joint model.
        spec: Its shape.
        importance: By group, [channels].
        images: [n, h, w, c] uint8.
        labels: [n] integers.

    Returns:
        One a group, in the order of `channel_groups`.
    """
    steps, groups = steps_of(family), tensor_groups(family, spec)
    harms: dict[str, list[_Harm]] = {}
    for group in channel_groups(spec):
        readers = [n for n, s in enumerate(steps) if mixes_channels(s.layer) and groups[s.inputs[0]] == group.name]
        order = np.argsort(importance[group.name], kind="stable")
        harms[group.name] = [
            _Harm(share, dict.fromkeys(readers, Edit(inputs=_Without(order[: round(share * group.width)]))))
            for share in SHARES
        ]
    every = [harm for several in harms.values() for harm in several]
    _try("sensitivity of channels", family, spec.students, steps, every, images, labels)
    return [
        ChannelSensitivity(
            group=group.name,
            blocks=list(group.blocks),
            channels=group.width,
            students=list(group.students),
            removed=[harm.drop(len(images)) for harm in harms[group.name]],
        )
        for group in channel_groups(spec)
    ]


def _try(
    what: str,
    family: keras.Model,
    names: Sequence[str],
    steps: Sequence[Step],
    harms: Sequence[_Harm],
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Does each harm in turn and counts what became of the answers."""
    outputs = dict(zip(output_ids(family), names, strict=True))
    pieces = [*chunks_of(family, np.arange(len(images)))]
    task = Task(what, len(harms) * len(pieces))
    for piece in pieces:
        before = {input_id(family): normalize(images[piece])}
        before |= run_steps(steps, before)
        for harm in harms:
            after = _harmed(steps, before, harm)
            for tensor, name in outputs.items():
                if tensor not in after:
                    continue
                old, new = before[tensor].numpy().astype(np.float64), after[tensor].numpy().astype(np.float64)
                worse = np.sum(old.argmax(-1) == labels[piece]) - np.sum(new.argmax(-1) == labels[piece])
                harm.wrong[name] = harm.wrong.get(name, 0) + int(worse)
                harm.divergence[name] = harm.divergence.get(name, 0.0) + _divergence(old, new)
            task.advance()


def _harmed(steps: Sequence[Step], before: Mapping, harm: _Harm) -> dict:
    if harm.layer is None:
        return run_steps(steps, before, harm.edits)
    weights = harm.layer.get_weights()
    harm.layer.set_weights([harm.kernel, *weights[1:]])
    try:
        return run_steps(steps, before, harm.edits)
    finally:
        harm.layer.set_weights(weights)


def _divergence(old: np.ndarray, new: np.ndarray) -> float:
    """The sum over images of the Kullback-Leibler divergence of the new answers from the old, in nats."""
    old, new = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (old, new))
    return float(np.sum(np.exp(old) * (old - new)))


def _without_smallest(kernel: np.ndarray, share: float) -> np.ndarray:
    flat = kernel.ravel().copy()
    flat[np.argsort(np.abs(flat), kind="stable")[: round(share * flat.size)]] = 0
    return flat.reshape(kernel.shape)


def _kernel_in_8_bits(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """Rounded to -127..127 times a scale: one for each output channel, but one for all of a dense layer."""
    axes = tuple(range(kernel.ndim)) if isinstance(layer, keras.layers.Dense) else tuple(range(kernel.ndim - 1))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        axes = (0, 1)
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.round(kernel / np.where(scale > 0, scale, 1)) * scale


def _round_to_8_bits(value: tf.Tensor) -> tf.Tensor:
    """Rounded to 256 steps between its extremes, zero among them."""
    low, high = min(float(tf.reduce_min(value)), 0.0), max(float(tf.reduce_max(value)), 0.0)
    return tf.quantization.fake_quant_with_min_max_args(value, low, high) if high > low else value


def _fused_end(steps: Sequence[Step], number: int) -> int:
    """The last of the steps that become one operator with a layer: batch normalization and ReLU right behind it."""
    while True:
        readers = [n for n, step in enumerate(steps) if set(steps[number].outputs) & set(step.inputs)]
        if len(readers) != 1 or type(steps[readers[0]].layer) not in _FUSED:
            return number
        (number,) = readers


class _Without:
    """Puts the mean of each removed channel in its place."""

    def __init__(self, removed: np.ndarray) -> None:
        self.removed = removed

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        gone = np.zeros(value.shape[-1], bool)
        gone[self.removed] = True
        mean = tf.reduce_mean(value, list(range(value.shape.rank - 1)), keepdims=True)
        return tf.where(gone, mean, value)
