# SPDX-License-Identifier: Apache-2.0
"""Blocks by stage: dense convolutions where channels are few and pixels many, separable ones where channels are many.

A depthwise convolution needs few MACs, but each of them takes several times as long as one of a dense convolution, in
training and on a device, and a separable block has two feature maps to normalize where a fused one has one. With few
channels a dense 3x3 convolution has few weights, so the first stages are fused (EfficientNetV2, arXiv:2104.00298) and
the later ones separable. The two smallest students compute at the resolution of the trunk; those behind them leave it,
except for the largest one, which may need its MACs. Among the branches of this grid, the solver prefers those with more
parameters and MACs that take less time to train.
"""

import math
from collections.abc import Iterator

from learn2compress.compression.family.spec import (
    MIN_SIDE,
    WIDTH_STEP,
    Block,
    Branch,
    Conv,
    Cost,
    Fused,
    Separable,
    halvings_of,
    round_width,
)
from learn2compress.compression.family.training_time import training_ns

BY_STAGE_SIDE = math.inf  # pixels: with `auto`, images at least this large get blocks by stage; so far none do
MAX_FUSED_WIDTH = 96  # with more channels, the weights of a dense 3x3 convolution take most of a budget
LEAST_STEM_WIDTH = 16
FEW_PIXELS_SIDE = 10  # the trunk begins at 10 to 20 pixels a side; with more pixels than this they are many
FIRST_STUDENTS = 2  # so many may compute where pixels are many; behind them the trunk has many channels
MAX_DEPTH, MAX_FUSED_DEPTH = 6, 3  # blocks of a segment
STAGE_EXPONENT = 0.6  # MACs grow at least as this power of bytes

# Weights of the score, of logarithms. At equal bytes a student is better with more parameters and more MACs, and a
# family with less training time leaves time for more epochs.
TIME_WEIGHT, MACS_WEIGHT, PARAMETER_WEIGHT = 0.3, 0.15, 0.5
TAIL_WEIGHT, TAIL_FRACTION = 10, 0.02  # tails that take a larger fraction of the largest student's time are penalized
TIME_EXPONENT = 0.6  # training time grows about as this power of bytes
FIRST_WEIGHT, FIRST_DENSITY = 0.7, 0.7  # the smallest student computes at the resolution of the trunk
LAST_DENSITY, MACS_RATIO = 0.5, 4.2  # the largest computes at half of it, with so many times the MACs of the smallest


def stage_stems(input_shape: tuple[int, int, int]) -> Iterator[tuple[int, tuple[Block, ...]]]:
    """Yield the width at the end of each stem, and its blocks: a convolution, and fused blocks with stride 2."""
    halvings = halvings_of(input_shape)
    for width in range(WIDTH_STEP, 6 * WIDTH_STEP + 1, WIDTH_STEP):
        first = max(round_width(width / 2), min(width, LEAST_STEM_WIDTH)) if halvings else width
        blocks: list[Block] = [Conv("stem", first, stride=2 if halvings >= 2 else 1)]
        remaining = halvings - (halvings >= 2)
        for step in range(1, remaining + 1):
            filters = round_width(first + (width - first) * step / remaining)
            blocks.append(Fused(f"down{step}", filters, stride=2))
        yield width, tuple(blocks)


def stage_branches(
    student: str, index: int, side: int, min_width: int, last: bool = False, max_width: int = 512
) -> Iterator[Branch]:
    """Yield all combinations of a trunk segment and a tail that a student may have, by width of the segment.

    Args:
        student: Name of the student.
        index: Index of the student in the family, from 0, which is used in the names of the blocks.
        side: Side of the feature maps at the start of the segment, in pixels.
        min_width: Width of the segment before this one, since the trunk never becomes narrower.
        last: Whether this is the largest student.
        max_width: Maximum width of the segment.
    """
    width = min_width
    while width <= max_width:
        for stride in (1, 2) if index and side > MIN_SIDE + 1 and width >= 1.5 * min_width else (1,):
            here = math.ceil(side / stride)
            if here > FEW_PIXELS_SIDE and stride == 1 and not (index < FIRST_STUDENTS or last):
                continue
            fused = here > FEW_PIXELS_SIDE and width <= MAX_FUSED_WIDTH
            kind, deepest = (Fused, MAX_FUSED_DEPTH) if fused else (Separable, MAX_DEPTH)
            for depth in range(1, deepest + 1):
                segment = tuple(kind(f"trunk{index + 1}_{n + 1}", width, stride if n == 0 else 1) for n in range(depth))
                for tail in _tails(student, width, here):
                    yield Branch(student, segment, tail)
        width += WIDTH_STEP if width < 96 else 2 * WIDTH_STEP


def _tails(student: str, width: int, side: int) -> Iterator[tuple[Block, ...]]:
    """Yield separable blocks between the trunk and the logits."""
    for ratio in (1.0, 1.5, 2.0, 3.0):
        filters = round_width(width * ratio)
        first = Separable(f"{student}_tail1", filters, 2 if side > MIN_SIDE else 1)
        yield (first,)
        if side > MIN_SIDE and filters <= 2 * width:
            again = 2 if math.ceil(side / 2) > MIN_SIDE else 1
            yield first, Separable(f"{student}_tail2", filters, again)


def stage_score(
    cost: Cost,
    branch: Branch,
    shape: tuple[int, int, int],
    trunk_ns: float,
    growth: float | None,
    limits_bytes: bool,
    first: bool,
    retry: float = 0.0,
) -> float:
    """Score a branch, less is better: prefer much compute and many parameters in little time, and thin tails.

    Args:
        cost: Cost of the student.
        branch: Its segment and tail.
        shape: (height, width, channels) where the segment begins.
        trunk_ns: Training time up to there, see `training_ns`.
        growth: Ratio of the budget of the largest student to this one's; None if they are not comparable.
        limits_bytes: Whether the budget is one of bytes; with one of MACs, the bytes are not to grow without need.
        first: Whether this is the smallest student.
        retry: Above 0 if the MACs of the largest student were too few: those of the smallest are to be fewer by three
            times this fraction.
    """
    segment, end = training_ns(shape, branch.segment)
    tail = training_ns(end, branch.tail)[0]
    whole = trunk_ns + segment + tail
    score = TIME_WEIGHT * math.log(whole)
    if limits_bytes:
        score -= MACS_WEIGHT * math.log(cost.macs) + PARAMETER_WEIGHT * math.log(cost.parameters)
    if growth != 1:
        # Only the tails add to the cost of joint training beyond that of the largest student.
        score += TAIL_WEIGHT * max(0.0, tail / (whole * (growth or 1.0) ** TIME_EXPONENT) - TAIL_FRACTION)
    if first:
        density = FIRST_DENSITY if growth is None else min(FIRST_DENSITY, LAST_DENSITY * growth / MACS_RATIO)
        target = (1 - 3 * retry) * density * min(shape[:2]) ** 2 * cost.parameters
        score += (FIRST_WEIGHT + 10 * retry) * abs(math.log(cost.macs / target))
    return score
