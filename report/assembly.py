# SPDX-License-Identifier: Apache-2.0
"""Gathers what a run left in its artifacts into one Report: OUT/report.json, and the base of OUT/report.html.

Needs neither TensorFlow nor tfx, so that a report is made again in a second.
"""

import json
from collections.abc import Container
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from learn2compress.schemas.errors import Learn2CompressError
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
    "Distiller.trained_teacher",
    "Distiller.trained_teacher_logits",
    "Pruner.pruned_students",
    "Quantizer.models",
    "TFLiteEvaluator.evaluation",
    "StudentSelector.selection",
)
"""The artifacts that a report is about, as "Node.output", in the order of `assemble_report`."""
COLLECTED = {
    "Pruner.pruned_students": "StudentCollector.pruned_students",
    "Quantizer.models": "StudentCollector.models",
}
"""What stands for two of them where each student was pruned and quantized in tasks of its own."""


def assemble_report(
    config: dict[str, Any],
    data_dir: str | Path,
    teacher_dir: str | Path,
    logits_dir: str | Path,
    trained_dir: str | Path,
    trained_logits_dir: str | Path,
    students_dir: str | Path,
    models_dir: str | Path,
    evaluation_dir: str | Path,
    selection_dir: str | Path,
    created: datetime | None = None,
) -> Report:
    """Reads the manifests of a run's artifacts.

    Args:
        config: The run's configuration.
        data_dir: Folder of Examples.
        teacher_dir: Folder of Teacher.
        logits_dir: Folder of TeacherLogits.
        trained_dir: Folder of TrainedTeacher.
        trained_logits_dir: Folder of its TeacherLogits.
        students_dir: Folder of the last StudentSet.
        models_dir: Folder of OnDeviceModelSet.
        evaluation_dir: Folder of ModelEvaluation.
        selection_dir: Folder of Selection.
        created: When; now by default.

    Raises:
        Learn2CompressError: A folder does not hold what it should.
    """
    models = read_manifest(models_dir, OnDeviceModelSetManifest)
    data = read_manifest(data_dir, DataManifest)
    trained = read_manifest(trained_dir, TrainedTeacherManifest)
    asked = [read_manifest(folder, TeacherLogitsManifest) for folder in (logits_dir, trained_logits_dir)]
    return Report(
        created=(created or datetime.now(timezone.utc)).isoformat(timespec="seconds"),
        config=_without_password(config),
        data=data.model_dump(mode="json", exclude={"shards"}),
        teacher=read_manifest(teacher_dir, TeacherManifest),
        students=read_manifest(students_dir, StudentSetManifest),
        evaluation=read_manifest(evaluation_dir, Evaluation, EVALUATION),
        choice=read_manifest(selection_dir, Choice, SELECTION),
        curves=_read_curves(Path(models_dir, models.curves.path)),
        teacher_forward_passes=trained.forward_passes + sum(one.forward_passes for one in asked),
        trained_teacher=trained if trained.mode == "joint" else None,
        quantization_error=models.quantization_error,
        notes=models.notes,
    )


def part_of(part: str, artifacts: Container[str]) -> str:
    """The name under which a run has an artifact of `REPORTED`: with `kubeflow.fan_out` some are brought together."""
    collected = COLLECTED.get(part)
    return collected if collected in artifacts else part


def _without_password(config: dict[str, Any]) -> dict[str, Any]:
    """A report is passed on; the password of the metadata store is not."""
    pipeline = config.get("pipeline") or {}
    password = urlsplit(pipeline.get("metadata") or "").password
    if not password:
        return config
    address = pipeline["metadata"].replace(f":{password}@", f":{HIDDEN}@", 1)
    return {**config, "pipeline": {**pipeline, "metadata": address}}


def read_thumbnails(evaluation_dir: str | Path) -> dict[str, str]:
    """Reads the small pictures of an evaluation: data URIs by example id.

    Raises:
        Learn2CompressError: They are missing or unreadable.
    """
    path = Path(evaluation_dir, THUMBNAILS)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Learn2CompressError(f"{path} must be a readable JSON file; {error}.") from error


def write_report(folder: str | Path, report: Report, thumbnails: dict[str, str]) -> tuple[Path, Path]:
    """Writes report.json and report.html.

    Returns:
        The two paths.
    """
    from learn2compress.report.page import render_report

    page = Path(folder, PAGE)
    data = write_manifest(folder, report, REPORT)
    page.write_text(render_report(report, thumbnails), encoding="utf-8")
    return data, page


def _read_curves(path: Path) -> list[Epoch]:
    try:
        return TypeAdapter(list[Epoch]).validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Learn2CompressError(f"{path} must be a readable list of training epochs; {error}.") from error
