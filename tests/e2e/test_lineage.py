# SPDX-License-Identifier: Apache-2.0
"""Tests an audit of a real run that starts from a renamed file and a moved output folder without database."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from support.digits_job import command

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.json_schemas import lineage_schema

pytestmark = pytest.mark.e2e

STEPS = ["Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen"]


@pytest.fixture
def audited(finished, tmp_path: Path) -> tuple[Path, Path]:
    """Copies the output folder without its database to another place, and the chosen file to another name."""
    output, _ = finished
    moved = tmp_path / "moved"
    shutil.copytree(output, moved)
    (moved / "metadata.db").unlink()
    return moved, Path(shutil.copy(output / "selected.tflite", tmp_path / "a-model"))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def nodes_of(database: Path) -> dict[str, list[str]]:
    """Reads all nodes of a metadata store, with URIs relative to the pipeline root."""
    from learn2compress.lineage.mlmd.store import open_sqlite

    store = open_sqlite(database)
    artifacts = store.get_artifacts()
    for artifact in artifacts:
        artifact.uri = artifact.uri.partition("/pipeline/")[2]
    executions = store.get_executions()
    events = store.get_events_by_execution_ids([execution.id for execution in executions])
    found = {"artifacts": artifacts, "executions": executions, "events": events, "contexts": store.get_contexts()}
    return {kind: sorted(map(str, some)) for kind, some in found.items()}


def test_lineage_of_a_renamed_file_in_a_moved_folder_is_complete_without_database(audited, job) -> None:
    moved, model = audited

    result = command("lineage", model, "--at", moved, "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    jsonschema.validate(report, lineage_schema())
    [chain] = report["chains"]
    assert [step["node"] for step in chain["steps"]] == STEPS
    assert chain["teacher"]["sha256"] == file_sha256(job.parent / "teacher.keras")
    assert sum(chain["data"]["manifest"]["counts"].values()) == 650
    assert chain["calibration"]["split"] == "train"
    assert chain["choices"][0]["status"] == "chosen"
    assert len(chain["siblings"]) == 4  # including the plain conversion of the teacher
    assert all(sibling["reason"] and sibling["test_accuracy"] for sibling in chain["siblings"])
    chosen = json.loads((moved / "report.json").read_text())["choice"]["chosen"]
    assert chain["model"]["name"] == chosen
    assert "../selected.tflite" in chain["copies"]


def test_lineage_of_a_plain_conversion_of_the_teacher_is_complete(audited, job) -> None:
    moved, _ = audited

    result = command("lineage", moved / "models" / "teacher-int8.tflite", "--at", moved, "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    [chain] = json.loads(result.stdout)["chains"]
    assert (chain["model"]["name"], chain["model"]["full_int8"]) == ("teacher-int8", True)
    assert chain["teacher"]["sha256"] == file_sha256(job.parent / "teacher.keras")
    assert chain["choices"][0]["status"] == "baseline"


def test_lineage_tree_of_a_real_run_is_at_most_100_columns_wide(audited) -> None:
    moved, model = audited

    result = command("lineage", model, "--at", moved)

    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert result.stdout.rstrip().endswith("Lineage: whole")


def test_rebuilt_database_equals_the_deleted_one(finished, audited, tmp_path: Path) -> None:
    output, _ = finished
    moved, _ = audited

    result = command("rebuild-metadata", moved, "--to", tmp_path / "rebuilt.db")

    assert result.returncode == 0, result.stdout + result.stderr
    original = nodes_of(output / "metadata.db")
    assert len(original["executions"]) == 10
    assert nodes_of(tmp_path / "rebuilt.db") == original


def test_verify_finds_each_flipped_byte(finished, tmp_path: Path) -> None:
    output = tmp_path / "copy"
    shutil.copytree(finished[0], output)
    whole = command("verify", output, "--json")
    assert whole.returncode == 0, whole.stdout
    report = json.loads(whole.stdout)
    assert report["records"] == 11
    assert set(report["unrecorded"]) <= {"run.json", "run.log"}

    shard = next((output / "pipeline" / "ImageExampleGen" / "examples").glob("*/Split-train/*.gz"))
    for file in (shard, output / "selected.tflite", output / "report.html", output / "models" / "small-int8.tflite"):
        flip(file)
        result = command("verify", output)
        assert result.returncode == 4
        tampered = [line for line in result.stdout.splitlines() if line.startswith("TAMPERED")]
        assert len(tampered) == 1
        assert file.name in tampered[0]
        flip(file)


def test_lineage_refuses_a_copy_with_a_flipped_byte(audited) -> None:
    moved, model = audited
    flip(model)

    result = command("lineage", model, "--at", moved)

    assert result.returncode == 3
    assert "lists these bytes" in result.stdout


def test_standard_nodes_of_tfx_are_recorded(audited) -> None:
    moved, _ = audited

    for node in ("StatisticsGen", "SchemaGen", "ExampleValidator"):
        [record] = (moved / "pipeline" / node / "provenance").glob("*.intoto.json")
        statement = json.loads(record.read_text())
        assert statement["predicate"]["buildDefinition"]["internalParameters"]["node"] == node
        assert [one["digest"] for one in statement["subject"]]


def test_impact_of_a_training_image_lists_all_models(finished, audited) -> None:
    moved, _ = audited
    from learn2compress.data.record_files import read_records

    shard = next((finished[0] / "pipeline" / "ImageExampleGen" / "examples").glob("*/Split-train/*.gz"))
    record = next(read_records(shard))
    identity = record.split(b"\n\x12\n\x10")[1][:16].decode()

    result = command("impact", identity, "--at", moved, "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert [(cause["kind"], cause["split"]) for cause in report["causes"]] == [("example", "train")]
    assert len(report["models"]) == 5


def test_replay_reproduces_the_bytes_or_names_the_first_difference(audited, tmp_path: Path) -> None:
    moved, model = audited

    result = command("replay", model, "--at", moved, "--output", tmp_path / "again", "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    jsonschema.validate(report, lineage_schema())
    assert report["same_bytes"] or report["first_different_step"]
    assert report["within_tolerance"]
    # The commit of the code may change between the runs; packages and platform do not.
    assert {difference["what"] for difference in report["environment"]} <= {"code"}


def test_replay_refuses_another_teacher_other_data_and_a_used_folder(audited, job, tmp_path: Path) -> None:
    moved, model = audited
    other = tmp_path / "other.keras"
    other.write_bytes((job.parent / "teacher.keras").read_bytes()[:-1])

    result = command("replay", model, "--at", moved, "--output", tmp_path / "again", "--teacher", other)

    assert result.returncode == 2
    assert "The teacher must be the recorded one" in result.stderr

    result = command("replay", model, "--at", moved, "--output", tmp_path / "again", "--data", "digits")

    assert result.returncode == 2
    assert "The data must be the recorded ones" in result.stderr
    result = command("replay", model, "--at", moved, "--output", moved)
    assert result.returncode == 2
    assert "it holds a run already" in result.stderr
