# SPDX-License-Identifier: Apache-2.0
"""Tests the main job with the real command, LocalDagRunner, ML Metadata store and training."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from support import forked
from support.digits_job import QUICK, TEST, command, states, write_data, write_job, write_teacher

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.manifests import TeacherLogitsManifest, read_manifest
from learn2compress.schemas.reports import Report
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.model_file import prove_full_int8, read_model_file

pytestmark = pytest.mark.e2e
NODES = 10


def test_run_writes_models_choice_report_and_metadata(finished):
    output, result = finished
    names = {f"{student}-{variant}" for student in ("small", "large") for variant in ("float32", "int8")}
    names.add("teacher-int8")
    assert {f.stem for f in (output / "models").glob("*.tflite")} == names
    report = Report.model_validate_json((output / "report.json").read_text())
    digests = {candidate.name: candidate.sha256 for candidate in report.evaluation.candidates}
    assert digests == {name: file_sha256(output / "models" / f"{name}.tflite") for name in names}
    assert file_sha256(output / "selected.tflite") == digests[report.choice.chosen] == report.choice.sha256
    assert (output / "metadata.db").stat().st_size > 0
    assert "<html" in (output / "report.html").read_text()[:2000]
    with zipfile.ZipFile(output / "bundle.zip") as archive:
        assert archive.read(f"{report.choice.chosen}.tflite") == (output / "selected.tflite").read_bytes()
    assert f"the app bundle: {output / 'bundle.zip'}" in re.sub(" +", " ", result.stdout)
    last = result.stdout.splitlines()[-3:]
    assert str(output / "selected.tflite") in last[-1]
    assert str(output / "report.html") in last[-2]


def test_run_prints_nodes_and_epochs_and_no_messages_of_libraries(finished):
    output, result = finished
    assert set(states(result.stdout).values()) == {"ran"}
    assert len(states(result.stdout)) == NODES
    assert "distilled: epoch 8/8: validation accuracy small" in result.stdout
    assert result.stderr == ""
    for word in ("WARNING", "W0000", "tensorflow", "absl", "Deprecat"):
        assert word not in result.stdout
    assert (output / "run.log").exists()


def test_run_int8_files_are_proved_and_labelled(finished):
    output, _ = finished
    for path in sorted((output / "models").glob("*-int8.tflite")):
        model = read_model_file(path)
        proof = prove_full_int8(model)
        assert proof.holds
        assert not proof.float_tensors
        assert (model.input.dtype, model.output.dtype) == ("int8", "int8")
        assert read_metadata(path.read_bytes()).labels == tuple(f"digit {n}" for n in range(10))


def test_run_students_learn_and_figures_come_from_held_out_images(finished):
    output, _ = finished
    report = Report.model_validate_json((output / "report.json").read_text())
    candidates = {candidate.name: candidate for candidate in report.evaluation.candidates}
    large = candidates["large-int8"]
    assert large.figures["test"].top1 > 0.6
    assert large.bytes >= 4 * candidates["small-int8"].bytes
    assert large.macs >= 4 * candidates["small-int8"].macs
    for candidate in candidates.values():
        for split, images in report.evaluation.images.items():
            assert sum(map(sum, candidate.figures[split].confusion)) == images
    assert report.teacher_forward_passes == 2 * report.data["counts"]["train"]


def test_run_evaluates_a_plain_conversion_of_the_teacher(finished):
    output, _ = finished
    report = Report.model_validate_json((output / "report.json").read_text())
    (plain,) = [candidate for candidate in report.evaluation.candidates if candidate.baseline]
    assert plain.name == "teacher-int8"
    assert plain.figures["test"].top1 > report.teacher.accuracy["test"] - 0.05
    assert plain.bytes < report.teacher.bytes / 2
    assert [v.status for v in report.choice.verdicts if v.candidate == "teacher-int8"] == ["baseline"]


def test_run_records_every_node_in_ml_metadata(finished):
    from ml_metadata import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    output, _ = finished
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = str(output / "metadata.db")
    store = metadata_store.MetadataStore(connection)
    nodes = {c.name.rsplit(".", 1)[-1] for c in store.get_contexts_by_type("node")}
    assert {"ImageExampleGen", "TeacherImporter", "Distiller", "Pruner", "Quantizer", "StudentSelector"} <= nodes
    (teacher,) = store.get_artifacts_by_type("learn2compress.Teacher")
    assert (
        teacher.custom_properties["sha256"].string_value
        == Report.model_validate_json((output / "report.json").read_text()).teacher.sha256
    )


def test_run_again_is_served_from_the_cache_for_any_number_of_workers(copy, job):
    before = file_sha256(copy / "selected.tflite")
    result = command("run", job, "--output", copy, "--set", "pipeline.workers=2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(states(result.stdout).values()) == {"cached"}
    assert file_sha256(copy / "selected.tflite") == before


def test_run_again_executes_only_the_selection_when_a_limit_changes(copy, job):
    small = json.loads((copy / "report.json").read_text())["evaluation"]["candidates"]
    size = next(c["bytes"] for c in small if c["name"] == "small-int8")
    result = command("run", job, "--output", copy, "--set", f"select.max_size={size}B")
    assert result.returncode == 0, result.stdout + result.stderr
    nodes = states(result.stdout)
    assert nodes.pop("StudentSelector") == "ran"
    assert set(nodes.values()) == {"cached"}
    assert "Chosen: small-int8" in result.stdout


def test_pick_replaces_file_report_and_bundle_and_verify_accepts_the_folder(copy):
    smallest = min((copy / "models").glob("*.tflite"), key=lambda path: path.stat().st_size)
    result = command("pick", copy, "--max-size", f"{smallest.stat().st_size}B")
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("note: ") for line in result.stderr.splitlines())
    assert (copy / "selected.tflite").read_bytes() == smallest.read_bytes()
    with zipfile.ZipFile(copy / "bundle.zip") as archive:
        archive.extractall(copy.parent / "app")
    shown = subprocess.run(
        [sys.executable, "snippets/classify.py"], cwd=copy.parent / "app", capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert (copy.parent / "app" / smallest.name).read_bytes() == smallest.read_bytes()
    checked = command("verify", copy)
    assert checked.returncode == 0, checked.stdout


def test_run_exits_3_and_names_the_nearest_when_nothing_fits(copy, job):
    result = command("run", job, "--output", copy, "--set", "select.max_size=1KB")
    assert result.returncode == 3
    assert "small-int8" in result.stderr
    assert "max_size" in result.stderr
    assert "Traceback" not in result.stderr


def test_run_again_misses_the_cache_when_the_content_of_teacher_or_data_changes(copy, job):
    write_teacher(job.parent / "teacher.keras", seed=1)
    result = command("run", job, "--output", copy, *QUICK)
    assert result.returncode == 0, result.stdout + result.stderr
    nodes = states(result.stdout)
    assert nodes["ImageExampleGen"] == "cached"
    assert nodes["TeacherImporter"] == "ran"
    assert nodes["Distiller"] == "ran"
    write_data(job.parent / "digits.npz", invert=3)
    result = command("run", job, "--output", copy, *QUICK)
    assert result.returncode == 0, result.stdout + result.stderr
    assert states(result.stdout)["ImageExampleGen"] == "ran"


def test_run_jointly_trains_a_copy_of_the_teacher_and_writes_it(copy, job):
    imported = file_sha256(job.parent / "teacher.keras")
    settings = ("teacher.mode=joint", "teacher.mutual_weight=0.2", "distill.epochs=2")
    result = command("run", job, "--output", copy, *QUICK, *[f"--set={s}" for s in settings])
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"distilled: epoch 2/2: validation accuracy small .*, the teacher \d\.\d{3} \(", result.stdout)
    report = Report.model_validate_json((copy / "report.json").read_text())
    trained = report.trained_teacher
    assert report.teacher.sha256 == trained.imported_sha256 == file_sha256(job.parent / "teacher.keras") == imported
    assert file_sha256(copy / "trained_teacher/teacher.keras") == trained.teacher.sha256 != imported
    assert set(trained.teacher.accuracy) == {"validation", "test"}
    assert "Jointly trained, accuracy on test" in (copy / "report.html").read_text()
    images = report.data["counts"]["train"]
    assert report.teacher_forward_passes == trained.forward_passes + 2 * images
    traced = json.loads(command("lineage", copy / "selected.tflite", "--at", copy, "--json").stdout)
    assert traced["chains"][0]["teacher"]["sha256"] == imported
    assert traced["chains"][0]["trained_teacher"]["sha256"] == trained.teacher.sha256
    checked = command("verify", copy)
    assert checked.returncode == 0, checked.stdout


def test_run_initializes_students_by_features_and_a_later_run_by_its_students(copy, job, tmp_path):
    with np.load(job.parent / "digits.npz") as data:
        np.savez(tmp_path / "more.npz", images=255 - data["test_images"])
    features = (
        "distill.init=features", "distill.init_epochs=2", f"data.unlabeled={tmp_path / 'more.npz'}",
        "teacher.view_mix=yes",
    )  # fmt: skip
    result = command("run", job, "--output", copy, *QUICK, *[f"--set={s}" for s in features])
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"features: epoch 2/2: loss small .*, large .* \(", result.stdout)
    report = Report.model_validate_json((copy / "report.json").read_text())
    began = report.students.initialization
    assert (began.kind, began.source_sha256, began.labeled_images) == ("features", report.teacher.sha256, 396)
    # One forward pass for each view; with labels it gives logits and features.
    assert (report.teacher_forward_passes, began.forward_passes) == (2 * 396, 2 * began.unlabeled_images)
    assert began.unlabeled_images == TEST
    folders = copy.glob("pipeline/TeacherImporter/teacher_logits/*")
    logits = [read_manifest(folder, TeacherLogitsManifest) for folder in folders]
    assert [one.recipe.mixed for one in logits].count(True) == 1

    result = command("run", job, "--output", tmp_path / "next", *QUICK, f"--set=distill.init={copy}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "features: epoch" not in result.stdout
    began = Report.model_validate_json((tmp_path / "next/report.json").read_text()).students.initialization
    assert (began.kind, began.new_logits) == ("students", False)
    recorded = json.loads(command("lineage", copy / "selected.tflite", "--at", copy, "--json").stdout)
    assert began.source_sha256 in json.dumps(recorded)
    checked = command("verify", tmp_path / "next")
    assert checked.returncode == 0, checked.stdout


def test_run_resumes_after_the_last_epoch_when_it_was_killed(tmp_path):
    config = write_job(tmp_path / "job")
    output = tmp_path / "out"
    settings = [*QUICK, "--set=distill.epochs=12"]
    with forked.start(forked.CLI, ["run", str(config), "--output", str(output), *settings]) as program:
        deadline = time.monotonic() + 300
        while not list(output.glob("pipeline/Distiller/checkpoints/*.npz")) and time.monotonic() < deadline:
            os.kill(program.pid, 0)  # raises if the process has ended
            time.sleep(0.05)
        os.kill(program.pid, signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    (checkpoint,) = output.glob("pipeline/Distiller/checkpoints/*.npz")
    assert not list(output.glob("pipeline/Distiller/students/*/manifest.json"))
    result = command("run", config, "--output", output, *settings)
    assert result.returncode == 0, result.stdout + result.stderr
    nodes = states(result.stdout)
    assert nodes["ImageExampleGen"] == nodes["TeacherImporter"] == "cached"
    assert nodes["Distiller"] == "ran"
    assert "distilled: epoch 1/12" not in result.stdout
    assert "distilled: epoch 12/12" in result.stdout
    assert not checkpoint.exists()
