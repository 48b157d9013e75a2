# SPDX-License-Identifier: Apache-2.0
"""Collects the results of a run from its artifacts in one Report: OUT/report.json, and the basis of OUT/report.html.

It needs neither TensorFlow nor tfx, so that a report can be rebuilt within a second.
"""

import json
from collections.abc import Container, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from learn2compress.schemas.errors import Learn2CompressError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import (
    DataManifest,
    Epoch,
    OnDeviceModelSetManifest,
    StudentSetManifest,
    TeacherLogitsManifest,
    TeacherManifest,
    TrainedTeacherManifest,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.reports import EVALUATION, SELECTION, THUMBNAILS, Choice, Evaluation, Report

REPORT = "report.json"
PAGE = "report.html"
HIDDEN = "***"
REPORTED = (
    "ImageExampleGen.examples",
    "TeacherImporter.teacher",
    "TeacherImporter.teacher_logits",
    "Pruner.pruned_students",
    "Quantizer.models",
    "TFLiteEvaluator.evaluation",
    "StudentSelector.selection",
)
"""The artifacts that a report covers, as "Node.output"."""
TRAINED = ("Distiller.trained_teacher", "Distiller.trained_teacher_logits")
"""Further ones, which a run has where the teacher is jointly trained."""
COLLECTED = {
    "ImageExampleGen.examples": "TextExampleGen.examples",
    "Pruner.pruned_students": "StudentCollector.pruned_students",
    "Quantizer.models": "StudentCollector.models",
}
"""Replacements for some of these artifacts: in a run of texts, and in one that pruned and quantized each student in
separate tasks."""


def assemble_report(config: dict[str, Any], artifacts: Mapping[str, Path], created: datetime | None = None) -> Report:
    """Read the manifests of a run's artifacts.

    Args:
        config: Configuration of the run.
        artifacts: Folders of the artifacts by "Node.output": those of `REPORTED` and, if they exist, of `TRAINED`.
        created: Time of the report; now by default.

    Returns:
        The report.

    Raises:
        KeyError: An artifact of `REPORTED` is missing.
        Learn2CompressError: A folder does not hold the artifact it should hold.
    """
    data_dir, teacher_dir, logits_dir, students_dir, models_dir, evaluation_dir, selection_dir = (
        artifacts[part_of(part, artifacts)] for part in REPORTED
    )
    trained_dir, trained_logits_dir = map(artifacts.get, TRAINED)
    models = read_manifest(models_dir, OnDeviceModelSetManifest)
    data = read_manifest(data_dir, DataManifest)
    trained = read_manifest(trained_dir, TrainedTeacherManifest) if trained_dir else None
    logits = [read_manifest(one, TeacherLogitsManifest) for one in (logits_dir, trained_logits_dir) if one]
    teacher = read_manifest(teacher_dir, TeacherManifest)
    return Report(
        created=(created or datetime.now(timezone.utc)).isoformat(timespec="seconds"),
        config=_without_password(config),
        data=data.model_dump(mode="json", exclude={"shards"}),
        teacher=teacher,
        students=_without_times(read_manifest(students_dir, StudentSetManifest)),
        evaluation=read_manifest(evaluation_dir, Evaluation, EVALUATION),
        choice=read_manifest(selection_dir, Choice, SELECTION),
        curves=_read_curves(Path(models_dir, models.curves.path)),
        teacher_forward_passes=sum(one.forward_passes for one in (trained, *logits) if one),
        trained_teacher=trained if trained and trained.mode == "joint" else None,  # older runs have one of a fixed one
        quantization_error=models.quantization_error,
        notes=[*data.notes, *(f"Teacher: {note}" for note in teacher.notes), *models.notes],
    )


def part_of(part: str, artifacts: Container[str]) -> str:
    """Return a run's name for an artifact of `REPORTED`; in a run of texts, or with `kubeflow.fan_out`, some have
    another one.
    """
    collected = COLLECTED.get(part, part)
    return collected if collected in artifacts else part


def _without_times(students: StudentSetManifest) -> StudentSetManifest:
    """Remove the digests of curves and event files, which hold seconds: equal runs have equal reports."""
    return students.model_copy(update={"curves": None, "events": []})


def _without_password(config: dict[str, Any]) -> dict[str, Any]:
    """Remove the password of the metadata store, since a report may be passed on."""
    pipeline = config.get("pipeline") or {}
    password = urlsplit(pipeline.get("metadata") or "").password
    if not password:
        return config
    address = pipeline["metadata"].replace(f":{password}@", f":{HIDDEN}@", 1)
    return {**config, "pipeline": {**pipeline, "metadata": address}}


def read_thumbnails(evaluation_dir: str | Path) -> dict[str, str]:
    """Read the thumbnails of an evaluation.

    Args:
        evaluation_dir: Folder of the ModelEvaluation artifact.

    Returns:
        Data URIs by example id.

    Raises:
        Learn2CompressError: The thumbnails are missing or unreadable.
    """
    path = Path(evaluation_dir, THUMBNAILS)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Learn2CompressError(f"{path} must be a readable JSON file; {error}.") from error


def write_report(folder: str | Path, report: Report, thumbnails: dict[str, str]) -> tuple[Path, Path]:
    """Write report.json and report.html.

    Args:
        folder: Output folder.
        report: The report.
        thumbnails: Data URIs by example id.

    Returns:
        The paths of the two files.
    """
    from learn2compress.report.page import render_report

    page = Path(folder, PAGE)
    data = write_manifest(folder, report, REPORT)
    write_whole(page, render_report(report, thumbnails))
    return data, page


def _read_curves(path: Path) -> list[Epoch]:
    try:
        return TypeAdapter(list[Epoch]).validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Learn2CompressError(f"{path} must be a readable list of training epochs; {error}.") from error
