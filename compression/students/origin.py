# SPDX-License-Identifier: Apache-2.0
"""Decides and checks before a run what the students are made of (`students.from`), and plans them without a run."""

from dataclasses import dataclass

import numpy as np

from learn2compress.compression.students.from_teacher import StudentsFromTeacher, check_trunk, plan_students
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.teacher.formats import describe_file
from learn2compress.compression.teacher.models import open_model
from learn2compress.compression.teacher.trust import check_graph, check_layers
from learn2compress.data.example_records import make_plan
from learn2compress.data.raw_examples import ExampleSource, RawExample
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.modalities import modality_named, modality_of
from learn2compress.schemas.config import Config, parse_config
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import DataError, FamilyError, TeacherError
from learn2compress.schemas.manifests import Task
from learn2compress.schemas.progress import say

FEW_IMAGES = 20_000
"""Number of training images up to which `auto` cuts the students out of the teacher's network if that is possible."""
ENOUGH = 0.1
"""With more images, largest difference of the accuracies of teacher and probe at which `auto` still does so."""
_SAMPLE = 512
_PLAN_SAMPLE = 1024


@dataclass(frozen=True, eq=False)
class Sample:
    """Training images with the teacher's logits.

    Attributes:
        task: The classification task.
        images: [images, height, width, channels] uint8.
        labels: [images] int64.
        training_images: Number of training images in the data, about.
    """

    task: Task
    images: np.ndarray
    labels: np.ndarray
    training_images: int


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


def plan(config: Config, limit: int | None = None) -> StudentsFromTeacher:
    """Measures the exits of the teacher on training images, and chooses those of the students, without a run.

    Args:
        config: Configuration; `students.from` need not be set.
        limit: Most images to read of each part of the data.

    Raises:
        TeacherError: The teacher cannot be loaded or rebuilt.
        DataError: There are no training images.
        FamilyError: A budget is below the smallest exit.
    """
    sample = read_sample(config, min(limit or _PLAN_SAMPLE, _PLAN_SAMPLE))
    teacher = open_teacher(config.teacher, sample.task)
    return _planned(config, sample, teacher)


def decide_origin(config: Config) -> tuple[Config, str]:
    """Replaces `students.from: auto` by what suits the data and the teacher.

    Args:
        config: Configuration with `auto`.

    Returns:
        The configuration with the defaults that go with the decision, and the reason.
    """
    origin, why = _decide(config)
    tree = config.model_dump(mode="json", exclude_unset=True)
    tree["students"] = {**tree["students"], "from": origin}
    if origin == "built_in":
        tree["students"].pop("input", None)
    return parse_config(tree), f"students.from: {origin}, since {why}"


def read_sample(config: Config, most: int) -> Sample:
    """Reads training images evenly from the data, without those that are held out.

    Args:
        config: Configuration.
        most: Most images to read of each part of the data.

    Raises:
        DataError: There are no training images.
    """
    described = describe_file(config.teacher.path)
    check_layers(described)
    check_graph(described.path, config.teacher.trust)
    source, every = open_source(config.data, most), open_source(config.data)
    default = None
    if source.example_shape is None:
        modality = modality_named(source.modality)
        default = open_model(described, config.teacher.signature, config.teacher.output, modality).input.shape
    task = resolve_task(config.data, source, default)
    records, images, labels = modality_of(task).records(task), [], []
    division = make_plan(config.data, every, task, "", "")
    for raw in _training_examples(source):
        stored = records.fit(raw.content)
        if division.split_of(raw.part, records.digest(stored)) == "train":
            images.append(stored)
            labels.append(raw.label)
    if not images:
        raise DataError(f"the data in {config.data.path} must have training images; got none. Check data.path.")
    training = sum(count for part, count in every.counts.items() if part in (None, "train"))
    return Sample(task, np.stack(images), np.array(labels, np.int64), training)


def _training_examples(source: ExampleSource) -> list[RawExample]:
    found = [raw for piece in source.pieces for raw in piece.read() if isinstance(raw, RawExample)]
    return [raw for raw in found if raw.part in (None, "train")]


def _planned(config: Config, sample: Sample, teacher: LoadedTeacher) -> StudentsFromTeacher:
    sha256, logits = path_sha256(config.teacher.path), teacher.logits(sample.images)
    return plan_students(teacher, sha256, config.students, sample.task, sample.images, logits, sample.labels)


def _decide(config: Config) -> tuple[str, str]:
    sample = read_sample(config, _SAMPLE)
    teacher = open_teacher(config.teacher, sample.task)
    try:
        planned = _planned(config, sample, teacher)
    except (TeacherError, FamilyError) as error:
        return "built_in", f"students cannot be cut out of the teacher: {error}"
    if sample.training_images <= FEW_IMAGES:
        return "teacher", f"there are {sample.training_images:,} training images, at most {FEW_IMAGES:,}"
    largest = planned.chosen.students[-1]
    probe = planned.probes[largest.name].accuracy
    accuracy = float(np.mean(teacher.logits(sample.images).argmax(-1) == sample.labels))
    facts = f"a linear probe at {largest.exit} is right on {probe:.1%} of the images, the teacher on {accuracy:.1%}"
    return ("teacher" if probe >= accuracy - ENOUGH else "built_in"), facts
