# SPDX-License-Identifier: Apache-2.0
"""The node that prunes the students while they go on learning from the teacher.

Enters: the examples, the teacher's logits, the distilled students. Leaves: `StudentSet`, stage pruned; the family still
shares its parameters. The lineage records the passes in their order, the code of those that are not built in, the
targets asked for, the sparsity reached, and each student's parameters and validation accuracy.

With the parameter `student` it handles that one alone, cut out of the family, so that several can be pruned at once.

What prunes is a sequence of passes (compression/pruning/passes/): by default whole channels first, then zeros in the
kernels.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.execution.coordination import call_workers
from learn2compress.components.execution.properties import describe_students
from learn2compress.components.execution.recipe import BEYOND_LOSS, training_recipe
from learn2compress.components.execution.trained_teacher import teaching_logits
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.pruning.channel_targets import target_alone
from learn2compress.compression.pruning.passes import Context, Work, choose_passes, run_passes
from learn2compress.compression.pruning.passes.registry import check_versions
from learn2compress.compression.students.files import load_family, module_of, student_costs, write_students
from learn2compress.compression.students.single_student import single_student
from learn2compress.compression.training.accuracy import family_accuracy
from learn2compress.compression.training.curves import read_curves
from learn2compress.compression.training.distribution import open_distribution
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.modalities import modality_of
from learn2compress.schemas import parameters
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest

_AVERAGE_DECAY = 0.9  # short: the masks move while weights are averaged


class PrunerSpec(component_spec.ComponentSpec):
    """The node's interface."""

    PARAMETERS = {
        **parameters.declare(prune=PruneConfig, distill=DistillConfig, without=BEYOND_LOSS),
        "pass_versions": component_spec.ExecutionParameter(type=str, optional=True),
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
            if config.channels and shape:  # the target is the largest student's
                target = target_alone(FamilySpec.from_dict(shape), config.channels, student)
                config = config.model_copy(update={"channels": target})
        spec = FamilySpec.from_dict(before.family_spec) if before.family_spec else None
        costs = student_costs(before)
        work = Work(tuple(costs), family, spec, read_curves(source), notes)
        passes = choose_passes(config)
        check_versions(config, exec_properties.get("pass_versions"))
        for one in passes:
            one.step.check(work)
        checkpoint = checkpoint_path(output, input_dict, exec_properties)
        # Batches in another order than the Distiller's last epochs.
        data = TrainingData.open(examples, logits, distill.batch_size, seed + 1)
        recipe = training_recipe("pruned", config, distill, work.names, data)
        context = Context(data, replace(recipe, ema_decay=_AVERAGE_DECAY), checkpoint, distribution)
        weights = family.get_weights()
        work = run_passes(passes, work, context)
        if not distribution.is_chief:
            return
        accuracy = {student.name: student.validation_accuracy for student in before.students}
        if _changed(weights, work.family.get_weights()):
            inputs = modality_of(before.task).student_input
            accuracy = family_accuracy(work.family, work.names, data.validation(), inputs)
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
        pass_versions: str | None = None,
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
            pass_versions: Code of the passes that are not built in; None: there are none.
            seed: Of the order of images.
            code_version: Changes when the node's results do.
        """
        spec = PrunerSpec(
            **parameters.encode(prune=prune, distill=distill, without=BEYOND_LOSS),
            **({} if student is None else {"student": student}),
            **({} if pass_versions is None else {"pass_versions": pass_versions}),
            examples=examples,
            teacher_logits=teacher_logits,
            trained_teacher_logits=trained_teacher_logits,
            students=students,
            seed=seed,
            code_version=code_version,
            pruned_students=types.Channel(type=StudentSet),
        )
        super().__init__(spec=spec)


def _changed(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Whether any weight is another."""
    return len(before) != len(after) or not all(map(np.array_equal, before, after))
