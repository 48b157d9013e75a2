# SPDX-License-Identifier: Apache-2.0
"""Prunes the students in a TFX node while their distillation continues.

Inputs: the examples, the teacher's logits, the distilled students. Outputs: `StudentSet`, stage pruned; the students
still share parameters. The lineage records the passes in their order, the code of those that are not built in, the
targets, the sparsity reached, and each student's parameters and validation accuracy.

With the parameter `student` the node prunes that student alone, cut out of the family, so that several nodes can run in
parallel.

Pruning is a sequence of passes (compression/pruning/passes/): by default channels are removed first, then weights are
set to zero.
"""

from dataclasses import replace

import numpy as np
import tf_keras as keras
from tfx.types import standard_artifacts

from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.execution.coordination import dispatch_training
from learn2compress.components.execution.properties import describe_students
from learn2compress.components.execution.recipe import training_recipe
from learn2compress.components.node import Execution, Node, NodeExecutor
from learn2compress.compression.dictionary.taken import taken
from learn2compress.compression.family.sizing import label_bytes
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.pruning.channel_targets import target_alone
from learn2compress.compression.pruning.passes import Context, Work, choose_passes, run_passes
from learn2compress.compression.pruning.passes.costs import costs_after
from learn2compress.compression.pruning.passes.registry import check_versions
from learn2compress.compression.pruning.prunable import Prunable, prunable
from learn2compress.compression.students.files import (
    dictionary_of,
    load_family,
    module_of,
    student_costs,
    write_students,
)
from learn2compress.compression.students.single_student import single_student
from learn2compress.compression.training.accuracy import family_accuracy
from learn2compress.compression.training.devices.distribution import open_distribution
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.modalities import modality_of
from learn2compress.schemas.artifacts import StudentSet, TeacherLogits
from learn2compress.schemas.config import PruneConfig, TrainingConfig
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest

_AVERAGE_DECAY = 0.9  # a short average, because the masks change while weights are averaged


class PrunerExecutor(NodeExecutor):
    """Prunes the family during training, and writes each student."""

    def run(self, execution: Execution) -> None:
        config = execution.section("prune", PruneConfig)
        distill = execution.section("distill", TrainingConfig)
        distribution = open_distribution(distill.strategy, distill.precision)
        dispatch_training(distribution, "Pruner", execution.inputs, execution.parameters)
        seed = int(execution.parameters["seed"])
        source, output = execution.uri("students"), execution.output("pruned_students")
        before = read_manifest(source, StudentSetManifest)
        family, notes = load_family(source, before), [*before.notes]
        if student := execution.parameters.get("student"):
            if distill.in_place_weight and student != before.students[-1].name:
                notes.append("cut out of the family before pruning: it is no longer distilled from a larger student")
            whole, everyone = family, before
            family, before = single_student(family, before, student)
            if config.channels and not before.dictionary:  # the target holds for the largest student
                target = target_alone(_prunable(whole, everyone), _prunable(family, before), config.channels)
                config = config.model_copy(update={"channels": target})
        costs, spec, dictionary = student_costs(before), _spec(before), dictionary_of(source, before)
        names = label_bytes(before.task.classes)
        work = Work(tuple(costs), family, spec, read_curves(source), notes, label_bytes=names, dictionary=dictionary)
        passes = choose_passes(config)
        check_versions(config, execution.parameters.get("pass_versions"))
        for entry in passes:
            entry.step.check(work)
        checkpoint = checkpoint_path(output, execution.inputs, execution.parameters)
        # Another seed gives another order of batches than in Distiller.
        examples, logits = execution.uri("examples"), execution.uri("teacher_logits")
        opened = TrainingData.open(examples, logits, distill.batch_size, seed + 1, before.input_shape)
        data = taken(opened, dictionary)
        recipe = training_recipe("pruned", config, distill, data)
        context = Context(data, replace(recipe, ema_decay=_AVERAGE_DECAY), checkpoint, distribution)
        weights = family.get_weights()
        work = run_passes(passes, work, context)
        if not distribution.is_chief:
            return
        accuracy = {student.name: student.validation_accuracy for student in before.students}
        if _changed(weights, work.family.get_weights()):
            inputs = modality_of(before.task).student_input
            data = taken(data, work.dictionary)
            accuracy = family_accuracy(work.family, work.names, data.validation(), inputs)
        manifest = write_students(
            output.uri,
            work.family,
            task=before.task,
            stage="pruned",
            teacher_sha256=before.teacher_sha256,
            spec=work.spec,
            costs=costs_after(work, costs, before.task, [weight.shape for weight in weights]),
            accuracy=accuracy,
            curves=work.curves,
            seed=seed,
            notes=work.notes,
            source=module_of(source, before),
            preflight={student.name: student.preflight for student in before.students},
            sensitivity=work.sensitivity,
            initialization=before.initialization,
            dictionary=work.dictionary,
            trunk=before.trunk,
        )
        describe_students(output, manifest)
        for file in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
            file.unlink()


class Pruner(Node):
    """Makes a `StudentSet`: the family with fewer channels and with zeros in its kernels.

    Parameters:
        pass_versions: Versions of the passes that are not built in; left out if there are none.
        student: Name of the only student that the node prunes, cut out of the family; left out: all, as a family.
        seed: Seed of the order of images.

    Inputs:
        examples: Examples artifact of ImageExampleGen.
        teacher_logits: Logits for the distillation: those of TeacherImporter or, with a jointly trained teacher, those
            of Distiller.
        students: Students of Distiller.
    """

    EXECUTOR = PrunerExecutor
    SECTIONS = {"prune": PruneConfig, "distill": TrainingConfig}
    PARAMETERS = {"pass_versions": str, "student": str, "seed": int}
    INPUTS = {"examples": standard_artifacts.Examples, "teacher_logits": TeacherLogits, "students": StudentSet}
    OUTPUTS = {"pruned_students": StudentSet}
    OPTIONAL = ("pass_versions", "student")


def _spec(manifest: StudentSetManifest) -> FamilySpec | None:
    return FamilySpec.from_dict(manifest.family_spec) if manifest.family_spec else None


def _prunable(family: keras.Model, manifest: StudentSetManifest) -> Prunable:
    names = tuple(student.name for student in manifest.students)
    return prunable(family, names, _spec(manifest), label_bytes(manifest.task.classes))


def _changed(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Tells whether any weight has changed."""
    return len(before) != len(after) or not all(map(np.array_equal, before, after))
