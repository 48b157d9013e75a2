# SPDX-License-Identifier: Apache-2.0
"""Builds a family without some of its channels: narrower layers with the weights of the channels that are kept.

The kept channels of each tensor are followed from the image to the logits. The mean contribution of a removed channel
to the layers that read it is added to the bias of those layers (to the mean of the batch normalization, if there is no
bias). The logits therefore do not change if a removed channel was constant, such as one whose scale was trained to
zero; otherwise the fine-tuning starts closer to its result.
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

_UNCHANGED = (keras.layers.ReLU, keras.layers.GlobalAveragePooling2D)  # computed channel by channel, without weights


def build_pruned_family(
    family: keras.Model, spec: FamilySpec, kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray]
) -> tuple[keras.Model, FamilySpec]:
    """Builds the channel-pruned family.

    Args:
        family: Trained joint model; it is not changed.
        spec: Its shape.
        kept: Sorted indices of the channels that are kept, by group (see family/channels.py); groups that are not
            named keep all channels.
        means: Mean input of each channel [channels], by layer, see `mean_inputs`.

    Returns:
        The joint model and its shape.

    Raises:
        FamilyError: The widths would change the connections of the network, or the channels of a layer cannot be
            followed.
    """
    pruned_spec = with_widths(spec, {group: len(indices) for group, indices in kept.items()})
    if pruned_spec is None:
        raise FamilyError(
            "widths must leave each block residual or not, as it was; got widths that coincide. Keep other channels."
        )
    pruned = build_family(pruned_spec)
    for name, weights in _remaining_weights(family, spec, kept, means):
        pruned.get_layer(name).set_weights(weights)
    return pruned, pruned_spec


def mean_inputs(family: keras.Model, batches: Iterable) -> dict[str, np.ndarray]:
    """Measures the mean input of each layer that mixes channels, over images and pixels.

    Args:
        family: Joint model.
        batches: Batches of normalized images [b, h, w, c] float32.

    Returns:
        [channels] float64, by layer.
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
    """Finds the channel group of each tensor of a family.

    Returns:
        Name of the group by id of the tensor; None for channels of the image and for classes.

    Raises:
        FamilyError: The channels of a layer cannot be followed.
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
    """Tells whether each output channel of a layer depends on all of its input channels."""
    return type(layer) in (keras.layers.Conv2D, keras.layers.Dense)


def _remaining_weights(
    family: keras.Model, spec: FamilySpec, kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yields the name and the new weights of each layer that has weights."""
    groups = tensor_groups(family, spec)
    # Mean contribution of removed inputs by tensor, to be subtracted from the mean of the batch normalization behind.
    pending: dict[str, np.ndarray] = {}

    def kept_of(tensor: str, width: int) -> np.ndarray:
        group = groups[tensor]
        return np.arange(width) if group is None or group not in kept else np.asarray(kept[group], int)

    for step in steps_of(family):
        layer, weights = step.layer, step.layer.get_weights()
        if mixes_channels(layer):
            kernel, *bias = weights
            inputs, outputs = kept_of(step.inputs[0], kernel.shape[-2]), kept_of(step.outputs[0], kernel.shape[-1])
            removed = np.setdiff1d(np.arange(kernel.shape[-2]), inputs)
            shift = means[layer.name][removed] @ kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)[removed]
            if bias:
                bias = [(bias[0] + shift)[outputs]]
            else:
                pending[step.outputs[0]] = shift
            yield layer.name, [kernel[..., inputs, :][..., outputs], *bias]
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel, *bias = weights
            inputs = kept_of(step.inputs[0], kernel.shape[-2])
            yield layer.name, [kernel[..., inputs, :], *(b[inputs] for b in bias)]
        elif isinstance(layer, keras.layers.BatchNormalization):
            scale, offset, mean, variance = weights
            mean = mean - pending.get(step.inputs[0], 0)
            yield layer.name, [w[kept_of(step.inputs[0], len(w))] for w in (scale, offset, mean, variance)]
