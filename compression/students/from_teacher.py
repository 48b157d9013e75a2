# SPDX-License-Identifier: Apache-2.0
"""Students that are cut out of the teacher's own network: `students.from: teacher`.

Before the run the network is rebuilt and the budgets are checked by arithmetic. In Distiller the exits are measured on
training images, and each student's exit and the input size are chosen; see compression/trunk/.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.family.spec import Cost
from learn2compress.compression.quantization.preflight import describe_preflight, preflight
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.compression.trunk.choice import (
    LEAST_CHANNELS,
    SLACK,
    Budget,
    budgets_of,
    check_budgets,
    choose_students,
)
from learn2compress.compression.trunk.exits import Exit
from learn2compress.compression.trunk.latency import network_operations
from learn2compress.compression.trunk.model import build_trunk_family, exit_costs, inherited_layers
from learn2compress.compression.trunk.narrowing import family_costs, narrow_family
from learn2compress.compression.trunk.plan import (
    MOST_IMAGES,
    Shape,
    Trunk,
    describe_table,
    exits_at,
    measure_exits,
    open_trunk,
    sides_for,
    student_cost,
)
from learn2compress.compression.trunk.probes import Probe
from learn2compress.compression.trunk.spec import StepCost, TrunkSpec
from learn2compress.data.batches import iter_numpy, read_with_logits
from learn2compress.evaluation.latency.measuring import cached_model
from learn2compress.evaluation.latency.model import LatencyModel
from learn2compress.evaluation.measure import this_host
from learn2compress.modalities.image.modality import image_shape
from learn2compress.modalities.image.student_input import ImageStudentInput
from learn2compress.schemas.config import FamilyConfig
from learn2compress.schemas.errors import FamilyError
from learn2compress.schemas.manifests import LayerQuantization, Task
from learn2compress.schemas.progress import say
from learn2compress.schemas.units import format_bytes, format_count

_INPUTS = ImageStudentInput()
_NARROWING_IMAGES = 256  # by which the importance of channels is measured
# Layers of which the tests verify that tfmot supports them and that their file is full int8.
_KNOWN = frozenset({"Conv2D", "DepthwiseConv2D", "ReLU", "Add", "GlobalAveragePooling2D", "Dense", "InputLayer"})


class StudentsFromTeacher:
    """The family on the teacher's trunk; implements `Architecture`.

    Args:
        trunk: The teacher's network.
        chosen: Exits of the students.
        probes: Linear probe of each student, which begins its logits layer.
        family: The joint model with the teacher's weights, within the budgets.
        table: The measured exits, in text.
    """

    spec = None
    source = None
    dictionary = None

    def __init__(
        self, trunk: Trunk, chosen: TrunkSpec, probes: Mapping[str, Probe], family: keras.Model, table: str = ""
    ) -> None:
        self.trunk, self.chosen, self.probes, self.table = trunk, chosen, probes, table
        self._family = family

    def costs(self) -> dict[str, Cost]:
        """Compute the cost of each student by arithmetic."""
        return family_costs(self._family, self.chosen.names, self.chosen.label_bytes)

    def build(self, seed: int) -> keras.Model:  # noqa: ARG002 - no weight is random
        """Copy the family, whose heads are the linear probes."""
        copy = keras.models.clone_model(self._family)
        copy.set_weights(self._family.get_weights())
        return copy

    def prepare(self, data: TrainingData) -> TrainingData:
        """Return the data unchanged; their shape is that of the students."""
        return data

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """Find the quantization method of each layer, by trials unless all are known to be trained for 8 bits."""
        family = self.build(0)
        if all(type(layer).__name__ in _KNOWN for layer in family.layers):
            return {}
        say("Testing each layer of the teacher's network for 8-bit quantization …")
        plans = preflight(family, self.chosen.names)
        say(describe_preflight(plans))
        return {name: list(plan.layers) for name, plan in plans.items()}

    def inherited(self, family: keras.Model) -> set[str]:
        """Name the layers that begin with the teacher's weights."""
        return inherited_layers(family, self.chosen)

    def describe(self) -> str:
        """Format the table of the measured exits, the reasons for the choice, one line per student, and latencies if
        those of this machine are known.
        """
        latency = cached_model(this_host())
        return "\n".join([self.table, *self.chosen.why, *(self._latencies(latency) if latency else ())])

    def _latencies(self, latency: LatencyModel) -> Iterator[str]:
        """Write the predicted latencies in a line, unless a student has a layer whose latency is not known."""
        found = []
        for name, student in cut_students(self._family, self.chosen.names).items():
            operations = network_operations(student)
            if operations is None:
                return
            found.append(f"{name} {latency.file_ms(operations):.3g} ms")
        yield f"latency of one thread on {latency.device} with {latency.runtime}, about: {', '.join(found)}"


def check_trunk(teacher: LoadedTeacher, sha256: str, config: FamilyConfig, task: Task) -> str:
    """Check before a run that students can be cut out of a teacher.

    Args:
        teacher: The loaded teacher.
        sha256: Digest of its file.
        config: Section `students`.
        task: The classification task.

    Returns:
        A description of the network's exits.

    Raises:
        TeacherError: The network cannot be rebuilt.
        FamilyError: A budget is below the smallest exit.
    """
    trunk = open_once(teacher, sha256, image_shape(task))
    failure: FamilyError | None = None
    for shape in sides_for(trunk.shape, config.input):
        exits, costs = _costs(trunk, shape)
        try:
            if not exits:
                raise FamilyError(
                    f"students.input must leave pixels at the exits of the teacher; got {shape[0]}x{shape[1]}, at "
                    "which none has any. Set a larger one."
                )
            check_budgets(trunk, _budgets(config, trunk), costs, len(task.classes), label_bytes(task.classes))
        except FamilyError as error:
            failure = failure or error
            continue
        return f"{len(trunk.exits)} exits were found in the teacher's network"
    assert failure is not None
    raise failure


def plan_students(
    teacher: LoadedTeacher,
    sha256: str,
    config: FamilyConfig,
    task: Task,
    images: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
) -> StudentsFromTeacher:
    """Measure the exits on images, and choose those of the students.

    Args:
        teacher: The loaded teacher.
        sha256: Digest of its file.
        config: Section `students`.
        task: The classification task.
        images: [images, height, width, channels] uint8 training images.
        logits: The teacher's logits, [images, classes].
        labels: [images] int64.

    Raises:
        TeacherError: The network cannot be rebuilt.
        FamilyError: A budget is below the smallest exit.
    """
    trunk = open_once(teacher, sha256, image_shape(task))
    budgets, classes, names = _budgets(config, trunk), len(task.classes), label_bytes(task.classes)

    def wanted(place: Exit, costs: Sequence[StepCost]) -> bool:
        least = student_cost(place, costs, classes, names, LEAST_CHANNELS if place.trims else None)
        return any(budget.widened(1 + SLACK).allows(least) for budget in budgets)

    table = measure_exits(trunk, images, logits, labels, sides_for(trunk.shape, config.input), names, wanted)
    for slack in (SLACK, SLACK / 3, 0.0):
        chosen, probes = choose_students(table, budgets, slack)
        heads = {name: (probe.kernel, probe.bias) for name, probe in probes.items()}
        family = build_trunk_family(trunk.model, chosen, heads)
        few = slice(0, _NARROWING_IMAGES)
        shown = np.asarray(_INPUTS.fit(tf.constant(images[few]), chosen.input_shape))
        by_name = {budget.student: budget for budget in budgets}
        try:
            family, left = narrow_family(family, chosen.names, by_name, shown, logits[few], names)
            break
        except FamilyError:  # too many channels would have to go: choose exits that exceed their budgets by less
            if not slack:
                raise
    costs = family_costs(family, chosen.names, names)
    chosen = replace(chosen, why=(*chosen.why, *(_describe(name, costs[name], left[name]) for name in chosen.names)))
    return StudentsFromTeacher(trunk, chosen, probes, family, describe_table(table))


def _describe(name: str, cost: Cost, left: float) -> str:
    return (
        f"{name}: {cost.parameters:,} parameters, {format_bytes(cost.predicted_bytes)} in int8, "
        f"{format_count(cost.macs)} MACs, with {left:.0%} of the channels of its part of the teacher"
    )


def read_probe_images(examples: str | Path, logits: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the training images by which exits are measured, at most `MOST_IMAGES`.

    Args:
        examples: Folder of the `Examples` artifact.
        logits: Folder of the `TeacherLogits` artifact.

    Returns:
        Images [images, height, width, channels] uint8, logits of the unchanged image [images, classes], labels.
    """
    images, outputs, labels = [], [], []
    count = 0
    for batch in iter_numpy(read_with_logits(examples, logits, "train", 64)):
        images.append(batch["example"])
        outputs.append(batch["logits"][:, 0])
        labels.append(batch["label"])
        count += len(batch["label"])
        if count >= MOST_IMAGES:
            break
    return (
        np.concatenate(images)[:MOST_IMAGES],
        np.concatenate(outputs)[:MOST_IMAGES],
        np.concatenate(labels)[:MOST_IMAGES],
    )


_opened: dict[tuple, Trunk] = {}


def open_once(teacher: LoadedTeacher, sha256: str, shape: Shape) -> Trunk:
    """Rebuild a teacher's network, see `open_trunk`, once in this process for the same file."""
    key = (sha256, str(teacher.scaling), shape)
    if key not in _opened:
        _opened.clear()
        _opened[key] = open_trunk(teacher, shape)
    return _opened[key]


def _budgets(config: FamilyConfig, trunk: Trunk) -> list[Budget]:
    _, costs = _costs(trunk, trunk.shape)
    last = trunk.exits[-1]
    return budgets_of(config.sizes, student_cost(last, costs[last.name], 1, 0))


def _costs(trunk: Trunk, shape: Shape) -> tuple[list[Exit], dict[str, list[StepCost]]]:
    exits = exits_at(trunk, shape)
    return exits, exit_costs(trunk.model, exits, shape) if exits else {}
