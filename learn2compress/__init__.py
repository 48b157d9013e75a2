# SPDX-License-Identifier: Apache-2.0
"""Learn2Compress: from one TensorFlow classifier to a family of small TensorFlow Lite models.

The artifact types are reachable as `learn2compress.StudentSet` and so on, because Kubeflow finds an
artifact type by importing its type name. They are resolved on first use, so that importing this package
imports neither TensorFlow nor tfx.
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
