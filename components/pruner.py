# SPDX-License-Identifier: Apache-2.0
"""The node that makes the students sparser while they go on learning from the teacher.

Enters: the examples, the teacher's logits, the distilled students. Leaves: `StudentSet`, stage pruned; the family still
shares its parameters. The lineage records the sparsity asked for and reached, and each student's validation accuracy.
"""

from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from learn2compress.components import parameters
from learn2compress.components.checkpoints import checkpoint_path
from learn2compress.components.student_properties import describe_students
from learn2compress.components.trained_teacher import teaching_logits
from learn2compress.compression.family import FamilySpec
from learn2compress.compression.losses import LossSettings
from learn2compress.compression.pruning import healing_epoch, prunable_layers, prune_while_training
from learn2compress.compression.student_files import load_family, module_of, read_curves, student_costs, write_students
from learn2compress.compression.training import JointTrainer, Recipe
from learn2compress.compression.training_data import TrainingData
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest

# Of the distillation, the loss goes on; its length, speed and start do not concern pruning.
_ELSEWHERE = tuple(
    f"distill_{field}"
    for field in DistillConfig.model_fields
    if field
    not in ("batch_size", "temperature", "soft_weight", "in_place_weight", "label_smoothing", "student_weights")
)
_AVERAGE_DECAY = 0.9  # short: the masks move while weights are averaged


class PrunerSpec(component_spec.ComponentSpec):
    """The node's interface."""

    PARAMETERS = {
        **parameters.declare(prune=PruneConfig, distill=DistillConfig, without=_ELSEWHERE),
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
        seed = int(exec_properties["seed"])
        examples = artifact_utils.get_single_uri(input_dict["examples"])
        logits = teaching_logits(input_dict)
        source = artifact_utils.get_single_uri(input_dict["students"])
        output = artifact_utils.get_single_instance(output_dict["pruned_students"])
        before = read_manifest(source, StudentSetManifest)
        spec = FamilySpec.from_dict(before.family_spec) if before.family_spec else None
        costs = student_costs(before)
        family = load_family(source, before)
        curves = read_curves(source)
        accuracy = {student.name: student.validation_accuracy for student in before.students}
        checkpoint = checkpoint_path(output, input_dict, exec_properties)
        notes = [*before.notes]
        if config.sparsity and prunable_layers(family):
            # Batches in another order than the Distiller's last epochs.
            data = TrainingData.open(examples, logits, distill.batch_size, seed + 1)
            pruned = prune_while_training(family, config.sparsity, config.epochs * data.steps, config.block)
            trainer = JointTrainer(
                pruned.model,
                tuple(costs),
                recipe(config, distill, tuple(costs), data.steps),
                before_step=pruned.before_step,
                after_step=pruned.apply_masks,
                after_restore=pruned.apply_masks,
                state=pruned.state,
            )
            curves += trainer.train(data.epoch, data.validation(), checkpoint)
            accuracy = trainer.accuracy(data.validation())
            family = pruned.strip()
            notes.append(f"magnitude pruning to a sparsity of {config.sparsity} in: {', '.join(pruned.layers)}")
        else:
            notes.append(
                f"no magnitude pruning {'is possible: no layer suits it' if config.sparsity else 'was asked for'}"
            )
        manifest = write_students(
            output.uri,
            family,
            task=before.task,
            stage="pruned",
            teacher_sha256=before.teacher_sha256,
            spec=spec,
            costs=costs,
            accuracy=accuracy,
            curves=curves,
            seed=seed,
            notes=notes,
            source=module_of(source, before),
            preflight={student.name: student.preflight for student in before.students},
        )
        describe_students(output, manifest)
        Path(checkpoint).unlink(missing_ok=True)


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
            seed: Of the order of images.
            code_version: Changes when the node's results do.
        """
        spec = PrunerSpec(
            **parameters.encode(prune=prune, distill=distill, without=_ELSEWHERE),
            examples=examples,
            teacher_logits=teacher_logits,
            trained_teacher_logits=trained_teacher_logits,
            students=students,
            seed=seed,
            code_version=code_version,
            pruned_students=types.Channel(type=StudentSet),
        )
        super().__init__(spec=spec)


def recipe(config: PruneConfig, distill: DistillConfig, names: tuple[str, ...], steps: int) -> Recipe:
    """The recipe for `JointTrainer`: only epochs at the full sparsity count."""
    return Recipe(
        stage="pruned",
        epochs=config.epochs,
        steps_per_epoch=steps,
        learning_rate=config.learning_rate,
        loss=LossSettings(distill.temperature, distill.soft_weight, distill.in_place_weight, distill.label_smoothing),
        ema_decay=_AVERAGE_DECAY,
        student_weights=tuple(distill.student_weights.get(name, 1.0) for name in names),
        choose_from=healing_epoch(config.epochs),
    )
