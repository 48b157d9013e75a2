# SPDX-License-Identifier: Apache-2.0
"""A common interface for the architecture of the students: the built-in family, or students of a user's module."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import tf_keras as keras

from learn2compress.compression.family.latency import timed_costs
from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import describe_family, label_bytes, solve_family
from learn2compress.compression.family.spec import Cost, FamilySpec
from learn2compress.compression.quantization.preflight import StudentPlan, describe_preflight, preflight
from learn2compress.compression.students.module import build_students
from learn2compress.compression.students.texts import TextStudents
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.compression.trunk.spec import TrunkSpec
from learn2compress.evaluation.latency.measuring import cached_model
from learn2compress.evaluation.latency.model import LatencyModel
from learn2compress.evaluation.measure import this_host
from learn2compress.modalities.image.modality import image_shape
from learn2compress.schemas.config import Blocks, FamilyConfig, StudentSize
from learn2compress.schemas.errors import StudentModuleError
from learn2compress.schemas.manifests import DEFAULT_MODALITY, LayerQuantization, Task
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.progress import say
from learn2compress.schemas.units import format_count


class Architecture(Protocol):
    """The untrained students, smallest first."""

    @property
    def spec(self) -> FamilySpec | None:
        """Specification of the built-in family; None for students of a user's module."""

    @property
    def source(self) -> ModuleSource | None:
        """Source of the user's module; None for the built-in family."""

    @property
    def chosen(self) -> TrunkSpec | None:
        """Exits of students that are cut out of the teacher's network; None for others."""

    def costs(self) -> dict[str, Cost]:
        """Compute the cost of each student, smallest first."""

    def build(self, seed: int) -> keras.Model:
        """Build the joint model, with one output of logits [batch, classes] float32 per student, from a seed."""

    def prepare(self, data: TrainingData) -> TrainingData:
        """Determine from the training data what depends on it, before the joint model is built; see `dictionary`.

        Returns:
            The data as the students take them.

        Raises:
            FamilyError: The data do not suffice for the requested sizes.
        """

    @property
    def dictionary(self) -> bytes | None:
        """Dictionary of students of texts as it is stored with them, once determined; None for other students."""

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """Find the quantization method of each layer, by student; empty if all are known to be trained for 8 bits."""

    def describe(self) -> str:
        """Describe the students in text, to be printed before the first step."""


class BuiltIn:
    """The nested family of compression/family/spec.py; tfmot supports all its layers, as the tests verify.

    Args:
        spec: The family.
        latency: Latency model of the device for which it was solved; None: no latency was limited.
    """

    source = None
    dictionary = None
    chosen = None

    def __init__(self, spec: FamilySpec, latency: LatencyModel | None = None) -> None:
        self.spec, self.latency = spec, latency

    def costs(self) -> dict[str, Cost]:
        """Compute the costs from the specification."""
        return timed_costs(self.spec, self.latency)

    def build(self, seed: int) -> keras.Model:
        """See `build_family`."""
        return build_family(self.spec, seed)

    def prepare(self, data: TrainingData) -> TrainingData:
        """Return the data unchanged."""
        return data

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """Return an empty mapping, since all layers are known to be trained for 8 bits."""
        return {}

    def describe(self) -> str:
        """Format a table of sizes, with latencies if a device's model is given, or that of this machine is known."""
        return describe_family(self.spec, self.latency or cached_model(this_host()))


class OwnStudents:
    """The students that a user's module builds."""

    spec = None
    dictionary = None
    chosen = None

    def __init__(self, source: ModuleSource, task: Task) -> None:
        self.source, self._shape, self._classes = source, image_shape(task), len(task.classes)

    @property
    def _plans(self) -> Mapping[str, StudentPlan]:
        return _examine(self.source, self._shape, self._classes)

    def costs(self) -> dict[str, Cost]:
        """Return the parameters and MACs of each student's float file; bytes are not predicted."""
        return {name: Cost(plan.parameters, plan.macs) for name, plan in self._plans.items()}

    def build(self, seed: int) -> keras.Model:
        """See `build_students`."""
        return build_students(self.source, self._shape, self._classes, seed)[0]

    def prepare(self, data: TrainingData) -> TrainingData:
        """Return the data unchanged."""
        return data

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """Return the results of compression/quantization/preflight.py."""
        return {name: list(plan.layers) for name, plan in self._plans.items()}

    def describe(self) -> str:
        """Format one line per student."""
        return "\n".join(
            f"{name}: {cost.parameters:,} parameters, {format_count(cost.macs)} MACs"
            for name, cost in self.costs().items()
        )


def _image_family(config: FamilyConfig, task: Task, latency: LatencyModel | None) -> Architecture:
    shape, labels = image_shape(task), label_bytes(task.classes)
    return BuiltIn(solve_once(config.sizes, shape, len(task.classes), labels, config.blocks, latency), latency)


def _text_family(config: FamilyConfig, task: Task, latency: LatencyModel | None) -> Architecture:  # noqa: ARG001
    return TextStudents(config, task)


FAMILIES: dict[str, Callable[[FamilyConfig, Task, LatencyModel | None], Architecture]] = {
    "image": _image_family,
    "text": _text_family,
}
"""Functions that make the default students of each modality."""


def design(
    config: FamilyConfig,
    source: ModuleSource | None,
    task: Task,
    weights: Mapping[str, float],
    latency: LatencyModel | None = None,
) -> Architecture:
    """Determine the architecture of the students; students of a user's module are built and tested for quantization.

    Args:
        config: Sizes of the students, used if there is no module.
        source: Source of the user's module.
        task: The classification task.
        weights: Weights of the students' losses, by name.
        latency: Latency model of the device for which there are limits in milliseconds.

    Raises:
        FamilyError: A size is not feasible.
        StudentModuleError: The module does not satisfy the contract, or a weight names an unknown student.
    """
    if source is None:
        return FAMILIES[task.modality](config, task, latency)
    if task.modality != DEFAULT_MODALITY:
        raise StudentModuleError(
            f"students.module must be left out for {task.modality}; got {source.name}. Its students take images."
        )
    own = OwnStudents(source, task)
    unknown = sorted(set(weights) - set(own.costs()))
    if unknown:
        raise StudentModuleError(
            f"distill.student_weights must name students of {source.name}; got {', '.join(unknown)}. "
            f"They are {', '.join(own.costs())}."
        )
    return own


def solve_once(
    sizes: Mapping[str, StudentSize],
    input_shape: tuple[int, int, int],
    classes: int,
    labels: int,
    blocks: Blocks | None = None,
    latency: LatencyModel | None = None,
) -> FamilySpec:
    """Solve for the specification of the built-in family, see `solve_family`, and cache the result in this process.

    Both the checks before a run and Distiller use it. On a cluster these are separate processes, so Distiller solves
    again.
    """
    return _solve(tuple(sizes.items()), input_shape, classes, labels, blocks or "auto", latency)


@lru_cache(maxsize=4)
def _solve(
    sizes: tuple[tuple[str, StudentSize], ...],
    input_shape: tuple[int, int, int],
    classes: int,
    labels: int,
    blocks: Blocks,
    latency: LatencyModel | None,
) -> FamilySpec:
    return solve_family(dict(sizes), input_shape, classes, labels, blocks, latency)


@lru_cache(maxsize=4)
def _examine(source: ModuleSource, shape: tuple[int, int, int], classes: int) -> dict[str, StudentPlan]:
    """Build the students of a user's module and test them for quantization, once in this process."""
    family, names = build_students(source, shape, classes)
    say(f"Testing each layer of {source.name} for 8-bit quantization …")
    plans = preflight(family, names)
    say(describe_preflight(plans))
    return plans
