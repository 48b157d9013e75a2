# SPDX-License-Identifier: Apache-2.0
"""Tests the main job on texts, and the questions that its outputs are asked."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.digits_job import command, fresh_command
from support.texts import job as text_job

from learn2compress.modalities.text.words import split_words
from learn2compress.schemas.config import load_config
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.manifests import DataManifest, StudentSetManifest, TeacherLogitsManifest, read_manifest
from learn2compress.schemas.reports import Report
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.model_file import prove_full_int8, read_model_file

pytestmark = pytest.mark.e2e

STEPS = ["Quantizer", "Pruner", "Distiller", "TeacherImporter", "TextExampleGen"]


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    return text_job.write_job(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def output(job, tmp_path_factory) -> Path:
    """Output folder of a finished run."""
    output = tmp_path_factory.mktemp("run") / "out"
    result = fresh_command("run", job, "--output", output)
    assert result.returncode == 0, result.stdout + result.stderr + (output / "run.log").read_text()[-5000:]
    return output


def artifact(output: Path, node: str, key: str) -> Path:
    [folder] = (output / "pipeline" / node / key).iterdir()
    return folder


def read_report(output: Path) -> Report:
    return Report.model_validate_json((output / "report.json").read_text())


def test_students_learn_from_texts_with_and_without_labels(output):
    report = read_report(output)
    candidates = {candidate.name: candidate for candidate in report.evaluation.candidates}
    logits = read_manifest(artifact(output, "TeacherImporter", "teacher_logits"), TeacherLogitsManifest)
    data = read_manifest(artifact(output, "TextExampleGen", "examples"), DataManifest)
    students = read_manifest(artifact(output, "Pruner", "pruned_students"), StudentSetManifest)

    assert report.teacher.accuracy["test"] > 0.85
    assert candidates["large-int8"].figures["test"].top1 > 0.75
    assert candidates["large-int8"].bytes > candidates["small-int8"].bytes
    assert logits.unlabeled.count == data.unlabeled.count == 600
    assert logits.forward_passes == 2 * (data.counts["train"] + 600)
    assert [student.name for student in students.students] == ["small", "large"]


def test_groups_are_in_one_split(output):
    from learn2compress.data.stored_examples import read_shard

    folder = artifact(output, "TextExampleGen", "examples")
    data = read_manifest(folder, DataManifest)
    rows = text_job.load_messages().make_messages(500, 1)
    groups = [
        {
            rows[int(example.source.partition("#")[2])]["group"]
            for shard in data.shards[split]
            for example in read_shard(folder / f"Split-{split}" / shard, data.task)
        }
        for split in ("train", "validation", "test")
    ]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]


def test_files_are_full_int8_with_their_words(output):
    for path in sorted((output / "models").glob("*-int8.tflite")):
        assert prove_full_int8(read_model_file(path)).holds
        assert read_metadata(path.read_bytes()).labels == tuple(sorted(text_job.load_messages().CORES))


def test_report_shows_texts_on_which_file_and_teacher_differ(output):
    page, report = (output / "report.html").read_text(), read_report(output)
    examples = json.loads((artifact(output, "TFLiteEvaluator", "evaluation") / "thumbnails.json").read_text())
    chosen = next(one for one in report.evaluation.candidates if one.name == report.choice.chosen)

    assert chosen.figures["test"].flips
    text = examples[chosen.figures["test"].flips[0].id]
    assert split_words(text)
    assert '<q dir="auto">' in page
    assert set(chosen.class_words) == set(report.evaluation.task.classes)
    assert all(chosen.class_words.values())
    assert {"money", "Geld", "Erstattung", "back", "refund", "account"} & set(chosen.class_words["refund"])
    assert "validation texts" in page
    assert "validation images" not in page


def test_lineage_and_verify_find_every_step(output, job):
    lineage = command("lineage", output / "selected.tflite", "--at", output, "--json")
    verify = command("verify", output)

    assert lineage.returncode == verify.returncode == 0, lineage.stderr + verify.stdout
    [chain] = json.loads(lineage.stdout)["chains"]
    assert [step["node"] for step in chain["steps"]] == STEPS
    assert chain["teacher"]["sha256"] == file_sha256(job.parent / "teacher.keras")


def test_pick_chooses_another_file(output, tmp_path):
    copy = Path(shutil.copytree(output, tmp_path / "copy"))

    result = command("pick", copy, "--max-size", "4KB")

    assert result.returncode == 0, result.stdout + result.stderr
    assert file_sha256(copy / "selected.tflite") == file_sha256(output / "models" / "small-int8.tflite")
    with zipfile.ZipFile(copy / "bundle.zip") as archive:
        golden = json.loads(archive.read("golden/golden.json"))
        assert {name.rpartition(".")[2] for name in archive.namelist() if name.startswith("golden/")} == {
            "txt", "bin", "json",
        }  # fmt: skip
    assert golden


def test_replay_makes_the_same_bytes(output, tmp_path):
    result = command("replay", output / "selected.tflite", "--at", output, "--output", tmp_path / "again", "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    replayed = json.loads(result.stdout)
    assert replayed["same_bytes"], replayed["first_different_step"]


def test_second_run_is_a_cache_hit(output, job, tmp_path):
    copy = Path(shutil.copytree(output, tmp_path / "out"))

    result = command("run", job, "--output", copy)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("unchanged, from the cache") >= 9, result.stdout


def test_evaluate_agrees_with_the_report(output, job):
    model = output / "models" / "large-int8.tflite"
    result = command("evaluate", model, "--data", job.parent / "messages.csv", "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    [file] = json.loads(result.stdout)
    report = read_report(output)
    candidate = next(one for one in report.evaluation.candidates if one.name == "large-int8")
    assert np.isclose(file["accuracy"], candidate.figures["test"].top1)


def test_example_configuration_is_complete():
    config = load_config(text_job.EXAMPLE / "config.yaml")

    assert config.data.path.endswith("examples/text/data/messages.csv")
    assert config.learns_unlabeled_logits
