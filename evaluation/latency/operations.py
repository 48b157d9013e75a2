# SPDX-License-Identifier: Apache-2.0
"""The operations of a network, by kind and shape, as far as its latency depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.model_file import ModelFile, Operator

Kind = Literal["conv", "pointwise", "depthwise", "dense", "mean", "add", "softmax"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KIND_OF_OPERATOR: dict[str, Kind] = {
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "depthwise",
    "FULLY_CONNECTED": "dense",
    "MEAN": "mean",
    "ADD": "add",
    "SOFTMAX": "softmax",
}


@dataclass(frozen=True)
class Operation:
    """An operation on one image.

    Attributes:
        kind: What is computed: a dense convolution (`conv`), one of kernel 1 (`pointwise`), a depthwise convolution, a
            dense layer, the mean over all pixels, a sum of two tensors, or a softmax.
        height: Height of the output in pixels; of the input for the mean; 1 without pixels.
        width: Width likewise.
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel in pixels.
        stride: Distance of the kernel's positions in pixels.
    """

    kind: Kind
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1

    @property
    def pixels(self) -> int:
        """Number of positions at which the operation computes."""
        return self.height * self.width


def convolution(height: int, width: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> Operation:
    """Describe a dense convolution; one of kernel 1 is pointwise, for which runtimes have other code."""
    return Operation("pointwise" if kernel == 1 else "conv", height, width, inputs, outputs, kernel, stride)


def depthwise(height: int, width: int, channels: int, kernel: int = 3, stride: int = 1) -> Operation:
    """Describe a depthwise convolution."""
    return Operation("depthwise", height, width, channels, channels, kernel, stride)


def addition(height: int, width: int, channels: int) -> Operation:
    """Describe the sum of two tensors of equal shape."""
    return Operation("add", height, width, channels, channels)


def classification(height: int, width: int, channels: int, classes: int) -> tuple[Operation, ...]:
    """Describe how scores follow from feature maps: mean over the pixels, dense layer, softmax."""
    return (
        Operation("mean", height, width, channels, channels),
        Operation("dense", 1, 1, channels, classes),
        Operation("softmax", 1, 1, classes, classes),
    )


def operations_of(model: ModelFile) -> tuple[Operation, ...]:
    """List the operations of a .tflite file, whose convolutions are padded to `same`.

    Args:
        model: Contents of the file.

    Raises:
        ModelFileError: The file has an operator of another kind.
    """
    return tuple(_operations(model))


def _operations(model: ModelFile) -> Iterator[Operation]:
    shapes = {tensor.index: tensor.shape for tensor in model.tensors if tensor.subgraph == 0}
    for operator in model.operators:
        if operator.subgraph == 0:
            yield _read(operator, shapes, model.file)


def _read(operator: Operator, shapes: dict[int, tuple[int, ...]], file: str) -> Operation:
    kind = _KIND_OF_OPERATOR.get(operator.name)
    read, made = shapes[operator.inputs[0]], shapes[operator.outputs[0]]
    if kind is None or (len(read) != 4 and kind not in ("dense", "softmax")):
        raise ModelFileError(
            f"the operators of {file} must be of {', '.join(_KIND_OF_OPERATOR)} for its latency to be predicted; got "
            f"{operator.name} of {list(read)}. Measure it: learn2compress bench {file}."
        )
    if kind in ("dense", "softmax"):
        return Operation(kind, 1, 1, read[-1], made[-1])
    if kind in ("mean", "add"):
        return Operation(kind, read[1], read[2], read[3], read[3])
    stride, kernel = round(read[1] / made[1]), shapes[operator.inputs[1]][1]
    if kind == "conv":
        return convolution(made[1], made[2], read[3], made[3], kernel, stride)
    return depthwise(made[1], made[2], made[3], kernel, stride)
