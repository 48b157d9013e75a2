# SPDX-License-Identifier: Apache-2.0
"""Defines a pruning pass: a class with a name, declared parameters and one method, `run(work, context) -> work`.

The Pruner node reads the configuration, creates the first `Work` and the `Context`, runs the passes of `prune.passes`
in order, each on the result of the previous one, and writes the family of the last one. docs/explanation/pruning.md
shows a pass in a package of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import tf_keras as keras
from pydantic import BaseModel

from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.training.devices.decisions import remembered
from learn2compress.compression.training.devices.distribution import Distribution
from learn2compress.compression.training.joint_trainer import Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config.types import Section
from learn2compress.schemas.manifests import Epoch, Sensitivity

P = TypeVar("P", bound=Section)
R = TypeVar("R", bound=BaseModel)


class PassParameters(Section):
    """Base class of the parameters of a pass: immutable, and undeclared names are refused. It declares no parameters.

    A pass declares its parameters in a subclass, each with a type, a description and, if it is optional, a default:
    `step: float = Field(0.1, gt=0, description="distance of two values")`.
    """


@dataclass(frozen=True)
class Work:
    """The students between two passes. A pass returns a changed copy, by `dataclasses.replace` or the methods below.

    Attributes:
        names: Names of the students, in the order of the outputs, smallest first. A pass does not change them.
        family: Functional tf_keras model from normalized pixels [batch, height, width, channels] float32 to a list of
            logits [batch, classes], one for each student. A pass may change its weights in place, or replace it by
            another model with the same input and outputs.
        spec: Shape of the built-in family; None for students of a user-defined architecture. A pass that changes the
            shape of a layer returns the spec of the new shape, from which bytes and MACs are computed.
        curves: Epochs of all trainings so far.
        notes: Notes for the report and the manifest.
        sensitivity: Sensitivity of each layer and channel group, if it was measured.
        trainings: Number of trainings in this node so far; see `Context.data_for`.
        dictionary: Dictionary of students of texts, as stored with them; None for other students.
        label_bytes: Bytes of the class names in each file.
    """

    names: tuple[str, ...]
    family: keras.Model
    spec: FamilySpec | None
    curves: Sequence[Epoch] = ()
    notes: Sequence[str] = ()
    sensitivity: Sensitivity | None = None
    trainings: int = 0
    dictionary: bytes | None = None
    label_bytes: int = 0

    def with_note(self, note: str) -> "Work":
        """Adds a note for the report and the manifest."""
        return replace(self, notes=[*self.notes, note])

    def after_training(self, curves: Sequence[Epoch]) -> "Work":
        """Counts a training and adds its epochs; the numbering of an earlier training of the same stage is continued.

        Args:
            curves: Epochs that `JointTrainer.train` returned.
        """
        last = {epoch.stage: epoch.epoch for epoch in self.curves}
        added = [epoch.model_copy(update={"epoch": last.get(epoch.stage, 0) + epoch.epoch}) for epoch in curves]
        return replace(self, curves=[*self.curves, *added], trainings=self.trainings + 1)


@dataclass(frozen=True)
class Context:
    """The data, recipe and devices that all passes of a node have in common.

    If several workers train, each of them runs every pass, on the same files and with the same seeds. A decision based
    on measurements must be the same in all workers: see `remembered`.

    Attributes:
        data: Training images with the teacher's logits, and validation images; never test images.
        recipe: Recipe for training with the distillation loss: `dataclasses.replace` its epochs and learning rate. Its
            stage is `pruned`, under which the report plots the epochs.
        checkpoint: Path of the node's checkpoint, which exists again after an interruption; see `file`.
        distribution: Devices and worker processes of the training.
    """

    data: TrainingData
    recipe: Recipe
    checkpoint: Path
    distribution: Distribution

    def file(self, name: str) -> Path:
        """Returns the path of a file of a pass beside the node's checkpoint; it is removed when the node has finished.

        Args:
            name: Name that no other pass uses, such as `my_pass.npz`.
        """
        return self.checkpoint.with_suffix(f".{name}")

    def data_for(self, work: Work) -> TrainingData:
        """Returns the data with the training images in an order that no earlier training of the node has used."""
        return replace(self.data, seed=self.data.seed + work.trainings)

    def remembered(self, name: str, kind: type[R], make: Callable[[], R]) -> R:
        """Makes a decision once: a resumed run and the other workers read it from a file.

        Args:
            name: Name of the file of the decision, such as `my_pass.json`; see `file`.
            kind: Type of the decision.
            make: Makes the decision; called by the chief only, and only if the file does not exist.

        Returns:
            The decision.

        Raises:
            TrainingError: The file is damaged.
        """
        return remembered(self.file(name), kind, make, self.distribution)


class Pass(ABC, Generic[P]):
    """Base class of pruning passes.

    Attributes:
        name: Name of the pass in `prune.passes`, and of its entry point.
        parameters_type: Class that declares its parameters.
        parameters: Parameters of this run.
    """

    name: ClassVar[str]
    parameters_type: ClassVar[type[Section]] = PassParameters

    def __init__(self, parameters: P) -> None:
        self.parameters = parameters

    def check(self, work: Work) -> None:
        """Checks before any training whether the pass can be applied to these students.

        Args:
            work: Students before the first pass.

        Raises:
            Learn2CompressError: The pass cannot be applied; the message names the reason.
        """

    @abstractmethod
    def run(self, work: Work, context: Context) -> Work:
        """Prunes the students.

        Args:
            work: Students, as the previous pass returned them.
            context: Data, recipe, path for checkpoints, and devices.

        Returns:
            The pruned students, with the same names, input and outputs, and finite weights.
        """
