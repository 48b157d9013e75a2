# SPDX-License-Identifier: Apache-2.0
"""Predicts the latency of each student of a family from the operations of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from learn2compress.compression.family.spec import Block, Cost, CumulativeCost, FamilySpec, Separable, is_residual
from learn2compress.evaluation.latency.model import LatencyModel
from learn2compress.evaluation.latency.operations import Operation, addition, classification, convolution, depthwise
from learn2compress.schemas.errors import FamilyError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class TimedCost(CumulativeCost):
    """The cost of a sequence of blocks with its latency.

    Attributes:
        latency: Latency model of the device.
        milliseconds: Predicted latency of the blocks, by one thread.
    """

    latency: LatencyModel | None = None
    milliseconds: float = 0.0

    def extended(self, blocks: Iterable[Block]) -> TimedCost:
        """Add blocks to the sequence."""
        blocks, shape, milliseconds = tuple(blocks), self.shape, self.milliseconds
        for block in blocks:
            milliseconds += _block_ms(self._model, block, shape)
            shape = _output_shape(block, shape)
        longer = super().extended(blocks)
        base = {field.name: getattr(longer, field.name) for field in fields(CumulativeCost)}
        return TimedCost(**base, latency=self.latency, milliseconds=milliseconds)

    def cost(self, classes: int, label_bytes: int) -> Cost:
        """Compute the cost of a student that ends here; see `CumulativeCost.cost`."""
        end = self._model.file_ms(classification(*self.shape, classes))
        return replace(super().cost(classes, label_bytes), latency_ms=self.milliseconds + end)

    @property
    def _model(self) -> LatencyModel:
        if self.latency is None:
            raise FamilyError("a cost with latency must have a latency model; got none. Give one.")
        return self.latency


def cost_at_image(shape: Shape, latency: LatencyModel | None) -> CumulativeCost:
    """Return the cost of no blocks, to be extended; with a latency model also their latency."""
    return CumulativeCost(shape) if latency is None else TimedCost(shape, latency=latency)


def timed_costs(spec: FamilySpec, latency: LatencyModel | None) -> dict[str, Cost]:
    """Compute the cost of each student, smallest first; with a latency model also its latency."""
    start = cost_at_image(spec.input_shape, latency)
    return {name: start.extended(spec.path(name)).cost(spec.classes, spec.label_bytes) for name in spec.students}


def student_operations(spec: FamilySpec, student: str) -> tuple[Operation, ...]:
    """List the operations of a student's int8 file."""
    shape, found = spec.input_shape, list[Operation]()
    for block in spec.path(student):
        found += block_operations(block, shape)
        shape = _output_shape(block, shape)
    return (*found, *classification(*shape, spec.classes))


def block_operations(block: Block, shape: Shape) -> tuple[Operation, ...]:
    """List the operations of a block in an int8 file.

    Args:
        block: The block.
        shape: (height, width, channels) of its input.
    """
    (height, width, filters), channels, stride = _output_shape(block, shape), shape[2], block.stride
    if isinstance(block, Separable):
        spatial = depthwise(height, width, channels, 3, stride)
        operations = [spatial, convolution(height, width, channels, filters, 1)]
    else:
        operations = [convolution(height, width, channels, filters, getattr(block, "kernel", 3), stride)]
    if is_residual(block, channels):
        operations.append(addition(height, width, filters))
    return tuple(operations)


def _output_shape(block: Block, shape: Shape) -> Shape:
    return math.ceil(shape[0] / block.stride), math.ceil(shape[1] / block.stride), block.filters


@lru_cache(maxsize=1 << 16)
def _block_ms(latency: LatencyModel, block: Block, shape: Shape) -> float:
    return sum(latency.operation_ms(operation) for operation in block_operations(block, shape))
