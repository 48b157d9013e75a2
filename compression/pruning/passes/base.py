# SPDX-License-Identifier: Apache-2.0
"""What a pruning pass is: a class with a name, declared parameters and one method, `run(work, context) -> work`.

The Pruner node reads the configuration, makes the first `Work` and the `Context`, runs the passes of `prune.passes` in
their order, each on what the one before returned, and writes the family of the last one. docs/pruning.md shows a pass
in a package of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import tf_keras as keras
from pydantic import BaseModel

from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.training.decisions import remembered
from learn2compress.compression.training.distribution import Distribution
from learn2compress.compression.training.joint_trainer import Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config.types import Section
from learn2compress.schemas.manifests import Epoch, Sensitivity

P = TypeVar("P", bound=Section)
R = TypeVar("R", bound=BaseModel)


class PassParameters(Section):
    """The parameters of a pass: immutable, refusing names that are not declared; by itself, none.

    A pass declares its own in a subclass, each with a type, a default where it may be left out, and a description:
    `step: float = Field(0.1, gt=0, description="distance of two values")`.
    """


@dataclass(frozen=True)
class Work:
    """The students between two passes. A pass returns a changed copy: `dataclasses.replace`, or the methods below.

    Attributes:
        names: Names of the students, in the order of the outputs, smallest first. A pass keeps them.
        family: Functional tf_keras model from normalized pixels [batch, height, width, channels] float32 to a list of
            logits [batch, classes], one for each student. A pass may change its weights in place, or put another model
            with the same input and outputs here.
        spec: Shape of the built-in family; None for students of a user's own architecture. A pass that changes the
            shape of a layer returns the spec of the new shape, from which bytes and MACs are computed.
        curves: Epochs of all trainings so far.
        notes: Sentences for the reader of the report and of the manifest.
        sensitivity: How much each layer and channel group matters, where it was measured.
        trainings: Number of trainings in this node so far; see `Context.data_for`.
    """

    names: tuple[str, ...]
    family: keras.Model
    spec: FamilySpec | None
    curves: Sequence[Epoch] = ()
    notes: Sequence[str] = ()
    sensitivity: Sensitivity | None = None
    trainings: int = 0

    def with_note(self, note: str) -> "Work":
        """Adds a sentence for the reader of the report."""
        return replace(self, notes=[*self.notes, note])

    def after_training(self, curves: Sequence[Epoch]) -> "Work":
        """Counts a training, and adds its epochs; those of a stage that was trained before are numbered on from it.

        Args:
            curves: The epochs that `JointTrainer.train` returned.
        """
        last = {epoch.stage: epoch.epoch for epoch in self.curves}
        added = [epoch.model_copy(update={"epoch": last.get(epoch.stage, 0) + epoch.epoch}) for epoch in curves]
        return replace(self, curves=[*self.curves, *added], trainings=self.trainings + 1)


@dataclass(frozen=True)
class Context:
    """What all passes of a node have in common.

    In a training of several workers each of them runs every pass, on the same files and from the same seeds. What a
    pass decides by measuring must be the same in all: see `remembered`.

    Attributes:
        data: Training images with the teacher's logits, and validation images; never test images.
        recipe: How to train with the distillation's loss: `dataclasses.replace` its epochs and learning rate. Its stage
            is `pruned`, the name under which the epochs are drawn.
        checkpoint: Place of the node's checkpoint, which a pass finds again after an interruption; see `file`.
        distribution: Devices, and the processes that train together.
    """

    data: TrainingData
    recipe: Recipe
    checkpoint: Path
    distribution: Distribution

    def file(self, name: str) -> Path:
        """Places a file of a pass beside the node's checkpoint; it is removed once the node has finished.

        Args:
            name: Name that no other pass uses, such as `my_pass.npz`.
        """
        return self.checkpoint.with_suffix(f".{name}")

    def data_for(self, work: Work) -> TrainingData:
        """The data with training images in an order in which no earlier pass of the node has seen them."""
        return replace(self.data, seed=self.data.seed + work.trainings)

    def remembered(self, name: str, kind: type[R], make: Callable[[], R]) -> R:
        """Decides once: an interrupted run and the other workers go on with what was decided.

        Args:
            name: Name of the file that it is written to, such as `my_pass.json`; see `file`.
            kind: Type of the decision.
            make: Makes the decision; called by the chief alone, and only if there is none yet.

        Raises:
            TrainingError: The file is damaged.
        """
        return remembered(self.file(name), kind, make, self.distribution)


class Pass(ABC, Generic[P]):
    """One way to prune students.

    Attributes:
        name: Name of the pass in `prune.passes`, and of its entry point.
        parameters_type: Declaration of its parameters.
        parameters: The parameters of this run.
    """

    name: ClassVar[str]
    parameters_type: ClassVar[type[Section]] = PassParameters

    def __init__(self, parameters: P) -> None:
        self.parameters = parameters

    def check(self, work: Work) -> None:
        """Refuses, before anything is trained, what the pass could not do with these students.

        Args:
            work: The students before the first pass.

        Raises:
            Learn2CompressError: It names what is out of reach.
        """

    @abstractmethod
    def run(self, work: Work, context: Context) -> Work:
        """Prunes the students.

        Args:
            work: What the pass before returned.
            context: Data, recipe, place for checkpoints and devices.

        Returns:
            The students afterwards: the same names, input and outputs, finite weights.
        """
