# SPDX-License-Identifier: Apache-2.0
"""Assembles the modality of texts; each group of the protocol is a module of this package, imported on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from learn2compress.modalities.protocol import (
    DeviceFormat,
    InputFiles,
    Presentation,
    Records,
    StudentInput,
    TeacherInput,
    Views,
)
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import Task

if TYPE_CHECKING:
    import tensorflow as tf


class TextModality:
    """Implements `Modality` for texts; `Task.input_shape` is the number of ids that a student reads."""

    name = "text"
    task_name = "text classification"
    statistics: tuple[str, ...] = ("words", "characters")

    def resolve_shape(
        self,
        config: DataConfig,
        own: tuple[int, ...] | None,
        default: tuple[int | None, ...] | None,  # noqa: ARG002
    ) -> tuple[int, ...]:
        """Determines (tokens,): from the configuration, else from the length of the texts."""
        if config.max_tokens is not None:
            return (config.max_tokens,)
        if own is None:
            raise DataError(
                "data.max_tokens must be given where the length of the texts is unknown; got none. Set it to the "
                "number of words of a long text, such as 64."
            )
        return own

    def with_shape(self, config: DataConfig, shape: tuple[int, ...]) -> DataConfig:
        """Returns the configuration with the modality and the number of tokens."""
        return config.model_copy(update={"modality": "text", "max_tokens": shape[0]})

    def records(self, task: Task) -> Records:  # noqa: ARG002
        from learn2compress.modalities.text.records import TextRecords

        return TextRecords()

    def views(self, task: Task) -> Views:
        from learn2compress.modalities.text.views import TextViews

        return TextViews(task.input_shape[0])

    def teacher_input(self, path: Path, specs: Mapping[str, tf.TensorSpec], files: InputFiles) -> TeacherInput:
        from learn2compress.modalities.text.teacher_input import read_text_input

        return read_text_input(path, specs, files)

    @cached_property
    def student_input(self) -> StudentInput:
        from learn2compress.modalities.text.student_input import TextStudentInput

        return TextStudentInput()

    @cached_property
    def device_format(self) -> DeviceFormat:
        from learn2compress.modalities.text.device_format import TextDeviceFormat

        return TextDeviceFormat()

    def presentation(self, task: Task) -> Presentation:
        from learn2compress.modalities.text.presentation import TextPresentation

        return TextPresentation(task.input_shape[0])
