# SPDX-License-Identifier: Apache-2.0
"""Estimates how long a training step of a family takes, from MACs, normalized values and convolutions."""

import math
from collections.abc import Iterable

from learn2compress.compression.family.spec import Block, Conv, FamilySpec, Separable, is_residual

# Nanoseconds of a training step for an image, forward and backward, on two cores at batch 128, fitted to the steps of
# five families.
_NS_PER_MAC = {"dense": 0.019, "pointwise": 0.023, "depthwise": 0.125}
_NS_PER_NORMALIZED = 2.35  # batch normalization and ReLU, a value of the feature map
_NS_PER_ADDED = 0.42
_NS_PER_CONVOLUTION = 1200


def training_ns(shape: tuple[int, int, int], blocks: Iterable[Block]) -> tuple[float, tuple[int, int, int]]:
    """Estimate the time of a training step for blocks behind a feature map, and their output's shape.

    Args:
        shape: (height, width, channels) of the input.
        blocks: Blocks, one behind the other.

    Returns:
        Nanoseconds for an image, of which only the ratios mean something on another machine, and the output's shape.
    """
    height, width, channels = shape
    spent = 0.0
    for block in blocks:
        height, width = math.ceil(height / block.stride), math.ceil(width / block.stride)
        pixels = height * width
        normalized = block.filters
        spent += _NS_PER_CONVOLUTION * (2 if isinstance(block, Separable) else 1)
        if isinstance(block, Separable):
            spent += pixels * channels * (9 * _NS_PER_MAC["depthwise"] + block.filters * _NS_PER_MAC["pointwise"])
            normalized += channels
        else:
            kernel = block.kernel if isinstance(block, Conv) else 3
            spent += pixels * kernel**2 * channels * block.filters * _NS_PER_MAC["dense"]
        spent += pixels * normalized * _NS_PER_NORMALIZED
        spent += is_residual(block, channels) * pixels * block.filters * _NS_PER_ADDED
        channels = block.filters
    return spent, (height, width, channels)


def relative_step_times(spec: FamilySpec) -> tuple[dict[str, float], float]:
    """Estimate the time of a step of each student alone, and of all together, relative to the largest alone.

    Blocks that several students share are computed once in a step of all.
    """
    alone: dict[str, float] = {}
    trunk, shape = training_ns(spec.input_shape, spec.stem)
    tails = 0.0
    for branch in spec.branches:
        segment, shape = training_ns(shape, branch.segment)
        trunk += segment
        tail = training_ns(shape, branch.tail)[0]
        tails += tail
        alone[branch.student] = trunk + tail
    largest = alone[spec.students[-1]]
    return {student: time / largest for student, time in alone.items()}, (trunk + tails) / largest
