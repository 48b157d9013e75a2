# SPDX-License-Identifier: Apache-2.0
"""Describes students that are cut out of the teacher's network, and computes their costs by arithmetic."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tf_keras as keras

from learn2compress.compression.family.spec import (
    ADDITION_BYTES,
    CHANNEL_BYTES,
    CONVOLUTION_BYTES,
    FILE_BYTES,
    LOGIT_BYTES,
    WIDTH_BYTES,
    Cost,
)
from learn2compress.compression.graphs.layer_walk import Step

OPERATOR_BYTES = 230
"""Bytes of an operator without weights, with its tensors."""
_WITHOUT_OPERATOR = ("ReLU", "InputLayer", "Dropout", "Identity")  # in an int8 file, a ReLU is part of its convolution


@dataclass(frozen=True)
class TrunkStudent:
    """A student that leaves the trunk at an exit.

    Attributes:
        name: Name of the student.
        exit: Name of the exit, see `exits.Exit`.
        layer: Name of the last layer of the trunk.
        tail: Names of the teacher's layers that the student has copies of behind the trunk.
        kept: Indices of the channels that the convolution of the tail keeps; None: all.
    """

    name: str
    exit: str
    layer: str
    tail: tuple[str, ...] = ()
    kept: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TrunkSpec:
    """The family: students on the teacher's trunk, smallest first.

    Attributes:
        input_shape: (height, width, channels) of the students' images.
        classes: Number of classes.
        label_bytes: Bytes of the class names in each file.
        students: Students in the order of their exits.
        why: Reason for each choice, for the reader of the report.
    """

    input_shape: tuple[int, int, int]
    classes: int
    label_bytes: int
    students: tuple[TrunkStudent, ...]
    why: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the students."""
        return tuple(student.name for student in self.students)

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can represent."""
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "TrunkSpec":
        """Convert back from `to_dict`."""
        students = tuple(
            TrunkStudent(
                one["name"],
                one["exit"],
                one["layer"],
                tuple(one["tail"]),
                None if one["kept"] is None else tuple(one["kept"]),
            )
            for one in tree["students"]
        )
        height, width, channels = tree["input_shape"]
        return cls((height, width, channels), tree["classes"], tree["label_bytes"], students, tuple(tree["why"]))


@dataclass(frozen=True)
class StepCost:
    """The cost of some steps.

    Attributes:
        weights: Numbers in kernels.
        biases: Numbers in biases and other vectors.
        macs: Multiply-accumulates for one image.
        overhead: Bytes of operators and tensors in a file.
        widths: Numbers of channels, for which zero points are stored once each.
    """

    weights: int = 0
    biases: int = 0
    macs: int = 0
    overhead: int = 0
    widths: frozenset[int] = frozenset()

    def __add__(self, other: "StepCost") -> "StepCost":
        """Add the costs of further steps."""
        return StepCost(
            self.weights + other.weights,
            self.biases + other.biases,
            self.macs + other.macs,
            self.overhead + other.overhead,
            self.widths | other.widths,
        )

    def student(self, features: int, classes: int, label_bytes: int) -> Cost:
        """Compute the cost of a student that ends here with pooling and a dense layer."""
        weights, overhead = self.weights + features * classes, self.overhead + 2 * OPERATOR_BYTES
        return Cost(
            weights + self.biases + classes,
            self.macs + features * classes,
            FILE_BYTES + label_bytes + weights + overhead + LOGIT_BYTES * classes
            + CHANNEL_BYTES * self.biases + WIDTH_BYTES * sum(self.widths),
        )  # fmt: skip


def step_cost(layer: keras.layers.Layer, output: Any) -> StepCost:
    """Compute the cost of one call of a layer.

    Args:
        layer: The layer, of a network without batch normalization.
        output: Its output tensor.
    """
    kind, shape = type(layer).__name__, output.shape
    if hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel"):
        kernel = layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel
        weights, width = math.prod(kernel.shape), shape[-1]
        positions = math.prod(shape[1:-1])
        return StepCost(weights, width, positions * weights, CONVOLUTION_BYTES, frozenset({width}))
    if kind in _WITHOUT_OPERATOR:
        return StepCost()
    if kind == "Add":
        return StepCost(overhead=ADDITION_BYTES)
    vectors = sum(math.prod(weight.shape) for weight in layer.weights)
    return StepCost(biases=vectors, overhead=OPERATOR_BYTES)


def outputs_of(step: Step) -> list:
    """List the output tensors of a step."""
    outputs = step.node.outputs
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
