# SPDX-License-Identifier: Apache-2.0
"""A family without some of its channels: smaller layers, the weights of what stays copied.

Every tensor of the model is followed from the image to the logits, with the channels of it that stay. What a removed
channel gave to the layers that read it was a constant on average, and that constant goes into the bias of those layers
(batch normalization's mean, where there is no bias). So nothing at all changes where a channel was constant, as one is
whose scale training has driven to zero; elsewhere the fine-tuning begins closer to where it ends.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.channels import channel_groups, with_widths
from learn2compress.compression.family.model import block_of, build_family
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.graphs.layer_walk import chunks_of, input_id, run_steps, steps_of
from learn2compress.schemas.errors import FamilyError

_UNCHANGED = (keras.layers.ReLU, keras.layers.GlobalAveragePooling2D)  # channel by channel, and no weights


def thin_family(
    family: keras.Model, spec: FamilySpec, kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray]
) -> tuple[keras.Model, FamilySpec]:
    """Builds the thinner family.

    Args:
        family: The trained joint model; it stays as it is.
        spec: Its shape.
        kept: By group (see family/channels.py), the sorted indices of the channels that stay; groups that are not
            named keep all.
        means: By layer, the mean of what enters it by channel, as `mean_inputs` measures it.

    Returns:
        The joint model and its shape.

    Raises:
        FamilyError: The widths make it another network, or there is a layer whose channels cannot be followed.
    """
    thin_spec = with_widths(spec, {group: len(indices) for group, indices in kept.items()})
    if thin_spec is None:
        raise FamilyError(
            "widths must leave each block residual or not, as it was; got widths that coincide. Keep other channels."
        )
    thin = build_family(thin_spec)
    for name, weights in _thin_weights(family, spec, kept, means):
        thin.get_layer(name).set_weights(weights)
    return thin, thin_spec


def mean_inputs(family: keras.Model, batches: Iterable) -> dict[str, np.ndarray]:
    """What enters each layer that mixes channels, on average over images and pixels.

    Args:
        family: The joint model.
        batches: Of normalized images, [b, h, w, c] float32.

    Returns:
        By layer, [channels] float64.
    """
    steps = steps_of(family)
    sums: dict[str, np.ndarray] = {}
    images = 0
    for batch in (chunk for whole in batches for chunk in chunks_of(family, whole)):
        values = {input_id(family): batch}
        values |= run_steps(steps, values)
        for step in steps:
            if mixes_channels(step.layer):
                value = values[step.inputs[0]]
                total = tf.reduce_mean(value, list(range(value.shape.rank - 1))).numpy().astype(np.float64) * len(batch)
                sums[step.layer.name] = sums.get(step.layer.name, 0) + total
        images += len(batch)
    return {name: total / images for name, total in sums.items()}


def tensor_groups(family: keras.Model, spec: FamilySpec) -> dict[str, str | None]:
    """The channel group of each tensor of a family, by its id; None where the channels are the image's or classes.

    Raises:
        FamilyError: There is a layer whose channels cannot be followed.
    """
    makers = {block: group.name for group in channel_groups(spec) for block in group.blocks}
    found: dict[str, str | None] = {input_id(family): None}
    for step in steps_of(family):
        layer = step.layer
        if type(layer) is keras.layers.Conv2D:
            group = makers.get(block_of(spec, layer.name).name)
        elif type(layer) is keras.layers.Dense:
            group = None
        else:
            entering = {found[i] for i in step.inputs}
            known = (keras.layers.DepthwiseConv2D, keras.layers.BatchNormalization, keras.layers.Add, *_UNCHANGED)
            if type(layer) not in known or len(entering) != 1:
                raise FamilyError(
                    f"layer {layer.name!r} must be one whose channels can be followed; got a {type(layer).__name__} of "
                    f"{len(step.inputs)} inputs. Leave prune.channels out."
                )
            (group,) = entering
        found |= dict.fromkeys(step.outputs, group)
    return found


def mixes_channels(layer: keras.layers.Layer) -> bool:
    """Whether each channel that leaves the layer depends on all that enter."""
    return type(layer) in (keras.layers.Conv2D, keras.layers.Dense)


def _thin_weights(
    family: keras.Model, spec: FamilySpec, kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The name and the new weights of each layer that has any."""
    groups = tensor_groups(family, spec)
    pending: dict[str, np.ndarray] = {}  # by tensor: what its removed inputs gave on average, still to be added

    def stay(tensor: str, width: int) -> np.ndarray:
        group = groups[tensor]
        return np.arange(width) if group is None or group not in kept else np.asarray(kept[group], int)

    for step in steps_of(family):
        layer, weights = step.layer, step.layer.get_weights()
        if mixes_channels(layer):
            kernel, *bias = weights
            inputs, outputs = stay(step.inputs[0], kernel.shape[-2]), stay(step.outputs[0], kernel.shape[-1])
            gone = np.setdiff1d(np.arange(kernel.shape[-2]), inputs)
            lost = means[layer.name][gone] @ kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)[gone]
            if bias:
                bias = [(bias[0] + lost)[outputs]]
            else:
                pending[step.outputs[0]] = lost
            yield layer.name, [kernel[..., inputs, :][..., outputs], *bias]
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel, *bias = weights
            inputs = stay(step.inputs[0], kernel.shape[-2])
            yield layer.name, [kernel[..., inputs, :], *(b[inputs] for b in bias)]
        elif isinstance(layer, keras.layers.BatchNormalization):
            scale, offset, mean, variance = weights
            mean = mean - pending.get(step.inputs[0], 0)
            yield layer.name, [w[stay(step.inputs[0], len(w))] for w in (scale, offset, mean, variance)]
