# SPDX-License-Identifier: Apache-2.0
"""Corrects the biases for the shift of the outputs in 8 bits (Nagel et al., 1906.04721, empirical bias correction).

Rounded weights, and rounded and clipped activations, shift the mean of a layer's outputs in each channel c. With the
means over representative images, of the float model and of the quantized one, a bias takes the shift back:

    b'_c = b_c - (mean of the quantized outputs - mean of the float outputs)_c

Layers are corrected from the input to the outputs, each with all layers before it quantized and corrected.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.graphs.layer_walk import Step, input_id, steps_of

_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def correct_biases(quantized: keras.Model, floating: keras.Model, images: np.ndarray | tf.Tensor) -> int:
    """Correct the biases of a quantization-aware model.

    Args:
        quantized: Model from `quantization_aware` with calibrated ranges; its biases are changed.
        floating: The model that it was made from, without batch normalization; it is not changed.
        images: Normalized images, [images, h, w, c] float32. The outputs of some layers for all of them are in memory
            at the same time.

    Returns:
        The number of layers whose biases were corrected.
    """
    wanted = _correctable(steps_of(floating))
    means = {step.layer.name: _mean(value) for step, value in _run(floating, images) if step.layer.name in wanted}
    corrected = 0
    for step, values in _run(quantized, images):
        layer = getattr(step.layer, "layer", None)
        if layer is not None and layer.name in means:
            layer.bias.assign_sub(_mean(values) - means[layer.name])
            corrected += 1
    return corrected


def _correctable(steps: Sequence[Step]) -> set[str]:
    """Name the layers with a bias behind which nothing is applied, and which are called once."""
    calls: dict[int, int] = {}
    for step in steps:
        calls[id(step.layer)] = calls.get(id(step.layer), 0) + 1
    return {
        step.layer.name
        for step in steps
        if type(step.layer) in _LAYERS
        and step.layer.use_bias
        and step.layer.activation.__name__ == "linear"
        and calls[id(step.layer)] == 1
    }


def _mean(value: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(value, list(range(value.shape.rank - 1)))


def _run(model: keras.Model, images: np.ndarray | tf.Tensor) -> Iterator[tuple[Step, tf.Tensor]]:
    """Run a model layer by layer: yields each step with its first output, and then runs it again.

    What the receiver changes in the layer meanwhile is in the values that the later steps take.
    """
    steps = steps_of(model)
    last = {tensor: index for index, step in enumerate(steps) for tensor in step.inputs}
    values: dict[str, tf.Tensor] = {input_id(model): tf.convert_to_tensor(images)}
    for index, step in enumerate(steps):
        found = step.run(values)
        yield step, found[0]
        if getattr(step.layer, "layer", None) is not None:
            found = step.run(values)
        values |= dict(zip(step.outputs, found, strict=True))
        for tensor in set(step.inputs):
            if last[tensor] == index:
                values.pop(tensor, None)
