# SPDX-License-Identifier: Apache-2.0
"""The node that trains the family: all students at once, with shared parameters, from the teacher's cached logits.

Enters: the examples, the teacher and its logits. Leaves: `StudentSet`, stage distilled; `TrainedTeacher` and its
`TeacherLogits`, which with a fixed teacher say so and hold no more. With `teacher.mode: joint` a copy of the teacher is
trained along in the loop, and at the end is asked about the views, so that the nodes after this one learn from it. With
`distill.init` the students first learn the teacher's features, or begin as an earlier run's. The lineage records the
sizes asked for, every training parameter, the seed, each student's parameters and validation accuracy, the trained
teacher's SHA-256, accuracy and forward passes, and the digest of what the students began as.
"""

from dataclasses import replace
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from learn2compress.components.beam.teacher_inference import open_teacher, understanding
from learn2compress.components.execution.checkpoints import checkpoint_path
from learn2compress.components.execution.coordination import call_workers
from learn2compress.components.execution.properties import describe_students
from learn2compress.components.execution.recipe import training_recipe
from learn2compress.components.execution.trained_teacher import write_as_imported, write_trained
from learn2compress.compression.students.architecture import design
from learn2compress.compression.students.earlier_run import open_earlier
from learn2compress.compression.students.files import write_students
from learn2compress.compression.training.distribution import open_distribution
from learn2compress.compression.training.feature_distillation import FeatureData, describe_features, learn_features
from learn2compress.compression.training.joint_teacher import TeacherInLoop, TeacherRecipe
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas import parameters
from learn2compress.schemas.artifacts import StudentSet, Teacher, TeacherLogits, TrainedTeacher
from learn2compress.schemas.config import INIT_WORDS, DistillConfig, StudentsConfig, TeacherConfig
from learn2compress.schemas.manifests import DataManifest, TeacherLogitsManifest, TeacherManifest, read_manifest
from learn2compress.schemas.module_source import ModuleSource
from learn2compress.schemas.progress import say

# Where a module lies does not matter, what is in it does; and of the teacher, how it is trained along: where it is and
# what it says comes in artifacts.
_TEACHING = ("mode", "learning_rate", "mutual_weight")
_ELSEWHERE = (
    "students_module",
    *(f"teacher_{field}" for field in TeacherConfig.model_fields if field not in _TEACHING),
)


class DistillerSpec(component_spec.ComponentSpec):
    """The node's interface."""

    PARAMETERS = {
        **parameters.declare(students=StudentsConfig, distill=DistillConfig, teacher=TeacherConfig, without=_ELSEWHERE),
        "init_sha256": component_spec.ExecutionParameter(type=str, optional=True),
        "module_name": component_spec.ExecutionParameter(type=str, optional=True),
        "module_function": component_spec.ExecutionParameter(type=str, optional=True),
        "module_sha256": component_spec.ExecutionParameter(type=str, optional=True),
        "module_text": component_spec.ExecutionParameter(type=str, optional=True),
        "seed": component_spec.ExecutionParameter(type=int),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "teacher": component_spec.ChannelParameter(type=Teacher),
        "teacher_logits": component_spec.ChannelParameter(type=TeacherLogits),
    }
    OUTPUTS = {
        "students": component_spec.ChannelParameter(type=StudentSet),
        "trained_teacher": component_spec.ChannelParameter(type=TrainedTeacher),
        "trained_teacher_logits": component_spec.ChannelParameter(type=TeacherLogits),
    }


class DistillerExecutor(base_beam_executor.BaseBeamExecutor):
    """Solves the family's shape, trains it, and writes each student."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        config = parameters.decode(DistillConfig, "distill", exec_properties)
        wanted = parameters.decode(StudentsConfig, "students", exec_properties)
        distribution = open_distribution(config.strategy)
        call_workers(distribution, "Distiller", input_dict, exec_properties)
        seed = int(exec_properties["seed"])
        examples = artifact_utils.get_single_uri(input_dict["examples"])
        teacher_folder = artifact_utils.get_single_uri(input_dict["teacher"])
        logits = artifact_utils.get_single_uri(input_dict["teacher_logits"])
        teacher, asked = read_manifest(teacher_folder, TeacherManifest), read_manifest(logits, TeacherLogitsManifest)
        outputs = {key: artifact_utils.get_single_instance(found) for key, found in output_dict.items()}
        output = outputs["students"]
        manifest = read_manifest(examples, DataManifest)
        task = manifest.task

        architecture = design(wanted, module_source(exec_properties), task, config.student_weights)
        earlier = None
        if config.init not in INIT_WORDS:
            earlier = open_earlier(config.init, architecture, wanted.sizes, task, exec_properties.get("init_sha256"))
            architecture = earlier.architecture
        say(architecture.describe())
        data = TrainingData.open(examples, logits, config.batch_size, seed)
        family = architecture.build(seed)
        names = tuple(architecture.costs())
        loop = None
        if exec_properties["teacher_mode"] == "joint":
            own = TeacherRecipe(exec_properties["teacher_learning_rate"], exec_properties["teacher_mutual_weight"])
            loop = TeacherInLoop(open_teacher(understanding(teacher_folder, teacher), task), own, seed)
        how = recipe(config, names, data)
        checkpoint = checkpoint_path(output, input_dict, exec_properties)
        beginning = checkpoint.with_name(f"{checkpoint.stem}-features.npz")
        curves, initialization = [], None
        if earlier:
            initialization = earlier.copy_to(family)
        elif config.init == "features":
            features = FeatureData.open(examples, logits, config.batch_size, seed)
            curves = learn_features(family, names, features, how, config.init_epochs, beginning, distribution)
            initialization = describe_features(logits, config.init_epochs)
        model = distribution.spread(family)
        trainer = JointTrainer(model, names, how, teacher=loop, distribution=distribution)
        learned = trainer.train(data.epoch, data.validation(), checkpoint)
        if not distribution.is_chief:
            return
        curves += learned
        distribution.gather(model, family)
        notes = []
        if loop:
            pipeline, passes = self._make_beam_pipeline(), len(learned) * data.steps * data.batch_size
            trained = write_trained(loop, teacher, asked, manifest, examples, pipeline, outputs, len(learned), passes)
            notes.append(f"the teacher was trained along and has become SHA-256 {trained.teacher.sha256[:16]}…")
        else:
            write_as_imported(teacher, asked, outputs)
        students = write_students(
            output.uri,
            family,
            task=task,
            stage="distilled",
            teacher_sha256=teacher.sha256,
            spec=architecture.spec,
            costs=architecture.costs(),
            accuracy=trainer.accuracy(data.validation()),
            curves=curves,
            seed=seed,
            source=architecture.source,
            preflight=architecture.preflight(),
            notes=notes,
            initialization=initialization,
        )
        describe_students(output, students)
        for file in (checkpoint, beginning):
            file.unlink(missing_ok=True)


class Distiller(base_beam_component.BaseBeamComponent):
    """`StudentSet`: the family, jointly distilled; what became of the teacher, and its logits."""

    SPEC_CLASS = DistillerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(DistillerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        teacher: types.BaseChannel,
        teacher_logits: types.BaseChannel,
        students: StudentsConfig,
        distill: DistillConfig,
        teaching: TeacherConfig,
        module: ModuleSource | None = None,
        init_sha256: str | None = None,
        seed: int = 0,
        code_version: str = "",
    ) -> None:
        """Builds the node.

        Args:
            examples: Of ImageExampleGen.
            teacher: Of TeacherImporter.
            teacher_logits: Of TeacherImporter.
            students: The sizes asked for.
            distill: How to train.
            teaching: Whether the teacher is trained along, and how.
            module: The students' architecture, if it is a user's own.
            init_sha256: `students_sha256` of the earlier run's students to begin as, so that others are no cache hit.
            seed: Of initial weights and of the order of images.
            code_version: Changes when the node's results do.
        """
        spec = DistillerSpec(
            # The sizes are those of the built-in family, and no part of how a module's students come about.
            **parameters.encode(
                students=students,
                distill=distill,
                teacher=teaching,
                without=(*_ELSEWHERE, *(["students_sizes"] if module else [])),
            ),
            **(_module_parameters(module) if module else {}),
            **({"init_sha256": init_sha256} if init_sha256 else {}),
            examples=examples,
            teacher=teacher,
            teacher_logits=teacher_logits,
            seed=seed,
            code_version=code_version,
            **{"students": types.Channel(type=StudentSet)},
            trained_teacher=types.Channel(type=TrainedTeacher),
            trained_teacher_logits=types.Channel(type=TeacherLogits),
        )
        super().__init__(spec=spec)


def module_source(exec_properties: dict[str, Any]) -> ModuleSource | None:
    """The user's module, from the node's parameters."""
    if not exec_properties.get("module_text"):
        return None
    return ModuleSource(*(exec_properties[f"module_{field}"] for field in ("name", "function", "text")))


def _module_parameters(module: ModuleSource) -> dict[str, str]:
    return {
        "module_name": module.name,
        "module_function": module.function,
        "module_sha256": module.sha256,
        "module_text": module.text,
    }


def recipe(config: DistillConfig, names: tuple[str, ...], data: TrainingData) -> Recipe:
    """The recipe for `JointTrainer`."""
    return replace(
        training_recipe("distilled", config, config, names, data),
        warmup_epochs=min(config.warmup_epochs, config.epochs / 2),
        weight_decay=config.weight_decay,
        ema_decay=config.ema_decay,
        patience=config.patience,
    )
