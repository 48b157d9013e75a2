# SPDX-License-Identifier: Apache-2.0
"""The node that makes the students thinner and sparser while they go on learning from the teacher.

Enters: the examples, the teacher's logits, the distilled students. Leaves: `StudentSet`, stage pruned; the family still
shares its parameters. The lineage records the targets asked for, the sparsity reached, and each student's parameters
and validation accuracy.

With the parameter `student` it handles that one alone, cut out of the family, so that several can be pruned at once.

Two stages, each optional and each with a checkpoint of its own: whole channels first, then zeros in the kernels. Before
each it is measured, on a few validation images, which of them matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tf_keras as keras
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from learn2compress.components.execution.checkpoints import checkpoint_path, remembered
from learn2compress.components.execution.coordination import call_workers
from learn2compress.components.execution.properties import describe_students
from learn2compress.components.execution.recipe import BEYOND_LOSS, training_recipe
from learn2compress.components.execution.trained_teacher import teaching_logits
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.pruning.channel_pruning import ChannelPlan, plan_channels, remove_channels
from learn2compress.compression.pruning.channel_targets import check_reachable, describe_widths, target_alone
from learn2compress.compression.pruning.magnitude import healing_epoch, prunable_layers, prune_while_training
from learn2compress.compression.pruning.sensitivity import layer_sensitivity
from learn2compress.compression.pruning.sparsity_allocation import spread_sparsity
from learn2compress.compression.students.files import load_family, module_of, student_costs, write_students
from learn2compress.compression.students.single_student import single_student
from learn2compress.compression.training.curves import read_curves
from learn2compress.compression.training.distribution import Distribution, open_distribution
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas import parameters
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig
from learn2compress.schemas.manifests import Epoch, Sensitivity, StudentSetManifest, read_manifest
from learn2compress.schemas.progress import say

_AVERAGE_DECAY = 0.9  # short: the masks move while weights are averaged


class PrunerSpec(component_spec.ComponentSpec):
    """The node's interface."""

    PARAMETERS = {
        **parameters.declare(prune=PruneConfig, distill=DistillConfig, without=BEYOND_LOSS),
        "student": component_spec.ExecutionParameter(type=str, optional=True),
        "seed": component_spec.ExecutionParameter(type=int),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "teacher_logits": component_spec.ChannelParameter(type=TeacherLogits),
        "students": component_spec.ChannelParameter(type=StudentSet),
        "trained_teacher_logits": component_spec.ChannelParameter(type=TeacherLogits),
    }
    OUTPUTS = {"pruned_students": component_spec.ChannelParameter(type=StudentSet)}


class PrunerExecutor(base_executor.BaseExecutor):
    """Prunes the family while it trains, and writes each student."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        config = parameters.decode(PruneConfig, "prune", exec_properties)
        distill = parameters.decode(DistillConfig, "distill", exec_properties)
        distribution = open_distribution(distill.strategy)
        call_workers(distribution, "Pruner", input_dict, exec_properties)
        seed = int(exec_properties["seed"])
        examples = artifact_utils.get_single_uri(input_dict["examples"])
        logits = teaching_logits(input_dict)
        source = artifact_utils.get_single_uri(input_dict["students"])
        output = artifact_utils.get_single_instance(output_dict["pruned_students"])
        before = read_manifest(source, StudentSetManifest)
        family, notes = load_family(source, before), [*before.notes]
        if student := exec_properties.get("student"):
            if distill.in_place_weight and student != before.students[-1].name:
                notes.append("cut out of the family before it was pruned: no larger student teaches it any more")
            shape = before.family_spec
            family, before = single_student(family, before, student)
            if config.channels and shape:
                target = target_alone(FamilySpec.from_dict(shape), config.channels, student)
                config = config.model_copy(update={"channels": target})
        spec = FamilySpec.from_dict(before.family_spec) if before.family_spec else None
        costs = student_costs(before)
        work = _Work(tuple(costs), family, spec, read_curves(source), notes)
        accuracy = {student.name: student.validation_accuracy for student in before.students}
        checkpoint = checkpoint_path(output, input_dict, exec_properties)
        if config.channels and spec:
            check_reachable(spec, config.channels)  # before anything is trained
        # Batches in another order than the Distiller's last epochs.
        data = TrainingData.open(examples, logits, distill.batch_size, seed + 1)
        setup = _Setup(config, distill, data, checkpoint, distribution)
        work = _sparsify(_thin(work, setup), setup)
        if not distribution.is_chief:
            return
        if work.trained:
            accuracy = work.trained.accuracy(data.validation())
        manifest = write_students(
            output.uri,
            work.family,
            task=before.task,
            stage="pruned",
            teacher_sha256=before.teacher_sha256,
            spec=work.spec,
            costs=family_costs(work.spec) if work.spec else costs,
            accuracy=accuracy,
            curves=work.curves,
            seed=seed,
            notes=work.notes,
            source=module_of(source, before),
            preflight={student.name: student.preflight for student in before.students},
            sensitivity=work.sensitivity,
            initialization=before.initialization,
        )
        describe_students(output, manifest)
        for file in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
            file.unlink()


class Pruner(base_component.BaseComponent):
    """`StudentSet`: the family with zeros in it."""

    SPEC_CLASS = PrunerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(PrunerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        teacher_logits: types.BaseChannel,
        trained_teacher_logits: types.BaseChannel,
        students: types.BaseChannel,
        prune: PruneConfig,
        distill: DistillConfig,
        student: str | None = None,
        seed: int = 0,
        code_version: str = "",
    ) -> None:
        """Builds the node.

        Args:
            examples: Of ImageExampleGen.
            teacher_logits: Of TeacherImporter.
            trained_teacher_logits: Of Distiller: they teach instead where the teacher was trained along.
            students: Of Distiller.
            prune: What and how.
            distill: Whose loss goes on.
            student: The only one of the set that it handles, cut out of the family; None: all of them, as a family.
            seed: Of the order of images.
            code_version: Changes when the node's results do.
        """
        spec = PrunerSpec(
            **parameters.encode(prune=prune, distill=distill, without=BEYOND_LOSS),
            **({} if student is None else {"student": student}),
            examples=examples,
            teacher_logits=teacher_logits,
            trained_teacher_logits=trained_teacher_logits,
            students=students,
            seed=seed,
            code_version=code_version,
            pruned_students=types.Channel(type=StudentSet),
        )
        super().__init__(spec=spec)


@dataclass(frozen=True)
class _Setup:
    """What the stages have in common: settings, images, where the checkpoints lie, and the devices."""

    config: PruneConfig
    distill: DistillConfig
    data: TrainingData
    checkpoint: Path
    distribution: Distribution


@dataclass(frozen=True)
class _Work:
    """What the stages hand on.

    Attributes:
        names: The students, in the order of the outputs.
        family: The joint model.
        spec: Its shape; None for students that are not of the built-in family.
        curves: The training so far.
        notes: What a reader of the report should know.
        sensitivity: What was measured.
        trained: By the last stage that trained.
    """

    names: tuple[str, ...]
    family: keras.Model
    spec: FamilySpec | None
    curves: list[Epoch]
    notes: list[str]
    sensitivity: Sensitivity | None = None
    trained: JointTrainer | None = field(default=None, repr=False)


def _thin(work: _Work, setup: _Setup) -> _Work:
    """Removes channels, and lets the rest recover."""
    config, data, distribution = setup.config, setup.data, setup.distribution
    if config.channels is None:
        return work
    if work.spec is None:
        return replace(work, notes=[*work.notes, "no channels were removed: the students' shape is not ours to change"])
    settings = _recipe(setup, work.names)
    images, labels = data.first_validation(config.sensitivity_images)
    plan = remembered(
        setup.checkpoint.with_suffix(".channels.json"),
        ChannelPlan,
        lambda: plan_channels(
            work.family, work.spec, config, data.epoch(0), images, labels, settings.loss, settings.student_weights
        ),
        distribution,
    )
    family, spec = remove_channels(work.family, work.spec, plan, data.epoch(0))
    say(describe_widths(work.spec, spec))
    settings = replace(
        settings,
        stage="thinned",
        epochs=config.channel_epochs,
        learning_rate=config.channel_learning_rate,
        choose_from=0,
    )
    model = distribution.spread(family)
    trainer = JointTrainer(model, work.names, settings, distribution=distribution)
    curves = trainer.train(data.epoch, data.validation(), setup.checkpoint.with_suffix(".channels.npz"))
    distribution.gather(model, family)
    return replace(
        work,
        family=family,
        spec=spec,
        curves=[*work.curves, *curves],
        notes=[*work.notes, f"{config.criterion} pruning of {describe_widths(work.spec, spec)}"],
        sensitivity=Sensitivity(images=len(images), layers=[], channels=plan.sensitivity) if len(images) else None,
        trained=trainer,
    )


def _sparsify(work: _Work, setup: _Setup) -> _Work:
    """Measures the layers, and makes the smallest weights zero while training goes on."""
    config, data, distribution = setup.config, setup.data, setup.distribution
    sparsity: float | dict[str, float] = config.sparsity if prunable_layers(work.family) else 0.0
    images, labels = data.first_validation(config.sensitivity_images)
    if len(images):
        measured = remembered(
            setup.checkpoint.with_suffix(".layers.json"),
            Sensitivity,
            lambda: Sensitivity(images=len(images), layers=layer_sensitivity(work.family, work.names, images, labels)),
            distribution,
        )
        channels = work.sensitivity.channels if work.sensitivity else []
        if sparsity:
            sparsity = spread_sparsity(measured.layers, sparsity, work.names)
            given = [layer.model_copy(update={"sparsity": sparsity.get(layer.layer)}) for layer in measured.layers]
            measured = measured.model_copy(update={"layers": given})
        work = replace(work, sensitivity=measured.model_copy(update={"channels": channels}))
    if not sparsity:
        why = "is possible: no layer suits it" if config.sparsity else "was asked for"
        return replace(work, notes=[*work.notes, f"no magnitude pruning {why}"])
    model = distribution.spread(work.family)
    with distribution.scope():
        pruned = prune_while_training(model, sparsity, config.epochs * data.steps, config.block)
    trainer = JointTrainer(
        pruned.model,
        work.names,
        _recipe(setup, work.names),
        before_step=pruned.before_step,
        after_step=pruned.apply_masks,
        after_restore=pruned.apply_masks,
        state=pruned.state,
        distribution=distribution,
    )
    # In another order than the stage before.
    later = replace(data, seed=data.seed + 1) if work.trained else data
    curves = trainer.train(later.epoch, data.validation(), setup.checkpoint)
    how = ", spread by sensitivity" if len(images) else ""
    distribution.gather(pruned.strip(), work.family)
    note = f"magnitude pruning to a sparsity of {config.sparsity} in: {', '.join(pruned.layers)}{how}"
    return replace(work, curves=[*work.curves, *curves], notes=[*work.notes, note], trained=trainer)


def _recipe(setup: _Setup, names: Sequence[str]) -> Recipe:
    """The recipe for `JointTrainer`: only epochs at the full sparsity count."""
    return replace(
        training_recipe("pruned", setup.config, setup.distill, names, setup.data),
        ema_decay=_AVERAGE_DECAY,
        choose_from=healing_epoch(setup.config.epochs),
    )
