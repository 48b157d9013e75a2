# SPDX-License-Identifier: Apache-2.0
"""Decides and checks before a run what the students are made of: `students.from`."""

from learn2compress.components.beam.teacher_inference import open_teacher
from learn2compress.compression.students.from_teacher import check_trunk
from learn2compress.schemas.config import Config
from learn2compress.schemas.manifests import Task
from learn2compress.schemas.progress import say


def check_students_from_teacher(config: Config, teacher_sha256: str, task: Task) -> None:
    """Checks that students can be cut out of the teacher's network within their budgets.

    Args:
        config: Configuration of the run.
        teacher_sha256: Digest of the teacher's file.
        task: The classification task.

    Raises:
        TeacherError: The network cannot be rebuilt.
        FamilyError: A budget is below the smallest exit, or the input size is not possible.
    """
    teacher = open_teacher(config.teacher, task)
    say(check_trunk(teacher, teacher_sha256, config.students, task))
