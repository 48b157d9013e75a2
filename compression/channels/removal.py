# SPDX-License-Identifier: Apache-2.0
"""Builds a model without some of its channels: narrower layers with the weights of the channels that are kept.

Layers keep their names and their order, and the outputs their classes. The mean contribution of a removed channel to
the layers that read it may be added to the bias of those layers (to the mean of the batch normalization behind, if
there is no bias). The outputs then do not change if a removed channel was constant, such as one whose scale was trained
to zero; otherwise the fine-tuning starts closer to its result.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.channels.groups import Channels
from learn2compress.compression.channels.operation_rules import narrowed
from learn2compress.compression.graphs.flattening import arguments_of
from learn2compress.compression.graphs.layer_walk import Step, chunks_of, input_id, run_steps

_LAYERS = keras.layers
_MIXING = (_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.SeparableConv2D, _LAYERS.Conv2DTranspose, _LAYERS.Dense)


def mixes_channels(layer: keras.layers.Layer) -> bool:
    """Tells whether each output channel of a layer depends on several of its input channels."""
    return type(layer) in _MIXING


def remove_channels(
    channels: Channels, kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray] | None = None
) -> keras.Model:
    """Builds the channel-pruned model.

    Args:
        channels: Channels of a model, see `find_channels`; the model is not changed.
        kept: Sorted indices of the units that are kept, by name of the group; groups that are not named keep all.
        means: Mean input of each channel [channels], by layer, see `mean_inputs`; None: removed channels count as zero.

    Returns:
        A model with the same layers, input and outputs.
    """
    masks = channels.masks(kept)
    positions = {i: placement.kept(masks) for i, placement in channels.tensors.items()}
    model = channels.model
    values: dict[str, Any] = {}
    copies: dict[int, keras.layers.Layer] = {}
    for layer, tensor in zip(model._input_layers, model.inputs, strict=True):
        copy = type(layer).from_config(layer.get_config())
        values[str(id(tensor))] = copy.output
    for step in channels.steps:
        if id(step.layer) not in copies:
            copies[id(step.layer)] = type(step.layer).from_config(_narrower_config(step, positions))
        arguments, options = arguments_of(step.node, values)
        first = step.inputs[0] if step.inputs else None
        if first is not None:
            arguments, options = narrowed(
                step, positions[first], len(channels.tensors[first].group), arguments, options
            )
        results = copies[id(step.layer)](*arguments, **options)
        values |= zip(step.outputs, tf.nest.flatten(results), strict=True)
    inputs = tf.nest.map_structure(lambda tensor: values[str(id(tensor))], model.input)
    outputs = tf.nest.map_structure(lambda tensor: values[str(id(tensor))], model.output)
    pruned = keras.Model(inputs, outputs, name=model.name)
    weights = _remaining_weights(channels, masks, means or {})
    for layer in {id(step.layer): step.layer for step in channels.steps}.values():
        copy = copies[id(layer)]
        copy.set_weights(weights[layer.name])
        if hasattr(copy, "finalize_state"):  # of Normalization: computes the values it uses from its weights
            copy.finalize_state()
    return pruned


def mean_inputs(channels: Channels, batches: Iterable) -> dict[str, np.ndarray]:
    """Measures the mean input of each layer that mixes channels, over images and pixels.

    Args:
        channels: Channels of a model.
        batches: Batches of normalized images [b, h, w, c] float32.

    Returns:
        [channels] float64, by layer.
    """
    model, steps = channels.model, channels.steps
    sums: dict[str, np.ndarray] = {}
    images = 0
    for batch in (chunk for whole in batches for chunk in chunks_of(model, whole)):
        values = {input_id(model): batch}
        values |= run_steps(steps, values)
        for step in steps:
            if mixes_channels(step.layer):
                value = values[step.inputs[0]]
                total = tf.reduce_mean(value, list(range(value.shape.rank - 1))).numpy().astype(np.float64) * len(batch)
                sums[step.layer.name] = sums.get(step.layer.name, 0) + total
        images += len(batch)
    return {name: total / images for name, total in sums.items()}


def _narrower_config(step: Step, positions: Mapping[str, np.ndarray]) -> dict:
    """Changes the widths in the configuration of a layer."""
    layer, config = step.layer, step.layer.get_config()
    if not step.inputs:
        return config
    width = len(positions[step.outputs[0]])
    for key in ("filters", "units"):
        if key in config and hasattr(layer, key) and type(layer) in _MIXING:
            if config.get("groups", 1) > 1 and len(positions[step.inputs[0]]) < step.node.keras_inputs[0].shape[-1]:
                inside = layer.kernel.shape[-2]
                left = len(positions[step.inputs[0]])
                if config["groups"] >= inside:  # whole groups are removed
                    config["groups"] = left // inside
            config[key] = width
    if type(layer) is _LAYERS.Reshape and width != step.node.outputs.shape[-1]:
        config["target_shape"] = [*config["target_shape"][:-1], width]
    return config


def _remaining_weights(
    channels: Channels, masks: list[np.ndarray], means: Mapping[str, np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Computes the new weights of each layer, by name."""
    layers = {step.layer.name: step.layer for step in channels.steps}
    weights = {name: layer.get_weights() for name, layer in layers.items()}
    for step in channels.steps:
        name = step.layer.name
        if name in means:
            removed = np.setdiff1d(np.arange(len(means[name])), channels.tensors[step.inputs[0]].kept(masks))
            if len(removed):
                _add_means(channels, step, weights, means[name], removed)
    for axis in channels.axes:
        left = axis.placement.kept(masks)
        if len(left) < len(axis.placement.group):
            weights[axis.layer][axis.weight] = np.take(weights[axis.layer][axis.weight], left, axis.axis)
    return weights


def _add_means(
    channels: Channels, step: Step, weights: dict[str, list[np.ndarray]], mean: np.ndarray, removed: np.ndarray
) -> None:
    """Adds the mean contribution of removed inputs to the bias of a layer, or of the normalization behind it."""
    layer = step.layer
    if type(layer) not in (_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Dense) or getattr(layer, "groups", 1) > 1:
        return
    kernel = weights[layer.name][0]
    shift = mean[removed] @ kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)[removed]
    if layer.use_bias:
        weights[layer.name][1] = weights[layer.name][1] + shift
        return
    for reader in channels.steps:
        if step.outputs[0] in reader.inputs and type(reader.layer) is _LAYERS.BatchNormalization:
            index = len(weights[reader.layer.name]) - 2
            weights[reader.layer.name][index] = weights[reader.layer.name][index] - shift
