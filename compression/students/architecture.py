# SPDX-License-Identifier: Apache-2.0
"""What depends on the students' architecture, behind one interface: the built-in family, or a user's own students."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import tf_keras as keras

from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import describe_family, label_bytes, solve_family
from learn2compress.compression.family.spec import Cost, FamilySpec, family_costs
from learn2compress.compression.quantization.preflight import StudentPlan, describe_preflight, preflight
from learn2compress.compression.students.module import build_students
from learn2compress.modalities.image.modality import image_shape
from learn2compress.schemas.config import FamilyConfig, StudentSize
from learn2compress.schemas.errors import StudentModuleError
from learn2compress.schemas.manifests import LayerQuantization, Task
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.progress import say
from learn2compress.schemas.units import format_count


class Architecture(Protocol):
    """Students as they are before training, smallest first."""

    @property
    def spec(self) -> FamilySpec | None:
        """The built-in family's shape; None for students that are a user's own."""

    @property
    def source(self) -> ModuleSource | None:
        """The text of a user's module; None for the built-in family."""

    def costs(self) -> dict[str, Cost]:
        """By student, smallest first."""

    def build(self, seed: int) -> keras.Model:
        """The joint model, an output of logits a student; equal seeds give equal weights."""

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """How each layer will come to 8 bits, by student; empty where it is known that all are trained for it."""

    def describe(self) -> str:
        """For a person, before the first step."""


class BuiltIn:
    """The nested family of compression/family/spec.py. Its layers are known to tfmot: our tests prove its files."""

    source = None

    def __init__(self, spec: FamilySpec) -> None:
        self.spec = spec

    def costs(self) -> dict[str, Cost]:
        """From arithmetic alone."""
        return family_costs(self.spec)

    def build(self, seed: int) -> keras.Model:
        """See `build_family`."""
        return build_family(self.spec, seed)

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """Nothing to find out."""
        return {}

    def describe(self) -> str:
        """A table of sizes."""
        return describe_family(self.spec)


class OwnStudents:
    """What a user's module builds."""

    spec = None

    def __init__(self, source: ModuleSource, task: Task) -> None:
        self.source, self._shape, self._classes = source, image_shape(task), len(task.classes)

    @property
    def _plans(self) -> Mapping[str, StudentPlan]:
        return _examine(self.source, self._shape, self._classes)

    def costs(self) -> dict[str, Cost]:
        """Counted in each student's float file; bytes are not predicted."""
        return {name: Cost(plan.parameters, plan.macs) for name, plan in self._plans.items()}

    def build(self, seed: int) -> keras.Model:
        """See `build_students`."""
        return build_students(self.source, self._shape, self._classes, seed)[0]

    def preflight(self) -> dict[str, list[LayerQuantization]]:
        """See compression/quantization/preflight.py."""
        return {name: list(plan.layers) for name, plan in self._plans.items()}

    def describe(self) -> str:
        """A line a student."""
        return "\n".join(
            f"{name}: {cost.parameters:,} parameters, {format_count(cost.macs)} MACs"
            for name, cost in self.costs().items()
        )


def _image_family(sizes: Mapping[str, StudentSize], task: Task) -> Architecture:
    return BuiltIn(solve_once(sizes, image_shape(task), len(task.classes), label_bytes(task.classes)))


FAMILIES: dict[str, Callable[[Mapping[str, StudentSize], Task], Architecture]] = {"image": _image_family}
"""What makes the default students of each modality."""


def design(config: FamilyConfig, source: ModuleSource | None, task: Task, weights: Mapping[str, float]) -> Architecture:
    """The students that are asked for; a user's own are built and tried, and what was found is said once.

    Args:
        config: Sizes, where there is no module.
        source: Of the user's module.
        task: What is classified.
        weights: Of the students' losses, by name.

    Raises:
        FamilyError: A size is out of reach.
        StudentModuleError: The module does not keep to the contract, or a weight is that of no student.
    """
    if source is None:
        return FAMILIES[task.modality](config.sizes, task)
    own = OwnStudents(source, task)
    unknown = sorted(set(weights) - set(own.costs()))
    if unknown:
        raise StudentModuleError(
            f"distill.student_weights must name students of {source.name}; got {', '.join(unknown)}. "
            f"They are {', '.join(own.costs())}."
        )
    return own


def solve_once(
    sizes: Mapping[str, StudentSize], input_shape: tuple[int, int, int], classes: int, labels: int
) -> FamilySpec:
    """Solves the built-in family's shape, once in this process: before the run, and in Distiller. See `solve_family`.

    A step on a cluster has not looked at the data before, and solves it for itself.
    """
    return _solve(tuple(sizes.items()), input_shape, classes, labels)


@lru_cache(maxsize=4)
def _solve(
    sizes: tuple[tuple[str, StudentSize], ...], input_shape: tuple[int, int, int], classes: int, labels: int
) -> FamilySpec:
    return solve_family(dict(sizes), input_shape, classes, labels)


@lru_cache(maxsize=4)
def _examine(source: ModuleSource, shape: tuple[int, int, int], classes: int) -> dict[str, StudentPlan]:
    """Builds and tries a user's students, once in this process."""
    family, names = build_students(source, shape, classes)
    say(f"Trying each layer of {source.name} for 8 bits …")
    plans = preflight(family, names)
    say(describe_preflight(plans))
    return plans
