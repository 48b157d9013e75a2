# SPDX-License-Identifier: Apache-2.0
"""Tests the comparison of a replay: bytes step by step without times, and figures within a tolerance."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.latency import PER_MAC

from learn2compress.evaluation.latency.table import model_text, read_table
from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.pipeline import replay
from learn2compress.pipeline.replay import compare_replay
from learn2compress.schemas.config import Config
from learn2compress.schemas.errors import LineageError, UnsafePathError
from learn2compress.schemas.module_source import read_module


@pytest.fixture
def compare(make_run, tmp_path: Path):
    """Compares a run with another one of other settings."""

    def run(tolerance: float = 0.02, **settings):
        recorded = make_run(tmp_path / "recorded")
        make_run(tmp_path / "replayed", run="again", first=31, **settings)
        graph = open_graph(tmp_path / "recorded")
        report = lineage_of_file(graph, recorded.path("Quantizer.models", "large-int8.tflite"))
        return compare_replay(graph, report, open_graph(tmp_path / "replayed"), tmp_path / "replayed", tolerance)

    return run


def test_compare_replay_finds_the_same_bytes_when_the_steps_are_the_same(compare) -> None:
    report = compare()

    assert report.same_bytes
    assert report.within_tolerance
    assert report.differing_steps == []
    assert report.first_different_step is None
    assert report.environment == []
    figures = {figure.figure: (figure.recorded, figure.replayed) for figure in report.figures}
    assert figures["validation top1"] == (0.93, 0.93)
    assert figures["bytes"] == (31, 31)


def test_compare_replay_names_the_first_step_that_differs(compare) -> None:
    report = compare(seed=8)

    assert not report.same_bytes
    assert report.first_different_step == "Distiller"
    assert report.differing_steps == ["Distiller", "Pruner", "Quantizer"]


def test_compare_replay_accepts_figures_within_the_tolerance(compare) -> None:
    # Forty further epochs reduce the accuracy of the synthetic models by 0.4 points.
    assert compare(epochs=70).within_tolerance


def test_compare_replay_marks_figures_beyond_the_tolerance(compare) -> None:
    report = compare(epochs=70, tolerance=0.001)

    assert not report.within_tolerance
    assert [figure.figure for figure in report.figures if not figure.within] == ["test top1"]


def test_compare_replay_ignores_times_in_json_files(make_run, tmp_path: Path) -> None:
    graphs = []
    for name, seconds in (("recorded", 1.5), ("replayed", 22.25)):
        run = make_run(tmp_path / name)
        curves = json.dumps([{"epoch": 1, "seconds": seconds}]).encode()
        manifest = {"seed": 7, "curves": {"path": "curves.json", "sha256": str(seconds), "bytes": len(curves)}}
        files = {"curves.json": curves, "manifest.json": manifest, "x.tflite": b"the same"}
        run.node("Quantizer", [], {"models": ("learn2compress.OnDeviceModelSet", files)}, {})
        graphs.append(open_graph(tmp_path / name))
        model = run.path("Quantizer.models", "x.tflite")

    report = lineage_of_file(graphs[0], model)
    compared = compare_replay(graphs[0], report, graphs[1], tmp_path)

    assert compared.same_bytes
    assert compared.differing_steps == []


def test_compare_replay_refuses_a_replay_without_the_file(make_run, tmp_path: Path) -> None:
    recorded = make_run(tmp_path / "recorded")
    replayed = make_run(tmp_path / "replayed")
    (tmp_path / "replayed" / replayed.records["Quantizer"]).unlink()
    graph = open_graph(tmp_path / "recorded")
    report = lineage_of_file(graph, recorded.path("Quantizer.models", "large-int8.tflite"))

    with pytest.raises(LineageError, match=r"^The replay must have made models/large-int8\.tflite by Quantizer"):
        compare_replay(graph, report, open_graph(tmp_path / "replayed"), tmp_path)


def test_compare_replay_refuses_an_unrecorded_file(make_run, tmp_path: Path) -> None:
    make_run(tmp_path / "recorded")
    (tmp_path / "x.tflite").write_bytes(b"x")
    graph = open_graph(tmp_path / "recorded")

    with pytest.raises(LineageError, match=r"x\.tflite must be a recorded file"):
        compare_replay(graph, lineage_of_file(graph, tmp_path / "x.tflite"), graph, tmp_path)


@pytest.fixture
def replayed_config(make_run, tmp_path: Path, monkeypatch) -> Callable[[dict], Config]:
    """A function that makes the configuration of a replay from parameters in place of the recorded ones."""
    run = make_run(tmp_path / "recorded")
    graph = open_graph(tmp_path / "recorded")
    report = lineage_of_file(graph, run.path("Quantizer.models", "large-int8.tflite"))
    monkeypatch.setattr(replay, "_find_teacher", lambda *_: tmp_path / "t.keras")
    monkeypatch.setattr(replay, "_check_data", lambda *_: None)

    def replayed(recorded: dict) -> Config:
        parameters = {"teacher_sha256": "a" * 64, "data_digest": "b" * 64, "data_path": "digits", **recorded}
        monkeypatch.setattr(replay, "_parameters", lambda *_: parameters)
        return replay.replay_config(graph, report, tmp_path / "again")[0]

    return replayed


def test_replay_config_writes_the_recorded_source_of_own_students(replayed_config) -> None:
    recorded = {
        "distill_epochs": 2,
        "students_module": "/tmp/another.py:run",
        "module_name": "mine.py",
        "module_function": "make",
        "module_text": "def make(input_shape, classes):\n    return {}\n",
    }
    recorded["module_sha256"] = hashlib.sha256(recorded["module_text"].encode()).hexdigest()

    config = replayed_config(recorded)

    source = read_module(config.students.module)
    assert (source.name, source.function, source.text) == ("mine.py", "make", recorded["module_text"])
    assert config.distill.epochs == 2

    del recorded["module_text"]
    assert replayed_config(recorded).students.module is None


def test_replay_config_writes_the_recorded_latency_model(replayed_config) -> None:
    recorded = {
        "students_sizes": "{a: {latency_ms: 0.1}, b: {latency_ms: 0.4}}",
        "latency_model": model_text(PER_MAC),
    }

    config = replayed_config(recorded)

    assert config.students.sizes["b"].latency_ms == 0.4
    assert model_text(read_table(config.students.latency_table)) == recorded["latency_model"]


def test_replay_config_understands_the_former_parameter_names_of_an_earlier_run(replayed_config) -> None:
    recorded = {
        "teacher_insist": 1,
        "quantize_rescue": 1,
        "quantize_rescue_drop": 0.25,
        "quantize_rescue_layers": 2,
    }

    config = replayed_config(recorded)

    quantize = config.quantize
    assert config.teacher.allow_near_chance
    assert (quantize.mixed_precision, quantize.mixed_precision_drop, quantize.mixed_precision_layers) == (True, 0.25, 2)


@pytest.mark.parametrize(
    ("name", "sha256", "error", "message"),
    [
        ("mine.py", "f" * 64, LineageError, r"the recorded module 'mine\.py' must have the SHA-256 f+; got"),
        ("../mine.py", None, UnsafePathError, r"path must be relative, .* got '\.\./mine\.py'"),
    ],
)
def test_replay_config_refuses_a_forged_module(make_run, tmp_path: Path, monkeypatch, name, sha256, error, message):
    run = make_run(tmp_path / "recorded")
    graph = open_graph(tmp_path / "recorded")
    report = lineage_of_file(graph, run.path("Quantizer.models", "large-int8.tflite"))
    text = "raise SystemExit\n"
    recorded = {
        "teacher_sha256": "a" * 64, "data_digest": "b" * 64, "module_name": name, "module_function": "build",
        "module_text": text, "module_sha256": sha256 or hashlib.sha256(text.encode()).hexdigest(),
    }  # fmt: skip
    monkeypatch.setattr(replay, "_parameters", lambda *_: recorded)
    monkeypatch.setattr(replay, "_find_teacher", lambda *_: tmp_path / "t.keras")

    with pytest.raises(error, match=message):
        replay.replay_config(graph, report, tmp_path / "again")
    assert not (tmp_path / "mine.py").exists()
