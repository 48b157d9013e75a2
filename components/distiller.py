# SPDX-License-Identifier: Apache-2.0
"""Trains the family in a TFX node: all students jointly, with shared parameters, from the teacher's logits.

Inputs: the examples, the teacher and its logits. Outputs: `StudentSet`, stage distilled; with `teacher.mode: joint`
also `TrainedTeacher` and its `TeacherLogits`: a copy of the teacher is jointly trained with the students, and its
logits on the views are computed at the end, so that the later nodes learn from it. With `distill.init` the students
first learn the teacher's features, or are initialized with the students of an earlier run. The lineage records the
sizes, every training parameter, the seed, each student's parameters and validation accuracy, the trained teacher's
SHA-256, accuracy and forward passes, and the digest of the source of the initial weights.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from tfx.types import standard_artifacts

from learn2compress.components.beam.teacher_inference import import_config_of
from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.execution.coordination import dispatch_training
from learn2compress.components.execution.properties import describe_students
from learn2compress.components.execution.recipe import training_recipe
from learn2compress.components.execution.trained_teacher import write_trained
from learn2compress.components.node import BeamNodeExecutor, Execution, Node
from learn2compress.compression.students.architecture import Architecture, design
from learn2compress.compression.students.earlier_run import EarlierStudents, open_earlier
from learn2compress.compression.students.files import write_students
from learn2compress.compression.students.from_teacher import StudentsFromTeacher, plan_students, read_probe_images
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.teacher.features import last_layer
from learn2compress.compression.training.devices.distribution import open_distribution
from learn2compress.compression.training.feature_distillation import FeatureData, describe_features, learn_features
from learn2compress.compression.training.joint_teacher import TeacherInLoop, TeacherRecipe
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.evaluation.latency.table import recorded_model
from learn2compress.schemas.artifacts import StudentSet, Teacher, TeacherLogits, TrainedTeacher
from learn2compress.schemas.config import INIT_WORDS, Config, DistillConfig, FamilyConfig, JointTeacherConfig, Section
from learn2compress.schemas.manifests import (
    DataManifest,
    Initialization,
    Task,
    TeacherLogitsManifest,
    TeacherManifest,
    read_manifest,
)
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.parameters import Scalar
from learn2compress.schemas.progress import say


class DistillerExecutor(BeamNodeExecutor):
    """Designs the students, trains them jointly, and writes each of them."""

    def run(self, execution: Execution) -> None:
        config, seed = execution.section("distill", DistillConfig), int(execution.parameters["seed"])
        distribution = open_distribution(config.strategy, config.precision)
        dispatch_training(distribution, "Distiller", execution.inputs, execution.parameters)
        examples, logits = execution.uri("examples"), execution.uri("teacher_logits")
        output = execution.output("students")
        task = read_manifest(examples, DataManifest).task
        imported = read_manifest(execution.uri("teacher"), TeacherManifest)
        architecture, earlier = _design(execution, config, task)
        chosen = architecture.chosen
        shape = chosen.input_shape if chosen else None
        data = architecture.prepare(TrainingData.open(examples, logits, config.batch_size, seed, shape))
        say(architecture.describe())

        family, names = architecture.build(seed), tuple(architecture.costs())
        teacher = _teacher_to_train(execution, imported, task)
        training, checkpoint = recipe(config, data), checkpoint_path(output, execution.inputs, execution.parameters)
        feature_checkpoint = checkpoint.with_name(f"{checkpoint.stem}-features.npz")
        curves, initialization, inherited = [], None, set[str]()
        if isinstance(architecture, StudentsFromTeacher):
            initialization = Initialization(kind="teacher", source_sha256=imported.sha256, new_logits=False)
            inherited = architecture.inherited(family)
        elif earlier:
            initialization = earlier.copy_to(family)
        elif config.init == "features":
            features = FeatureData.open(examples, logits, config.batch_size, seed)
            count, last = config.init_epochs_of(features.steps), _last_layer(execution, imported, task)
            curves = learn_features(family, names, features, training, count, feature_checkpoint, distribution, last)
            initialization = describe_features(logits, count, last is None)

        model = distribution.replicate(family)
        trainer = JointTrainer(model, names, training, teacher=teacher, inherited=inherited, distribution=distribution)
        epochs = trainer.train(data.epoch, data.validation(), checkpoint)
        if not distribution.is_chief:
            return
        distribution.gather(model, family)

        notes = list(chosen.why) if chosen else []
        if teacher:
            passes = len(epochs) * data.steps * data.batch_size
            trained = write_trained(execution, teacher, self._make_beam_pipeline(), len(epochs), passes)
            notes.append(f"the teacher was jointly trained; the trained copy has SHA-256 {trained.sha256[:16]}…")
        students = write_students(
            output.uri,
            family,
            task=task,
            stage="distilled",
            teacher_sha256=imported.sha256,
            spec=architecture.spec,
            costs=architecture.costs(),
            accuracy=trainer.accuracy(data.validation()),
            curves=[*curves, *epochs],
            seed=seed,
            source=architecture.source,
            preflight=architecture.preflight(),
            notes=notes,
            initialization=initialization,
            dictionary=architecture.dictionary,
            trunk=chosen.to_dict() if chosen else None,
        )
        describe_students(output, students)
        for file in (checkpoint, feature_checkpoint):
            file.unlink(missing_ok=True)


class Distiller(Node):
    """Makes a `StudentSet`, the jointly distilled family; with a jointly trained teacher also that one and its logits.

    Parameters:
        init_sha256: `students_sha256` of the earlier run's students whose weights initialize these, so that other
            students are no cache hit.
        latency_model: Fitted latencies of the device for which students have limits in milliseconds, as text; the same
            family is solved from it wherever the node runs.
        module_name, module_function, module_sha256, module_text: User's own architecture; the path of its file is not
            recorded.
        seed: Seed of the initial weights and of the order of images.
    """

    EXECUTOR = DistillerExecutor
    SECTIONS = {"students": FamilyConfig, "distill": DistillConfig, "teacher": JointTeacherConfig}
    PARAMETERS = {
        "init_sha256": str,
        "latency_model": str,
        "module_name": str,
        "module_function": str,
        "module_sha256": str,
        "module_text": str,
        "seed": int,
    }
    INPUTS = {"examples": standard_artifacts.Examples, "teacher": Teacher, "teacher_logits": TeacherLogits}
    OUTPUTS = {"students": StudentSet, "trained_teacher": TrainedTeacher, "trained_teacher_logits": TeacherLogits}
    OPTIONAL = (
        "init_sha256", "latency_model", "module_name", "module_function", "module_sha256", "module_text",
        "trained_teacher", "trained_teacher_logits",
    )  # fmt: skip

    @classmethod
    def encode(cls, **sections: Section) -> dict[str, Scalar]:
        """Writes sections as the node's parameters, as `Node.encode` does; without sizes for a user's own architecture,
        which does not depend on them.
        """
        values = super().encode(**sections)
        if getattr(sections["students"], "module", None) is not None:
            del values["students_sizes"]
        return values

    @classmethod
    def makes(cls, config: Config) -> Collection[str]:
        """Names the outputs; those of the trained teacher exist only with `teacher.mode: joint`."""
        return cls.OUTPUTS if config.teacher.mode == "joint" else ("students",)


def recipe(config: DistillConfig, data: TrainingData) -> Recipe:
    """Makes the recipe of the distillation for `JointTrainer`."""
    return replace(
        training_recipe("distilled", config, config, data),
        warmup_epochs=min(config.warmup_epochs, config.epochs_of(data.steps) / 2),
        weight_decay=config.weight_decay,
        ema_decay=config.ema_decay,
        patience=config.patience,
        inherited_rate=config.inherited_rate or 1.0,
    )


def _design(execution: Execution, config: DistillConfig, task: Task) -> tuple[Architecture, EarlierStudents | None]:
    """Determines the students' architecture, and the students of an earlier run that initialize them, or None."""
    wanted, source = execution.section("students", FamilyConfig), ModuleSource.from_parameters(execution.parameters)
    if wanted.origin == "teacher":
        return _cut_out_of_teacher(execution, wanted, task), None
    latency = execution.parameters.get("latency_model")
    model = recorded_model(latency) if latency else None
    architecture = design(wanted, source, task, config.student_weights, model)
    if config.init in INIT_WORDS:
        return architecture, None
    sha256 = execution.parameters.get("init_sha256")
    earlier = open_earlier(config.init, architecture, wanted.sizes, task, sha256, wanted.blocks)
    return earlier.architecture, earlier


def _cut_out_of_teacher(execution: Execution, wanted: FamilyConfig, task: Task) -> StudentsFromTeacher:
    """Measures the exits of the teacher on training images, and chooses those of the students."""
    imported = read_manifest(execution.uri("teacher"), TeacherManifest)
    teacher = open_teacher(import_config_of(execution.uri("teacher"), imported), task)
    images, logits, labels = read_probe_images(execution.uri("examples"), execution.uri("teacher_logits"))
    return plan_students(teacher, imported.sha256, wanted, task, images, logits, labels)


def _last_layer(execution: Execution, imported: TeacherManifest, task: Task) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads the layer that computes the teacher's logits from its features; None if it is not a dense one."""
    taught = read_manifest(execution.uri("teacher_logits"), TeacherLogitsManifest).require_features()
    if taught.side != "input":
        return None
    return last_layer(open_teacher(import_config_of(execution.uri("teacher"), imported), task), taught.layer)


def _teacher_to_train(execution: Execution, imported: TeacherManifest, task: Task) -> TeacherInLoop | None:
    """Loads a copy of the teacher for joint training with the students; None with a fixed teacher."""
    config = execution.section("teacher", JointTeacherConfig)
    if config.mode == "fixed":
        return None
    copy = open_teacher(import_config_of(execution.uri("teacher"), imported), task)
    teacher_recipe = TeacherRecipe(config.learning_rate, config.mutual_weight)
    return TeacherInLoop(copy, teacher_recipe, int(execution.parameters["seed"]))
