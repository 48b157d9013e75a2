# SPDX-License-Identifier: Apache-2.0
"""Compresses a TensorFlow classifier into a family of small TensorFlow Lite models.

The artifact types are attributes of this package, such as `learn2compress.StudentSet`, because Kubeflow imports an
artifact type by its type name. They are resolved on first use, so that importing this package imports neither
TensorFlow nor tfx.
"""

from typing import Any

__version__ = "0.1.0"

ARTIFACT_TYPES = (
    "Teacher", "TeacherLogits", "TrainedTeacher", "StudentSet", "OnDeviceModelSet", "ModelEvaluation", "Selection",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ARTIFACT_TYPES:
        from learn2compress.schemas import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
