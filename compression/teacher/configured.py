# SPDX-License-Identifier: Apache-2.0
"""Loads a teacher as the section `teacher` describes it."""

from learn2compress.compression.teacher.classifier import LoadedTeacher, load_teacher
from learn2compress.modalities import InputFiles, modality_of
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import Task


def open_teacher(config: TeacherImportConfig, task: Task, path: str | None = None) -> LoadedTeacher:
    """Loads the teacher as configured.

    Args:
        config: Section with the model's path, signature, output, class order and scaling.
        task: Task of the data.
        path: Path of the model; default: the configured one.
    """
    return load_teacher(
        path or config.path,
        scaling=config.scaling,
        signature=config.signature,
        output_name=config.output,
        class_order=config.class_order,
        skip_class=config.skip_class,
        resize=config.resize,
        example_shape=task.input_shape,
        modality=modality_of(task),
        files=InputFiles.named_by(config, task),
        class_names=task.classes,
        trust=config.trust,
    )
