# SPDX-License-Identifier: Apache-2.0
"""Tests the comparison of two histories, and the list of runs at a location."""

from pathlib import Path

import pytest

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.diff import diff_of
from learn2compress.lineage.queries.history import history_of
from learn2compress.lineage.queries.trace import lineage_of_file


@pytest.fixture
def runs(make_run, tmp_path: Path):
    return make_run(tmp_path / "out"), make_run(
        tmp_path / "out", run="run-2", first=20, epochs=10, seed=8, teacher=b"other", day=2, chosen="small-int8"
    )


def trace(tmp_path: Path, run, name: str = "large-int8"):
    return lineage_of_file(open_graph(tmp_path / "out"), run.path("Quantizer.models", f"{name}.tflite"))


def test_diff_lists_the_changes_between_two_runs(runs, tmp_path: Path) -> None:
    report = diff_of(trace(tmp_path, runs[0]), trace(tmp_path, runs[1]))

    assert report.status == "whole"
    assert not report.same_bytes
    found = {(one.node, one.what, one.name): (one.a, one.b) for one in report.differences}
    assert found["Distiller", "parameter", "distill_epochs"] == (30, 10)
    assert found["Distiller", "seed", "seed"] == (7, 8)
    assert ("TeacherImporter", "parameter", "teacher_sha256") in found
    assert found["", "figure", "figures.test.top1"] == (0.927, 0.929)
    assert not any(node == "ImageExampleGen" for node, _, _ in found)
    assert not any(what in ("package", "code", "platform", "step") for _, what, _ in found)


def with_parameters(report, node: str, **parameters):
    """The report as if the step of a node had further parameters."""
    (chain, *others) = report.chains
    steps = [
        step.model_copy(update={"parameters": step.parameters | parameters}) if step.node == node else step
        for step in chain.steps
    ]
    return report.model_copy(update={"chains": [chain.model_copy(update={"steps": steps}), *others]})


def test_diff_compares_a_parameter_with_the_one_of_its_former_name(runs, tmp_path: Path) -> None:
    old = with_parameters(trace(tmp_path, runs[0]), "Quantizer", quantize_rescue=0, quantize_rescue_drop=0.01)
    new = with_parameters(
        trace(tmp_path, runs[1]), "Quantizer", quantize_mixed_precision=0, quantize_mixed_precision_drop=0.02
    )

    found = {one.name: (one.a, one.b) for one in diff_of(old, new).differences if one.what == "parameter"}

    assert found["quantize_mixed_precision_drop"] == (0.01, 0.02)
    assert "quantize_mixed_precision" not in found
    assert not [name for name in found if "rescue" in name]


def test_diff_of_siblings_lists_figures_only(runs, tmp_path: Path) -> None:
    report = diff_of(trace(tmp_path, runs[0]), trace(tmp_path, runs[0], "small-int8"))

    assert {one.what for one in report.differences} == {"figure"}


def test_diff_of_a_file_with_itself_is_empty(runs, tmp_path: Path) -> None:
    report = diff_of(trace(tmp_path, runs[0]), trace(tmp_path, runs[0]))

    assert report.same_bytes
    assert report.differences == []


def test_diff_is_unknown_when_a_file_is_unknown(runs, tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"x")
    unknown = lineage_of_file(open_graph(tmp_path / "out"), tmp_path / "x.tflite")

    report = diff_of(trace(tmp_path, runs[0]), unknown)

    assert report.status == "unknown"
    assert report.differences == []


def test_diff_lists_a_missing_step(runs, tmp_path: Path) -> None:
    (tmp_path / "out" / runs[1].records["Distiller"]).unlink()

    report = diff_of(trace(tmp_path, runs[0]), trace(tmp_path, runs[1]))

    assert report.status == "incomplete"
    [step] = [one for one in report.differences if one.what == "step"]
    assert (step.node, step.a, step.b) == ("Distiller", "Distiller/provenance/3.intoto.json", None)


def test_history_lists_runs_newest_first(runs, tmp_path: Path) -> None:
    runs[1].day = 3
    runs[1].again("run-3")

    report = history_of(open_graph(tmp_path / "out"))

    assert report.status == "whole"
    assert [view.run for view in report.runs] == ["run-3", "run-2", "run-1"]
    cached, second, first = report.runs
    assert (cached.executions, cached.cached, cached.seconds) == (3, 3, 0.0)
    assert (first.executions, first.cached, first.seconds) == (7, 0, 210.0)
    assert (first.chosen, second.chosen) == ("large-int8", "small-int8")
    assert first.started == "2026-01-01T10:01:00.000Z"
    assert first.finished == "2026-01-01T10:07:30.000Z"


def test_history_names_a_broken_record(runs, tmp_path: Path) -> None:
    (tmp_path / "out" / runs[1].records["Pruner"]).write_text("{")

    report = history_of(open_graph(tmp_path / "out"))

    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == [runs[1].records["Pruner"]]
    assert [view.executions for view in report.runs] == [6, 7]
