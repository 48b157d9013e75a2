# SPDX-License-Identifier: Apache-2.0
"""Tests the record of the files outside the pipeline root, which the next run may replace."""

import shutil
from pathlib import Path

import pytest

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.history import history_of
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.lineage.records.output_record import record_another_choice, record_output_folder
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import parse_statement
from learn2compress.storage.location import open_location


@pytest.fixture
def run(make_run, tmp_path: Path):
    run = make_run(tmp_path / "out" / "pipeline")
    fill(run, tmp_path / "out", "large-int8")
    return run


def fill(run, out: Path, chosen: str) -> None:
    (out / "models").mkdir(exist_ok=True)
    for file in run.path("Quantizer.models", "").glob("*.tflite"):
        shutil.copy(file, out / "models")
    shutil.copy(out / "models" / f"{chosen}.tflite", out / "selected.tflite")
    (out / "report.html").write_text(f"<html>{chosen}")
    (out / "report.json").write_text(f'"{chosen}"')
    (out / "bundle.zip").write_bytes(chosen.encode())
    record_output_folder(out, [run.path("Quantizer.models", ""), run.path("StudentSelector.model", "")])


def verify(out: Path):
    return verify_place(open_graph(out), open_location(out))


@pytest.mark.parametrize(
    "name", ["models/small-int8.tflite", "selected.tflite", "report.html", "report.json", "bundle.zip"]
)
def test_verify_names_a_changed_file_of_the_output_folder(run, tmp_path: Path, name: str) -> None:  # noqa: ARG001
    file = tmp_path / "out" / name
    assert verify(tmp_path / "out").status == "whole"

    file.write_bytes(file.read_bytes()[:-1] + b"?")
    report = verify(tmp_path / "out")

    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == [f"../{name}"]


def test_verify_names_a_missing_file_of_the_output_folder(run, tmp_path: Path) -> None:  # noqa: ARG001
    (tmp_path / "out" / "selected.tflite").unlink()

    report = verify(tmp_path / "out")

    assert report.status == "incomplete"
    assert [problem.where for problem in report.problems] == ["../selected.tflite"]


def test_verify_of_the_pipeline_root_alone_is_whole(run, tmp_path: Path) -> None:  # noqa: ARG001
    shutil.move(tmp_path / "out" / "pipeline", tmp_path / "alone")

    assert verify(tmp_path / "alone").status == "whole"


def test_record_output_folder_replaces_the_record(run, tmp_path: Path) -> None:
    fill(run, tmp_path / "out", "small-int8")

    report = verify(tmp_path / "out")

    assert report.status == "whole"
    assert report.records == 8


def test_record_another_choice_replaces_only_the_selection(run, tmp_path: Path) -> None:
    path = record_another_choice(tmp_path / "out", run.path("StudentSelector.selection", ""))

    record = parse_statement(Path(path).read_bytes(), path)
    assert [read.type for read in record.inputs] == ["learn2compress.OnDeviceModelSet", "learn2compress.Selection"]
    assert verify(tmp_path / "out").status == "whole"


def test_lineage_does_not_count_copies_as_origins(run, tmp_path: Path) -> None:  # noqa: ARG001
    report = lineage_of_file(open_graph(tmp_path / "out"), tmp_path / "out" / "selected.tflite")

    assert report.status == "whole"
    [chain] = report.chains
    assert chain.steps[0].node == "Quantizer"
    assert chain.copies == [
        "../models/large-int8.tflite",
        "../selected.tflite",
        "StudentSelector/model/7/Format-Serving/large-int8.tflite",
    ]


def test_lineage_of_the_report_lists_its_sources(run, tmp_path: Path) -> None:  # noqa: ARG001
    [chain] = lineage_of_file(open_graph(tmp_path / "out"), tmp_path / "out" / "report.html").chains

    assert [step.node for step in chain.steps][:3] == ["Output", "StudentSelector", "TFLiteEvaluator"]


def test_history_does_not_count_the_record_of_the_output_folder(run, tmp_path: Path) -> None:  # noqa: ARG001
    [view] = history_of(open_graph(tmp_path / "out")).runs

    assert "Output" not in view.nodes


def test_record_output_folder_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match=r"must hold provenance records"):
        record_output_folder(tmp_path, [])
