# SPDX-License-Identifier: Apache-2.0
"""Measures the exits of a teacher before any training: a linear probe, parameters, bytes and MACs at each input size.

The trunk runs once over the images for each input size; everything else is linear algebra and arithmetic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.spec import Cost
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.trunk.exits import Exit, find_exits
from learn2compress.compression.trunk.folding import fold_batch_norms
from learn2compress.compression.trunk.model import exit_costs, feature_model
from learn2compress.compression.trunk.probes import Probe, fit_probe
from learn2compress.compression.trunk.rebuild import rebuild
from learn2compress.compression.trunk.scaling import with_student_input
from learn2compress.compression.trunk.spec import StepCost
from learn2compress.modalities.image.student_input import ImageStudentInput
from learn2compress.schemas.errors import FamilyError, TeacherError
from learn2compress.schemas.progress import Task as Progress
from learn2compress.schemas.units import format_bytes, format_count

Shape = tuple[int, int, int]
MOST_IMAGES = 2048
"""Images by which exits are measured, at most."""
SIDES = (96, 128, 160, 192, 224, 256, 320, 384)
"""Candidate sides of the students' images; smaller than the teacher's."""
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Trunk:
    """A teacher's network in the form from which students are cut.

    Attributes:
        model: The network in tf_keras with the students' input, without batch normalization.
        exits: Its exits.
        path: Path of the teacher, for messages.
    """

    model: keras.Model
    exits: tuple[Exit, ...]
    path: str

    @property
    def shape(self) -> Shape:
        """(height, width, channels) of the teacher's images."""
        height, width, channels = self.model.input_shape[1:]
        return height, width, channels


def open_trunk(teacher: LoadedTeacher, shape: Shape) -> Trunk:
    """Rebuild a teacher's network, and find its exits.

    Args:
        teacher: The loaded teacher.
        shape: (height, width, channels) of the examples.

    Raises:
        TeacherError: The network cannot be rebuilt, or has no exit.
    """
    own = tuple(side or given for side, given in zip(teacher.opened.input.shape, shape, strict=True))
    height, width, channels = own
    plain = fold_batch_norms(rebuild(teacher.keras_model, teacher.path, (height, width, channels)))
    model = with_student_input(plain, teacher.scaling)
    exits = tuple(find_exits(model))
    if not exits:
        raise TeacherError(
            f"students.from: teacher needs a convolutional network with a place between two blocks through which all "
            f"paths lead; teacher {teacher.path} has none. Set students.from: built_in."
        )
    return Trunk(model, exits, str(teacher.path))


@dataclass(frozen=True, eq=False)
class MeasuredExit:
    """What is known of an exit at an input size.

    Attributes:
        exit: The exit.
        probe: Linear probe on all of its channels.
        features: Pooled features of the images, [images, channels] float32.
        costs: Cost of the trunk, followed by that of each step of the tail.
    """

    exit: Exit
    probe: Probe
    features: np.ndarray = field(repr=False)
    costs: Sequence[StepCost]


@dataclass(frozen=True, eq=False)
class ExitTable:
    """The measured exits by side of the students' images.

    Attributes:
        trunk: The trunk.
        sides: Measured exits of each input size, in the order of the network.
        logits: The teacher's logits of the images, [images, classes].
        labels: Their labels.
        label_bytes: Bytes of the class names in each file.
    """

    trunk: Trunk
    sides: dict[Shape, list[MeasuredExit]]
    logits: np.ndarray
    labels: np.ndarray
    label_bytes: int

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.logits.shape[-1])

    def cost(self, measured: MeasuredExit, channels: int | None = None) -> Cost:
        """Compute the cost of a student at an exit, with some or all channels of its tail's convolution."""
        return student_cost(measured.exit, measured.costs, self.classes, self.label_bytes, channels)


def student_cost(
    place: Exit, costs: Sequence[StepCost], classes: int, label_bytes: int, channels: int | None = None
) -> Cost:
    """Compute the cost of a student at an exit.

    Args:
        place: The exit.
        costs: Costs from `exit_costs`.
        classes: Number of classes.
        label_bytes: Bytes of the class names.
        channels: Number of channels that the tail's convolution keeps; None: all.
    """
    total = costs[0]
    for cost in costs[1:]:
        if channels is not None and channels < place.channels and place.channels in cost.widths:
            cost = StepCost(
                cost.weights * channels // place.channels,
                channels,
                cost.macs * channels // place.channels,
                cost.overhead,
                frozenset({channels}),
            )
        total = total + cost
    return total.student(channels or place.channels, classes, label_bytes)


def sides_for(shape: Shape, wanted: int | None) -> list[Shape]:
    """List the input sizes to measure.

    Args:
        shape: (height, width, channels) of the teacher's images.
        wanted: The only side, if it is given.

    Raises:
        FamilyError: The side is larger than the teacher's.
    """
    height, width, channels = shape
    if wanted is not None:
        if wanted > min(height, width):
            raise FamilyError(
                f"students.input must be at most the side of the teacher's images; got {wanted} for {height}x{width}. "
                "Set a smaller one, or auto."
            )
        smaller = [wanted]
    else:
        smaller = [side for side in SIDES if min(height, width) * 0.4 <= side < min(height, width)]
    ratio = max(height, width) / min(height, width)
    other = [(side, round(side * ratio)) for side in smaller]
    found = [(a, b, channels) if height <= width else (b, a, channels) for a, b in other]
    return found if wanted is not None else [*found, shape]


def exits_at(trunk: Trunk, shape: Shape) -> list[Exit]:
    """List the exits whose feature map has at least four pixels on images of a size."""
    side = min(shape[:2])
    return [one for one in trunk.exits if side >= 2 * one.stride]


def measure_exits(
    trunk: Trunk,
    images: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    sides: Sequence[Shape],
    label_bytes: int,
    wanted: Callable[[Exit, Sequence[StepCost]], bool] = lambda *_: True,
) -> ExitTable:
    """Run the trunk over images at each input size, and fit the linear probes.

    Args:
        trunk: The trunk.
        images: [images, height, width, channels] uint8, at the teacher's size.
        logits: The teacher's logits, [images, classes].
        labels: [images] int64.
        sides: Input sizes.
        label_bytes: Bytes of the class names in each file.
        wanted: Whether an exit is worth measuring, by its costs.

    Raises:
        FamilyError: At an input size the trunk has no exit with pixels left.
    """
    chosen = {}
    for shape in sides:
        exits = exits_at(trunk, shape)
        if not exits:
            raise FamilyError(
                f"students.input must leave pixels at the exits of the teacher; got {shape[0]}x{shape[1]}, at which no "
                "exit has any. Set a larger one."
            )
        costs = exit_costs(trunk.model, exits, shape)
        kept = [one for one in exits if wanted(one, costs[one.name])]
        chosen[shape] = ([*kept] or exits[:1], costs)
    task = Progress("measuring exits: image", len(images) * len(chosen))
    found: dict[Shape, list[MeasuredExit]] = {}
    for shape, (exits, costs) in chosen.items():
        features = _features(trunk, exits, shape, images, task)
        found[shape] = [
            MeasuredExit(one, fit_probe(values, logits, labels), values, costs[one.name])
            for one, values in zip(exits, features, strict=True)
        ]
    return ExitTable(trunk, found, logits, labels, label_bytes)


def describe_table(table: ExitTable) -> str:
    """Format the table: a line for each exit and input size."""
    lines = [f"{'input':>9}  {'exit':<40} {'channels':>8} {'probe':>7} {'parameters':>10} {'int8':>9} {'MACs':>7}"]
    for (height, width, _), rows in table.sides.items():
        for row in rows:
            cost = table.cost(row)
            lines.append(
                f"{f'{height}x{width}':>9}  {row.exit.name:<40} {row.exit.channels:>8} {row.probe.accuracy:>7.1%} "
                f"{cost.parameters:>10,} {format_bytes(cost.predicted_bytes):>9} {format_count(cost.macs):>7}"
            )
    return "\n".join(lines)


def _features(
    trunk: Trunk, exits: Sequence[Exit], shape: Shape, images: np.ndarray, task: Progress
) -> list[np.ndarray]:
    model, inputs = feature_model(trunk.model, exits, shape), ImageStudentInput()
    function = tf.function(
        lambda batch: model(inputs.normalize(inputs.fit(batch, shape)), training=False), autograph=False
    )
    parts: list[list[np.ndarray]] = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        outputs = function(tf.constant(batch))
        parts.append([np.asarray(one) for one in (outputs if isinstance(outputs, list | tuple) else [outputs])])
        task.advance(len(batch))
    return [np.concatenate(one) for one in zip(*parts, strict=True)]
