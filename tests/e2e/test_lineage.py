# SPDX-License-Identifier: Apache-2.0
"""An auditor's day: a file under another name, the folder its run left, and nothing else."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.json_schemas import lineage_schema
from tests.e2e.conftest import command

pytestmark = pytest.mark.e2e

STEPS = ["Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen"]


@pytest.fixture
def audited(finished, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the output folder at another place without its database, and the chosen file under another name."""
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
    """Everything in a metadata store that other places cannot change: all but URIs."""
    from learn2compress.lineage.mlmd.store import open_sqlite

    store = open_sqlite(database)
    artifacts = store.get_artifacts()
    for artifact in artifacts:
        artifact.uri = artifact.uri.partition("/pipeline/")[2]
    executions = store.get_executions()
    events = store.get_events_by_execution_ids([execution.id for execution in executions])
    found = {"artifacts": artifacts, "executions": executions, "events": events, "contexts": store.get_contexts()}
    return {kind: sorted(map(str, some)) for kind, some in found.items()}


def test_renamed_file_and_moved_folder_without_database_tell_the_whole_chain(audited, job) -> None:
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
    assert len(chain["siblings"]) == 4  # the teacher, plainly converted, among them
    assert all(sibling["reason"] and sibling["test_accuracy"] for sibling in chain["siblings"])
    chosen = json.loads((moved / "report.json").read_text())["choice"]["chosen"]
    assert chain["model"]["name"] == chosen
    assert "../selected.tflite" in chain["copies"]


def test_plain_conversion_of_the_teacher_is_traced_as_the_others_are(audited, job) -> None:
    moved, _ = audited

    result = command("lineage", moved / "models" / "teacher-int8.tflite", "--at", moved, "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    [chain] = json.loads(result.stdout)["chains"]
    assert (chain["model"]["name"], chain["model"]["full_int8"]) == ("teacher-int8", True)
    assert chain["teacher"]["sha256"] == file_sha256(job.parent / "teacher.keras")
    assert chain["choices"][0]["status"] == "baseline"


def test_tree_of_a_real_run_is_readable(audited) -> None:
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


def test_run_is_whole_until_a_byte_is_flipped(finished, tmp_path: Path) -> None:
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


def test_flipped_copy_is_not_taken_for_the_model(audited) -> None:
    moved, model = audited
    flip(model)

    result = command("lineage", model, "--at", moved)

    assert result.returncode == 3
    assert "lists these bytes" in result.stdout


def test_standard_nodes_are_recorded_like_ours(audited) -> None:
    moved, _ = audited

    for node in ("StatisticsGen", "SchemaGen", "ExampleValidator"):
        [record] = (moved / "pipeline" / node / "provenance").glob("*.intoto.json")
        statement = json.loads(record.read_text())
        assert statement["predicate"]["buildDefinition"]["internalParameters"]["node"] == node
        assert [one["digest"] for one in statement["subject"]]


def test_training_image_leads_to_all_models(finished, audited) -> None:
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


def test_replay_gives_the_same_bytes(audited, tmp_path: Path) -> None:
    moved, model = audited

    result = command("replay", model, "--at", moved, "--output", tmp_path / "again", "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    jsonschema.validate(report, lineage_schema())
    assert report["same_bytes"] or report["first_different_step"]
    assert report["within_tolerance"]
    # The code may have been committed in between; packages and platform are those of this very process.
    assert {difference["what"] for difference in report["environment"]} <= {"code"}


def test_replay_refuses_what_is_not_what_it_was(audited, job, tmp_path: Path) -> None:
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
