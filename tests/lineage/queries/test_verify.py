# SPDX-License-Identifier: Apache-2.0
"""Tests that any changed byte is detected and its file named."""

import shutil
from pathlib import Path

import pytest

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.verify import verify_file, verify_place
from learn2compress.lineage.records.output_record import record_output_folder
from learn2compress.lineage.records.provenance import describe_output, record_of, save_record
from learn2compress.schemas.provenance import LOCK_FILE
from learn2compress.storage.location import open_location


@pytest.fixture
def out(make_run, tmp_path: Path) -> Path:
    run = make_run(tmp_path / "out" / "pipeline")
    run.again("run-2")
    models = tmp_path / "out" / "models"
    models.mkdir()
    for file in run.path("Quantizer.models", "").glob("*.tflite"):
        shutil.copy(file, models)
    (tmp_path / "out" / "report.html").write_text("<html>")
    return tmp_path / "out"


def verify(out: Path):
    return verify_place(open_graph(out), open_location(out))


def test_verify_place_is_whole_when_nothing_changed(out: Path) -> None:
    report = verify(out)

    assert report.status == "whole"
    assert report.problems == []
    assert (report.records, report.artifacts) == (10, 9)
    assert report.files == 18
    assert sorted(report.copies) == sorted(f"models/{path.name}" for path in (out / "models").iterdir())
    assert report.unrecorded == ["report.html"]


def test_verify_place_names_a_file_with_any_flipped_byte(out: Path) -> None:
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in ("report.html",)]
    files = [path for path in files if not path.name.startswith("provenance-index")]
    assert len(files) > 25

    for path in files:
        raw = path.read_bytes()
        if not raw:
            continue
        for place in {0, len(raw) // 2, len(raw) - 1}:
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
            report = verify(out)
            assert report.status == "tampered", path
            assert any(str(path).endswith(problem.where) for problem in report.problems), path
        path.write_bytes(raw)
    assert verify(out).status == "whole"


def test_verify_place_names_a_missing_file(out: Path) -> None:
    (out / "pipeline" / "ImageExampleGen" / "examples" / "1" / "manifest.json").unlink()

    report = verify(out)

    assert report.status == "incomplete"
    assert [problem.where for problem in report.problems] == ["ImageExampleGen/examples/1/manifest.json"]


def test_verify_place_names_a_missing_artifact_once(out: Path) -> None:
    shutil.rmtree(out / "pipeline" / "Distiller" / "students")

    report = verify(out)

    assert report.status == "incomplete"
    assert [problem.where for problem in report.problems] == ["Distiller/students/3"]


def test_verify_place_names_an_added_file(out: Path) -> None:
    (out / "pipeline" / "ImageExampleGen" / "examples" / "1" / "Split-train" / "extra.gz").write_bytes(b"x")

    report = verify(out)

    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == ["ImageExampleGen/examples/1/Split-train/extra.gz"]
    assert "was added" in report.problems[0].reason


def test_verify_place_names_a_missing_record(out: Path) -> None:
    (out / "pipeline" / "Distiller" / "provenance" / "3.intoto.json").unlink()

    report = verify(out)

    assert "Distiller/provenance/3.intoto.json" in [problem.where for problem in report.problems]


def test_verify_place_names_a_record_moved_without_its_artifacts(out: Path) -> None:
    (out / "pipeline" / "Other" / "provenance").mkdir(parents=True)
    shutil.move(out / "pipeline" / "Pruner" / "provenance" / "4.intoto.json", out / "pipeline" / "Other" / "provenance")

    report = verify(out)

    assert report.status == "tampered"
    assert any("it was moved on its own" in problem.reason for problem in report.problems)


def test_verify_place_names_an_unknown_model_outside_the_artifacts(out: Path) -> None:
    (out / "models" / "new.tflite").write_bytes(b"TFL3")

    report = verify(out)

    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == ["models/new.tflite"]


@pytest.mark.parametrize(
    ("name", "content", "lock", "status"),
    [
        ("report.json", b"new", '{"command": "run", "since": "2026-01-01"}', "incomplete"),
        ("report.json", b"new", "", "tampered"),
        ("selected.tflite", b"TFL3small", '{"command": "run", "since": "2026-01-01"}', "tampered"),
    ],
)
def test_verify_place_tells_a_file_that_an_interrupted_command_replaced_from_a_changed_one(
    out: Path, name: str, content: bytes, lock: str, status: str
) -> None:
    (out / name).write_bytes(b"old" if name == "report.json" else next((out / "models").iterdir()).read_bytes())
    record_output_folder(out, [])
    assert verify(out).status == "whole"

    (out / name).write_bytes(content)
    (out / LOCK_FILE).write_text(lock)
    report = verify(out)

    assert report.status == status
    assert [problem.where for problem in report.problems] == [f"../{name}"]


@pytest.mark.parametrize(("uri", "status"), [("Node/x/1", "incomplete"), ("../models", "whole")])
def test_verify_place_does_not_call_an_overwritten_artifact_tampered(tmp_path: Path, uri: str, status: str) -> None:
    location = open_location(tmp_path / "pipeline")
    for number in (1, 2):
        location.write(f"{uri}/file", str(number).encode())
        statement = record_of(
            "Node", [], [describe_output(location, uri, "x", "T")], {}, pipeline="p", run=str(number),
            execution=str(number), finished=f"2026-01-0{number}T00:00:00.000Z",
        )  # fmt: skip
        save_record(location, statement)

    report = verify(tmp_path)

    assert report.status == status
    assert [problem.where for problem in report.problems] == (
        ["Node/provenance/1.intoto.json"] if status == "incomplete" else []
    )
    assert report.artifacts == 1


def test_verify_place_accepts_a_part_of_a_pipeline(out: Path) -> None:
    shutil.rmtree(out / "pipeline" / "Distiller" / "students")
    place = open_location(out / "pipeline" / "Quantizer")

    report = verify_place(open_graph(out / "pipeline" / "Quantizer"), place, inside="Quantizer")

    assert report.status == "whole"
    assert report.artifacts == 1


def test_verify_place_accepts_a_bucket(out: Path, tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    name = f"verify-{tmp_path.name}"
    files.put(str(out), f"/{name}", recursive=True)
    report = verify_place(open_graph(f"memory://{name}"), open_location(f"memory://{name}"))
    assert report.status == "whole"

    files.pipe_file(f"/{name}/pipeline/Distiller/students/3/manifest.json", b"{}")
    report = verify_place(open_graph(f"memory://{name}"), open_location(f"memory://{name}"))
    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == ["Distiller/students/3/manifest.json"]


def test_verify_file_matches_a_file_by_its_bytes(out: Path, tmp_path: Path) -> None:
    copy = shutil.copy(out / "models" / "large-int8.tflite", tmp_path / "elsewhere")

    report = verify_file(open_graph(out), Path(copy))

    assert report.status == "whole"
    assert report.records == 5


def test_verify_file_detects_other_bytes_at_a_recorded_path(out: Path) -> None:
    model = out / "pipeline" / "Quantizer" / "models" / "5" / "large-int8.tflite"
    model.write_bytes(b"other")

    report = verify_file(open_graph(out), model)

    assert report.status == "tampered"
    assert report.problems[0].where == "Quantizer/models/5/large-int8.tflite"


def test_verify_file_of_an_unrecorded_file_is_unknown(out: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"other")

    assert verify_file(open_graph(out), tmp_path / "x").status == "unknown"
