# SPDX-License-Identifier: Apache-2.0
"""Makes the teacher's scaling of pixels a part of the network, whose input then is that of the students.

Students take pixels n in [-1, 1], x = 127.5 n + 127.5 (modalities/image/student_input.py). The teacher's input is
(x - mean) / std, followed by the Rescaling layers at its beginning: together a factor and an offset for each channel.
They are folded into the first convolution where padding with zeros stays nearly the same, otherwise they become a
convolution of one pixel in front, which has an 8-bit form.
"""

from typing import Any

import numpy as np
import tf_keras as keras

from learn2compress.compression.graphs.layer_walk import Step, steps_of
from learn2compress.compression.trunk.model import replay
from learn2compress.modalities.image.student_input import ImageStudentInput
from learn2compress.schemas.scaling import Scaling

_NEARLY_ZERO = 0.02
"""Largest value, in units of the student's input, of the pixel that becomes zero if the scaling is to be folded."""


def with_student_input(model: keras.Model, scaling: Scaling) -> keras.Model:
    """Make a copy of a network that takes the students' input.

    Args:
        model: Network without batch normalization that takes (pixels - mean) / std.
        scaling: The teacher's scaling.

    Returns:
        A functional model with copies of the layers.
    """
    steps = steps_of(model)
    channels = model.input_shape[-1]
    order = list(range(channels))[::-1] if scaling.channel_order == "bgr" else list(range(channels))
    factor, offset = _affine(scaling, channels)
    tensor, first = str(id(model.inputs[0])), 0
    while first < len(steps) and type(steps[first].layer) is keras.layers.Rescaling:
        if _uses(steps, tensor) != 1:
            break
        layer = steps[first].layer
        factor, offset = factor * np.asarray(layer.scale), offset * np.asarray(layer.scale) + np.asarray(layer.offset)
        tensor, first = steps[first].outputs[0], first + 1
    image = keras.Input(model.input_shape[1:], name="image")
    copies: dict[int, keras.layers.Layer] = {}

    def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in copies:
            copies[id(layer)] = type(layer).from_config(layer.get_config())
        return copies[id(layer)]

    entered: Any = image
    target = _first_convolution(steps[first:], tensor)
    changed: dict[str, list[np.ndarray]] = {}
    plain = np.allclose(factor, 1, atol=1e-6) and np.allclose(offset, 0, atol=1e-6) and order == sorted(order)
    if target is not None and np.max(np.abs(offset / factor)) <= _NEARLY_ZERO:
        changed[target.layer.name] = _folded(target.layer, factor, offset, order)
    elif not plain:
        first_layer = keras.layers.Conv2D(channels, 1, name="scaling")
        entered = first_layer(image)
        kernel = np.zeros((1, 1, channels, channels), np.float32)
        kernel[0, 0, order, range(channels)] = factor
        first_layer.set_weights([kernel, offset.astype(np.float32)])
    values = {tensor: entered}
    replay(steps[first:], values, copy_of)
    scaled = keras.Model(image, [values[str(id(output))] for output in model.outputs], name=model.name)
    for step in steps[first:]:
        name = step.layer.name
        copies[id(step.layer)].set_weights(changed.get(name) or step.layer.get_weights())
    return scaled


def _affine(scaling: Scaling, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute factor and offset from the students' input to the teacher's, in the order of the teacher's channels."""
    student = ImageStudentInput.normalization
    mean = np.broadcast_to(np.asarray(scaling.mean, np.float64), [channels])
    std = np.broadcast_to(np.asarray(scaling.std, np.float64), [channels])
    return student.std[0] / std, (student.mean[0] - mean) / std


def _uses(steps: tuple[Step, ...], tensor: str) -> int:
    return sum(tensor in step.inputs for step in steps)


def _first_convolution(steps: tuple[Step, ...], tensor: str) -> Step | None:
    """Find the only convolution that a tensor enters, directly or through padding, if a scaling can be folded in."""
    for step in steps:
        if step.inputs != (tensor,) or _uses(steps, tensor) != 1:
            return None
        if type(step.layer) is keras.layers.ZeroPadding2D:
            tensor = step.outputs[0]
            continue
        shared = sum(other.layer is step.layer for other in steps) > 1
        fits = type(step.layer) is keras.layers.Conv2D and step.layer.use_bias and step.layer.groups == 1
        return step if fits and not shared else None
    return None


def _folded(layer: keras.layers.Conv2D, factor: np.ndarray, offset: np.ndarray, order: list[int]) -> list[np.ndarray]:
    kernel, bias = (weight.astype(np.float64) for weight in layer.get_weights())
    bias = bias + np.einsum("hwio,i->o", kernel, offset)
    kernel = (kernel * factor[None, None, :, None])[:, :, np.argsort(order)]
    return [kernel.astype(np.float32), bias.astype(np.float32)]
