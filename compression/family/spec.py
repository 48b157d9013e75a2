# SPDX-License-Identifier: Apache-2.0
"""Specification of a student family, and the cost of each student, computed without building a model.

A family is nested in depth. The trunk is that of the largest student; each smaller student leaves it at an earlier
exit, through a tail and a head of its own, and shares all parameters up to this exit:

    image ── stem ── segment 1 ──┬── segment 2 ──┬── segment 3 ── tail ── logits of `large`
                                 │               └── tail ── logits of `medium`
                                 └── tail ── logits of `small`

One forward pass computes all students. The first convolution is dense; all other blocks are depthwise-separable
(arXiv:1704.04861) or fused, and residual (arXiv:1512.03385) if the shape does not change. In a family of separable
blocks, two of them operate at twice the resolution of the trunk, before the last halving in the stem, since small
images consist of fine detail; stages.py has the family that begins with fused blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from learn2compress.schemas.errors import FamilyError

# Bytes of a full-int8 .tflite file in addition to its weights: upper bounds fitted to files in their final form,
# compacted and with metadata (benchmarks/predicted_costs.py).
FILE_BYTES = 2000
CONVOLUTION_BYTES = 246  # the operator, its tensors and the padding of its constants
ADDITION_BYTES = 57
CHANNEL_BYTES = 12  # int32 bias, its scale and the weights' scale
LOGIT_BYTES = 4  # the bias only: a dense layer has a single scale
WIDTH_BYTES = 8  # zero points per channel, stored once for all convolutions with the same number of channels

WIDTH_STEP = 8  # widths are multiples of eight, which the vector units of phones process efficiently
MIN_SIDE = 4  # no convolution below 4x4 pixels
TRUNK_SIDE = 14  # approximate side of the feature maps in the trunk, in pixels
FINE_BLOCKS = 2  # number of blocks of the stem at twice the resolution of the trunk


@dataclass(frozen=True)
class Conv:
    """A dense convolution with batch normalization and ReLU."""

    name: str
    filters: int
    stride: int = 1
    kernel: int = 3


@dataclass(frozen=True)
class Separable:
    """A depthwise 3x3 and a pointwise convolution, each with batch normalization and ReLU.

    The block is residual (its input is added before the last ReLU) if the stride is 1 and the number of channels does
    not change.
    """

    name: str
    filters: int
    stride: int = 1


@dataclass(frozen=True)
class Fused:
    """A dense 3x3 convolution with batch normalization and ReLU, in place of a separable one.

    It is residual under the same conditions as a separable block. A MAC takes a fraction of the time of one of a
    depthwise convolution, in training and on a device, but there are more weights (Fused-MBConv, arXiv:2104.00298).
    """

    name: str
    filters: int
    stride: int = 1


Block = Conv | Fused | Separable


@dataclass(frozen=True)
class Branch:
    """The blocks that one student adds: a segment of the trunk, and a tail of its own."""

    student: str
    segment: tuple[Block, ...]
    tail: tuple[Block, ...]


@dataclass(frozen=True)
class FamilySpec:
    """Specification of a whole family; students are ordered by size, smallest first.

    Attributes:
        input_shape: (height, width, channels) of an image.
        classes: Number of classes.
        stem: Blocks that all students share.
        branches: One branch per student, in the order in which they leave the trunk.
        label_bytes: Bytes of the class names, which each student's file contains, one per line.
    """

    input_shape: tuple[int, int, int]
    classes: int
    stem: tuple[Block, ...]
    branches: tuple[Branch, ...]
    label_bytes: int = 0

    @property
    def students(self) -> tuple[str, ...]:
        """Names of the students, smallest first."""
        return tuple(branch.student for branch in self.branches)

    def path(self, student: str) -> tuple[Block, ...]:
        """Return all blocks between the image and the pooling before the student's logits."""
        index = self.students.index(student)
        trunk = [block for branch in self.branches[: index + 1] for block in branch.segment]
        return (*self.stem, *trunk, *self.branches[index].tail)

    def single(self, student: str) -> FamilySpec:
        """Return a family of this student only: the blocks of its path, under the same names."""
        index = self.students.index(student)
        segment = tuple(block for branch in self.branches[: index + 1] for block in branch.segment)
        return replace(self, branches=(Branch(student, segment, self.branches[index].tail),))

    def to_dict(self) -> dict:
        """Convert to lists, strings and numbers, which `FamilySpec.from_dict` reads."""
        return {
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "label_bytes": self.label_bytes,
            "stem": [_block_to_dict(b) for b in self.stem],
            "branches": [
                {
                    "student": branch.student,
                    "segment": [_block_to_dict(b) for b in branch.segment],
                    "tail": [_block_to_dict(b) for b in branch.tail],
                }
                for branch in self.branches
            ],
        }

    @classmethod
    def from_dict(cls, tree: dict) -> FamilySpec:
        """Read the result of `to_dict`.

        Raises:
            FamilyError: The mapping does not describe a family.
        """
        try:
            return cls(
                input_shape=tuple(tree["input_shape"]),
                classes=tree["classes"],
                stem=tuple(_block_from_dict(b) for b in tree["stem"]),
                branches=tuple(
                    Branch(
                        branch["student"],
                        tuple(_block_from_dict(b) for b in branch["segment"]),
                        tuple(_block_from_dict(b) for b in branch["tail"]),
                    )
                    for branch in tree["branches"]
                ),
                label_bytes=tree["label_bytes"],
            )
        except (KeyError, TypeError) as error:
            raise FamilyError(
                f"a family's description must have input_shape, classes, stem and branches; {error!r}."
            ) from error


@dataclass(frozen=True)
class Cost:
    """Size and compute of a student.

    Attributes:
        parameters: Number of kernel weights and biases, after batch normalization is folded.
        macs: Multiply-accumulates per image.
        int8_bytes: Predicted size of the full-int8 .tflite file; None for students of a user's module, for which the
            size is not predicted.
        latency_ms: Predicted latency of that file, see compression/family/latency.py; None if it is not predicted.
    """

    parameters: int
    macs: int
    int8_bytes: int | None = None
    latency_ms: float | None = None

    @property
    def predicted_bytes(self) -> int:
        """Return `int8_bytes` of a student of the built-in family.

        Raises:
            FamilyError: The size is not predicted.
        """
        if self.int8_bytes is None:
            raise FamilyError(
                "a student's int8 file must have a predicted size; that of a student of your own is not predicted. "
                "Limit its file with select.max_size."
            )
        return self.int8_bytes

    @property
    def predicted_ms(self) -> float:
        """Return `latency_ms` of a student whose latency is predicted.

        Raises:
            FamilyError: The latency is not predicted.
        """
        if self.latency_ms is None:
            raise FamilyError(
                "a student's latency must be predicted by a latency model; got none. Write a table with learn2compress "
                "bench --operations."
            )
        return self.latency_ms


@dataclass(frozen=True)
class CumulativeCost:
    """The cost of a sequence of blocks that starts at the image; longer sequences are computed from shorter ones.

    Attributes:
        shape: (height, width, channels) of the output.
        kernels: Number of weights of the convolutions.
        outputs: Output channels of each convolution.
        macs: Multiply-accumulates per image.
        additions: Number of residual blocks.
    """

    shape: tuple[int, int, int]
    kernels: int = 0
    outputs: tuple[int, ...] = ()
    macs: int = 0
    additions: int = 0

    def extended(self, blocks: Iterable[Block]) -> CumulativeCost:
        """Add blocks to the sequence; convolutions are padded to `same`, so a side n becomes ceil(n / stride)."""
        height, width, channels = self.shape
        kernels, macs, additions, outputs = self.kernels, self.macs, self.additions, list(self.outputs)
        for block in blocks:
            height, width = math.ceil(height / block.stride), math.ceil(width / block.stride)
            weights, own = _kernels(block, channels)
            kernels += weights
            macs += height * width * weights
            additions += is_residual(block, channels)
            outputs += own
            channels = block.filters
        return CumulativeCost((height, width, channels), kernels, tuple(outputs), macs, additions)

    def cost(self, classes: int, label_bytes: int) -> Cost:
        """Compute the cost of a student that consists of these blocks, global average pooling, and logits."""
        logits, channels = self.shape[2] * classes, sum(self.outputs)
        return Cost(
            parameters=self.kernels + channels + logits + classes,
            macs=self.macs + logits,
            int8_bytes=FILE_BYTES
            + label_bytes
            + self.kernels
            + logits
            + CONVOLUTION_BYTES * len(self.outputs)
            + ADDITION_BYTES * self.additions
            + CHANNEL_BYTES * channels
            + LOGIT_BYTES * classes
            + WIDTH_BYTES * sum(set(self.outputs)),
        )


def student_cost(spec: FamilySpec, student: str) -> Cost:
    """Compute the cost of one student from the specification."""
    return CumulativeCost(spec.input_shape).extended(spec.path(student)).cost(spec.classes, spec.label_bytes)


def is_residual(block: Block, input_channels: int) -> bool:
    """Return whether the block adds its input to its output."""
    return not isinstance(block, Conv) and block.stride == 1 and block.filters == input_channels


def family_costs(spec: FamilySpec) -> dict[str, Cost]:
    """Compute the cost of each student, smallest first."""
    return {student: student_cost(spec, student) for student in spec.students}


def shared_parameters(spec: FamilySpec) -> tuple[int, int]:
    """Count the parameters of the whole family, and the sum over its students if nothing were shared."""
    total = sum(cost.parameters for cost in family_costs(spec).values())
    seen: set[tuple[str, int]] = set()
    family = 0
    for student in spec.students:
        channels = spec.input_shape[2]
        for block in spec.path(student):
            if (block.name, channels) not in seen:
                weights, outputs = _kernels(block, channels)
                family += weights + sum(outputs)
                seen.add((block.name, channels))
            channels = block.filters
        family += (channels + 1) * spec.classes
    return family, total


def halvings_of(input_shape: tuple[int, int, int]) -> int:
    """Compute how often the stem halves the image to get to the resolution of the trunk.

    Raises:
        FamilyError: The image is smaller than 4x4.
    """
    side = min(input_shape[:2])
    if side < MIN_SIDE:
        raise FamilyError(
            f"images must be at least {MIN_SIDE}x{MIN_SIDE}; got {input_shape[0]}x{input_shape[1]}. "
            "Set data.height and data.width."
        )
    return max(0, round(math.log2(side / TRUNK_SIDE)))


def make_stem(input_shape: tuple[int, int, int], width: int) -> tuple[Block, ...]:
    """Make the blocks that reduce the image to the resolution of the trunk, about 14 pixels per side.

    Args:
        input_shape: (height, width, channels) of an image.
        width: Channels at the end of the stem.

    Raises:
        FamilyError: The image is smaller than 4x4.
    """
    halvings = halvings_of(input_shape)
    first = round_width(width / 2) if halvings else width
    blocks: list[Block] = [Conv("stem", first, stride=2 if halvings >= 2 else 1)]
    remaining = halvings - (halvings >= 2)
    for step in range(1, remaining + 1):
        if step == remaining:
            blocks += [Separable(f"fine{n}", blocks[-1].filters) for n in range(1, FINE_BLOCKS + 1)]
        filters = round_width(first + (width - first) * step / remaining)
        blocks.append(Separable(f"down{step}", filters, stride=2))
    return tuple(blocks)


def stems(input_shape: tuple[int, int, int]) -> Iterator[tuple[int, tuple[Block, ...]]]:
    """Yield the width at the end of each stem of separable blocks, and its blocks."""
    for width in range(WIDTH_STEP, 6 * WIDTH_STEP + 1, WIDTH_STEP):
        yield width, make_stem(input_shape, width)


def branch_choices(student: str, index: int, side: int, min_width: int, max_width: int = 512) -> Iterator[Branch]:
    """Yield all combinations of a trunk segment and a tail that a student may have.

    Args:
        student: Name of the student.
        index: Index of the student in the family, from 0, which is used in the names of the blocks.
        side: Side of the feature maps at the start of the segment, in pixels.
        min_width: Width of the segment before this one, since the trunk never becomes narrower.
        max_width: Maximum width of the segment.
    """
    width = min_width
    while width <= max_width:
        for stride in (1, 2) if index and side > 3 * MIN_SIDE else (1,):
            here = math.ceil(side / stride)
            for depth in range(1, 7):
                segment = tuple(
                    Separable(f"trunk{index + 1}_{n + 1}", width, stride if n == 0 else 1) for n in range(depth)
                )
                for ratio in (1.0, 1.5, 2.0, 3.0):
                    filters = round_width(width * ratio)
                    tail = Separable(f"{student}_tail1", filters, 2 if here > MIN_SIDE else 1)
                    yield Branch(student, segment, (tail,))
                    if here > MIN_SIDE and filters <= 2 * width:
                        again = 2 if math.ceil(here / 2) > MIN_SIDE else 1
                        yield Branch(student, segment, (tail, Separable(f"{student}_tail2", filters, again)))
        width += WIDTH_STEP if width < 96 else 2 * WIDTH_STEP


def segment_side(side: int, branch: Branch) -> int:
    """Compute the side of the feature maps at the end of a branch's segment, in pixels."""
    for block in branch.segment:
        side = math.ceil(side / block.stride)
    return side


def stem_side(input_shape: tuple[int, int, int], stem: tuple[Block, ...]) -> int:
    """Compute the shorter side of the feature maps at the end of the stem, in pixels."""
    side = min(input_shape[:2])
    for block in stem:
        side = math.ceil(side / block.stride)
    return side


def _kernels(block: Block, channels: int) -> tuple[int, tuple[int, ...]]:
    """Count the weights of a block's convolutions, and the output channels of each."""
    if isinstance(block, Conv):
        return block.kernel**2 * channels * block.filters, (block.filters,)
    if isinstance(block, Fused):
        return 9 * channels * block.filters, (block.filters,)
    return (9 + block.filters) * channels, (channels, block.filters)


def round_width(width: float) -> int:
    """Round to a multiple of `WIDTH_STEP`, at least one."""
    return max(WIDTH_STEP, int(width / WIDTH_STEP + 0.5) * WIDTH_STEP)


def _block_to_dict(block: Block) -> dict:
    return {"kind": type(block).__name__.lower(), **asdict(block)}


def _block_from_dict(tree: dict) -> Block:
    fields = dict(tree)
    kind = {"conv": Conv, "fused": Fused, "separable": Separable}[fields.pop("kind")]
    return kind(**fields)
