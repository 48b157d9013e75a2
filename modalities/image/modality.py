# SPDX-License-Identifier: Apache-2.0
"""Assembles the modality of images; each group of the protocol is a module of this package, imported on first use."""

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

_SIDES = ("height", "width", "channels")  # sizes of a shape, and fields of the section `data`


class ImageModality:
    """Implements `Modality` for images."""

    name = "image"
    task_name = "image classification"
    statistics: tuple[str, ...] = ("original_height", "original_width", "brightness")

    def resolve_shape(
        self, config: DataConfig, own: tuple[int, ...] | None, default: tuple[int | None, ...] | None
    ) -> tuple[int, ...]:
        """Determines (height, width, channels): from the configuration, else from the teacher, else from the data."""
        fallback = default or own or (None, None, None)
        given = (config.height, config.width, config.channels)
        shape = tuple(side if side is not None else other for side, other in zip(given, fallback, strict=True))
        missing = [name for name, side in zip(_SIDES, shape, strict=True) if side is None]
        if missing:
            raise DataError(
                f"data.{' and data.'.join(missing)} must be given, since images may be of any size; got none. "
                "Set them to the teacher's input shape."
            )
        return tuple(side for side in shape if side is not None)

    def with_shape(self, config: DataConfig, shape: tuple[int, ...]) -> DataConfig:
        """Returns the configuration with height, width and channels."""
        return config.model_copy(update=dict(zip(_SIDES, shape, strict=True)))

    def records(self, task: Task) -> Records:
        from learn2compress.modalities.image.records import ImageRecords

        return ImageRecords(image_shape(task))

    def views(self, task: Task) -> Views:
        from learn2compress.modalities.image.views.image_views import ImageViews

        return ImageViews(image_shape(task))

    def teacher_input(self, path: Path, specs: Mapping[str, tf.TensorSpec], files: InputFiles) -> TeacherInput:
        from learn2compress.modalities.image.teacher_input import read_image_input

        return read_image_input(path, specs, files)

    @cached_property
    def student_input(self) -> StudentInput:
        from learn2compress.modalities.image.student_input import ImageStudentInput

        return ImageStudentInput()

    @cached_property
    def device_format(self) -> DeviceFormat:
        from learn2compress.modalities.image.device_format import ImageDeviceFormat

        return ImageDeviceFormat()

    def presentation(self, task: Task) -> Presentation:
        from learn2compress.modalities.image.presentation import ImagePresentation

        return ImagePresentation(image_shape(task))


def image_shape(task: Task) -> tuple[int, int, int]:
    """Returns the height, width and channels of a task's images."""
    height, width, channels = task.input_shape
    return height, width, channels
