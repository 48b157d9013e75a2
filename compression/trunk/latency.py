# SPDX-License-Identifier: Apache-2.0
"""Lists the operations of a student that is cut out of the teacher's network, from which its latency is predicted."""

from __future__ import annotations

import tf_keras as keras

from learn2compress.evaluation.latency.operations import Operation, addition, convolution, depthwise

# In an int8 file they are part of the operation before them, or nothing.
_WITHOUT_OPERATION = ("InputLayer", "ReLU", "Dropout", "Identity")


def network_operations(student: keras.Model) -> tuple[Operation, ...] | None:
    """List the operations of a student's int8 file.

    Args:
        student: A student without batch normalization, that ends with pooling and a dense layer.

    Returns:
        The operations; None if there is a layer whose latency is not known.
    """
    found: list[Operation] = []
    for layer in student.layers:
        operations = _operations(layer)
        if operations is None:
            return None
        found += operations
    return tuple(found)


def _operations(layer: keras.layers.Layer) -> tuple[Operation, ...] | None:
    kind = type(layer).__name__
    if kind in _WITHOUT_OPERATION:
        return ()
    if kind == "GlobalAveragePooling2D":
        _, height, width, channels = layer.input.shape
        return (Operation("mean", height, width, channels, channels),)
    if kind == "Dense":
        units = layer.units
        return Operation("dense", 1, 1, layer.input.shape[-1], units), Operation("softmax", 1, 1, units, units)
    if kind not in ("Conv2D", "DepthwiseConv2D", "Add"):
        return None
    _, height, width, channels = layer.output.shape
    if kind == "Add":
        return (addition(height, width, channels),)
    kernel, stride = layer.kernel_size[0], layer.strides[0]
    if kind == "DepthwiseConv2D":
        return (depthwise(height, width, channels, kernel, stride),) if layer.depth_multiplier == 1 else None
    return (convolution(height, width, layer.input.shape[-1], channels, kernel, stride),) if layer.groups == 1 else None
