# SPDX-License-Identifier: Apache-2.0
"""Folds batch normalization, and the scaling of pixels, into convolutions.

For a convolution W x + b followed by batch normalization with gamma, beta, mean and variance (Jacob et al., 1712.05877,
section 3.2):

    s = gamma / sqrt(variance + epsilon)        W' = s W        b' = s (b - mean) + beta

Statistics are those of inference, so the folded network computes the same. Batch normalization that follows no
convolution becomes a depthwise convolution of one pixel, which has an 8-bit form.
"""

from typing import Any

import numpy as np
import tf_keras as keras

from learn2compress.compression.graphs.flattening import arguments_of
from learn2compress.compression.graphs.layer_walk import Step, steps_of

_FOLDED_INTO = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Make a copy of a model without batch normalization, which computes the same in inference.

    Args:
        model: Functional model without nested models and with one input.

    Returns:
        A model with copies of all other layers, under the same names.
    """
    steps = steps_of(model)
    folds = _folds(steps)
    weights: dict[str, list[np.ndarray]] = {}
    values: dict[str, Any] = {str(id(model.inputs[0])): keras.Input(model.input_shape[1:], name="image")}
    image = values[str(id(model.inputs[0]))]
    copies: dict[int, keras.layers.Layer] = {}
    for step in steps:
        if id(step.node) in folds["behind"]:
            values[step.outputs[0]] = values[step.inputs[0]]
            continue
        layer = step.layer
        if id(layer) not in copies:
            copies[id(layer)], weights[layer.name] = _copy(layer, folds["into"].get(id(step.node)))
        arguments, keywords = arguments_of(step.node, values)
        results = copies[id(layer)](*arguments, **keywords)
        values.update(zip(step.outputs, _flat(results), strict=True))
    folded = keras.Model(image, [values[str(id(output))] for output in model.outputs], name=model.name)
    for copy in copies.values():
        copy.set_weights(weights[copy.name])
    return folded


def _flat(results: Any) -> list[Any]:
    return list(results) if isinstance(results, list | tuple) else [results]


def _folds(steps: tuple[Step, ...]) -> dict[str, Any]:
    """Find the batch normalizations that can be folded into the layer before them."""
    producers = {output: step for step in steps for output in step.outputs}
    uses: dict[str, int] = {}
    calls: dict[int, int] = {}
    for step in steps:
        calls[id(step.layer)] = calls.get(id(step.layer), 0) + 1
        for one in step.inputs:
            uses[one] = uses.get(one, 0) + 1
    into: dict[int, keras.layers.BatchNormalization] = {}
    behind: set[int] = set()
    for step in steps:
        if not _is_plain(step.layer) or calls[id(step.layer)] > 1:
            continue
        before = producers.get(step.inputs[0])
        if (
            before is not None
            and type(before.layer) in _FOLDED_INTO
            and before.layer.activation.__name__ == "linear"
            and calls[id(before.layer)] == 1
            and uses[step.inputs[0]] == 1
        ):
            into[id(before.node)] = step.layer
            behind.add(id(step.node))
    return {"into": into, "behind": behind}


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is a batch normalization of the last axis."""
    if type(layer) is not keras.layers.BatchNormalization:
        return False
    axes = list(layer.axis) if isinstance(layer.axis, list | tuple) else [layer.axis]
    return axes in ([-1], [layer.input_spec.ndim - 1])


def _copy(
    layer: keras.layers.Layer, normalization: keras.layers.BatchNormalization | None
) -> tuple[keras.layers.Layer, list[np.ndarray]]:
    """Make a copy of a layer with the normalization behind it folded in, if there is one; return it and its weights."""
    if _is_plain(layer) and layer.input_spec.ndim == 4:
        scale, offset = affine_of(layer)
        return keras.layers.DepthwiseConv2D(1, name=layer.name), [scale[None, None, :, None], offset]
    if normalization is None:
        return type(layer).from_config(layer.get_config()), layer.get_weights()
    copy = type(layer).from_config({**layer.get_config(), "use_bias": True})
    kernel, *rest = layer.get_weights()
    scale, offset = affine_of(normalization)
    factor = scale.reshape(kernel.shape[2:]) if type(layer) is keras.layers.DepthwiseConv2D else scale
    bias = rest[0] if rest else np.zeros_like(scale)
    return copy, [kernel * factor, bias * scale + offset]


def affine_of(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and offset of a batch normalization in inference, each [channels] float32."""
    mean, variance = (value.numpy().astype(np.float64) for value in (layer.moving_mean, layer.moving_variance))
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma.numpy()
    offset = -mean * scale
    if layer.center:
        offset = offset + layer.beta.numpy()
    return scale.astype(np.float32), offset.astype(np.float32)
