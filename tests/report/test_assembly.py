# SPDX-License-Identifier: Apache-2.0
import json
from datetime import datetime, timezone
from pathlib import Path

import jsonschema
import pytest

from learn2compress import schemas
from learn2compress.report.assembly import REPORTED, TRAINED, assemble_report, read_thumbnails, write_report
from learn2compress.report.page import render_report
from learn2compress.schemas.errors import Learn2CompressError
from learn2compress.schemas.json_schemas import report_schema
from learn2compress.schemas.manifests import (
    DataManifest,
    File,
    Initialization,
    OnDeviceModelSetManifest,
    StudentSetManifest,
    TeacherLogitsManifest,
    TrainedTeacherManifest,
    ViewRecipe,
    read_manifest,
    write_manifest,
)

FOLDERS = ("data", "teacher", "logits", "students", "models", "evaluation", "selection")
TRAINED_FOLDERS = ("trained", "trained_logits")


@pytest.fixture
def artifacts(tmp_path, sample):
    """Folders of a run with the artifacts of the sample report."""
    report, thumbnails = sample
    write_manifest(
        tmp_path / "data",
        DataManifest(**report.data, shards={"train": ["a"], "validation": ["b"], "test": ["c"]}),
    )
    write_manifest(tmp_path / "teacher", report.teacher)
    logits = TeacherLogitsManifest(
        teacher_sha256="t",
        data_digest="d",
        recipe=ViewRecipe(count=4, shift_pixels=(3, 3), flip=True, seed=0),
        classes=10,
        shards={},
        images={},
        forward_passes=report.teacher_forward_passes,
        check_passes=1,
        seconds=1.0,
    )
    write_manifest(tmp_path / "logits", logits)
    write_manifest(tmp_path / "students", report.students)
    (tmp_path / "models").mkdir()
    curves = json.dumps([epoch.model_dump(mode="json") for epoch in report.curves])
    (tmp_path / "models" / "curves.json").write_text(curves)
    write_manifest(
        tmp_path / "models",
        OnDeviceModelSetManifest(
            task=report.teacher.task,
            normalization=report.students.normalization,
            teacher_sha256="t",
            models=[],
            curves=File.of(tmp_path / "models", "curves.json"),
            seed=0,
            quantization_error=report.quantization_error,
            notes=report.notes,
        ),
    )
    write_manifest(tmp_path / "evaluation", report.evaluation, "evaluation.json")
    (tmp_path / "evaluation" / "thumbnails.json").write_text(json.dumps(thumbnails))
    write_manifest(tmp_path / "selection", report.choice, "selection.json")
    return tmp_path


def assembled(folder, config):
    created = datetime(2026, 11, 24, 8, 15, tzinfo=timezone.utc)
    places = zip((*REPORTED, *TRAINED), (*FOLDERS, *TRAINED_FOLDERS), strict=True)
    artifacts = {part: folder / name for part, name in places if (folder / name).exists()}
    return assemble_report(config, artifacts, created)


def test_assemble_report_collects_the_manifests_of_all_nodes(artifacts, sample):
    report, thumbnails = sample
    students = report.students.model_copy(update={"curves": None, "events": []})
    assert assembled(artifacts, report.config) == report.model_copy(update={"students": students})
    assert read_thumbnails(artifacts / "evaluation") == thumbnails


def test_assemble_report_adds_a_jointly_trained_teacher_and_its_forward_passes(artifacts, sample):
    report, _ = sample
    teacher = report.teacher.model_copy(update={"sha256": "e" * 64, "accuracy": {"test": 0.875}})
    trained = TrainedTeacherManifest(
        mode="joint", imported_sha256="t", teacher=teacher, epochs=2, best_epoch=1, forward_passes=70
    )
    write_manifest(artifacts / "trained", trained)
    logits = read_manifest(artifacts / "logits", TeacherLogitsManifest)
    write_manifest(artifacts / "trained_logits", logits.model_copy(update={"forward_passes": 5}))

    found = assembled(artifacts, report.config)

    assert found.trained_teacher == trained
    assert found.teacher_forward_passes == report.teacher_forward_passes + 75
    page = render_report(found, {})
    assert "Jointly trained, accuracy on test" in page
    assert "87.5" in page
    assert "e" * 64 in page


def test_assemble_report_reads_a_run_of_an_older_version_which_left_artifacts_of_a_fixed_teacher(artifacts, sample):
    report, _ = sample
    write_manifest(artifacts / "trained", TrainedTeacherManifest(mode="fixed", imported_sha256="t"))
    asked = json.loads((artifacts / "logits/manifest.json").read_text())
    del asked["examples_sha256"]
    (artifacts / "trained_logits").mkdir()
    older = json.dumps(asked | {"forward_passes": 0, "as_imported": True})
    (artifacts / "trained_logits/manifest.json").write_text(older)

    students = report.students.model_copy(update={"curves": None, "events": []})
    assert assembled(artifacts, report.config) == report.model_copy(update={"students": students})


def test_assemble_report_takes_collected_artifacts_where_students_went_apart(artifacts, sample):
    report, _ = sample
    folders = {part: artifacts / name for part, name in zip(REPORTED, FOLDERS, strict=True)}
    apart = {part.replace("Pruner.", "StudentCollector.").replace("Quantizer.", "StudentCollector."): folder
             for part, folder in folders.items()}  # fmt: skip

    assert assemble_report(report.config, apart).students == assemble_report(report.config, folders).students


def test_assemble_report_names_an_artifact_that_is_missing(artifacts, sample):
    folders = {part: artifacts / name for part, name in zip(REPORTED[1:], FOLDERS[1:], strict=True)}

    with pytest.raises(KeyError, match=r"ImageExampleGen\.examples"):
        assemble_report(sample[0].config, folders)


@pytest.mark.parametrize(
    ("initialization", "sentence"),
    [
        (
            {
                "kind": "features",
                "feature_layer": "pool",
                "labeled_images": 60,
                "unlabeled_images": 4000,
                "forward_passes": 8000,
            },
            "features at its layer pool, on 60 training images and 4,000 images without labels.",
        ),
        ({"kind": "students", "new_logits": True}, "(SHA-256 abababababababab…), except for the layers of the logits"),
    ],
)
def test_report_describes_the_initialization_of_the_students(sample, initialization, sentence):
    report, _ = sample
    fields = {"source_sha256": "ab" * 32, "new_logits": False} | initialization
    students = report.students.model_copy(update={"initialization": Initialization(**fields)})

    page = render_report(report.model_copy(update={"students": students}), {})
    assert sentence in page
    assert ("images, and 8,000 for its features alone" in page) is (initialization["kind"] == "features")
    assert "They first learned" not in render_report(report, {})


@pytest.mark.parametrize("name", ["curves.json", "manifest.json"])
def test_assemble_report_names_the_file_that_is_wrong(artifacts, sample, name):
    (artifacts / "models" / name).write_text("[1]")
    with pytest.raises(Learn2CompressError, match=rf"models/{name} must be a"):
        assembled(artifacts, sample[0].config)


def test_read_thumbnails_refuses_when_there_are_none(tmp_path):
    with pytest.raises(Learn2CompressError, match=r"thumbnails\.json must be a readable JSON file"):
        read_thumbnails(tmp_path)


def test_write_report_follows_the_documented_schema(tmp_path, sample):
    data, page = write_report(tmp_path, *sample)
    written = json.loads(data.read_text())
    jsonschema.validate(written, report_schema())
    assert page.read_text().startswith("<!doctype html>")
    for candidate in written["evaluation"]["candidates"]:
        for figures in candidate["figures"].values():
            assert sum(map(sum, figures["confusion"])) == figures["images"]


def test_report_schema_is_up_to_date():
    stored = json.loads(Path(schemas.__path__[0], "report.schema.json").read_text(encoding="utf-8"))
    assert stored == report_schema(), "run `python -m learn2compress.schemas.json_schemas`"


def test_assemble_report_hides_the_password_of_the_metadata_store(artifacts):
    config = {"pipeline": {"metadata": "mysql://me:s3cret@host:3306/db", "name": "x"}}
    report = assembled(artifacts, config)
    assert report.config == {"pipeline": {"metadata": "mysql://me:***@host:3306/db", "name": "x"}}


def test_assemble_report_is_equal_for_runs_that_differ_in_time_alone(artifacts):
    reports = []
    for sha256 in ("0" * 64, "1" * 64):
        students = read_manifest(artifacts / "students", StudentSetManifest)
        curves = File(path="curves.json", sha256=sha256, bytes=1)
        write_manifest(artifacts / "students", students.model_copy(update={"curves": curves, "events": [curves]}))
        reports.append(assembled(artifacts, {}).model_dump_json())

    assert reports[0] == reports[1]
