# SPDX-License-Identifier: Apache-2.0
"""Tests that everything that derives from a subject is found, however the subject is specified."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.example_search import find_example, ids_of_image
from learn2compress.lineage.queries.impact import impact_of
from learn2compress.schemas.errors import LineageError

MODELS = ["large-float32", "large-int8", "small-float32", "small-int8"]


@pytest.fixture
def run(make_run, tmp_path: Path):
    return make_run(tmp_path / "pipeline")


def test_impact_of_a_teacher_lists_every_model(run, tmp_path: Path) -> None:
    (tmp_path / "mine.keras").write_bytes(b"teacher")

    report = impact_of(open_graph(tmp_path / "pipeline"), str(tmp_path / "mine.keras"))

    assert report.status == "whole"
    assert {cause.kind for cause in report.causes} == {"file", "parameter"}
    nodes = [execution.node for execution in report.executions]
    assert nodes == ["TeacherImporter", "Distiller", "Pruner", "Quantizer", "TFLiteEvaluator", "StudentSelector"]
    assert [model.file for model in report.models] == [f"Quantizer/models/5/{name}.tflite" for name in MODELS]
    assert report.runs == [run.run]


def test_impact_leaves_out_models_of_another_teacher(run, make_run, tmp_path: Path) -> None:
    make_run(tmp_path / "pipeline", run="run-2", first=20, teacher=b"other teacher")

    report = impact_of(open_graph(tmp_path / "pipeline"), hashlib.sha256(b"teacher").hexdigest())

    assert report.runs == [run.run]


def test_impact_includes_later_runs_with_the_same_content(run, make_run, tmp_path: Path) -> None:
    make_run(tmp_path / "pipeline", run="run-2", first=20, epochs=5)
    run.execution = 40
    run.again("run-3")

    report = impact_of(open_graph(tmp_path / "pipeline"), hashlib.sha256(b"teacher").hexdigest())

    assert report.runs == ["run-1", "run-2", "run-3"]
    assert len(report.models) == 8


def test_impact_accepts_the_first_digits_of_a_digest(run, tmp_path: Path) -> None:
    digest = run.outputs["Distiller.students"].digest

    report = impact_of(open_graph(tmp_path / "pipeline"), digest[:8])

    assert report.digest == digest
    assert [cause.kind for cause in report.causes] == ["artifact"]
    assert [execution.node for execution in report.executions] == [
        "Pruner", "Quantizer", "TFLiteEvaluator", "StudentSelector",
    ]  # fmt: skip
    assert [execution.distance for execution in report.executions] == [1, 2, 3, 3]


def test_impact_finds_source_data_by_a_digest_parameter(run, tmp_path: Path) -> None:  # noqa: ARG001
    report = impact_of(open_graph(tmp_path / "pipeline"), hashlib.sha256(b"data").hexdigest())

    assert [cause.name for cause in report.causes] == ["data_digest"]
    assert len(report.executions) == 7


def test_impact_finds_a_folder_within_an_artifact(run, tmp_path: Path) -> None:
    folder = run.path("TeacherImporter.teacher", "model")

    report = impact_of(open_graph(tmp_path / "pipeline"), str(folder))

    assert [(cause.kind, cause.name) for cause in report.causes] == [("folder", "teacher/model")]
    assert "StudentSelector" in [execution.node for execution in report.executions]


def test_impact_finds_a_training_image_by_its_id(run, tmp_path: Path) -> None:  # noqa: ARG001
    report = impact_of(open_graph(tmp_path / "pipeline"), f"{3:016x}")

    [cause] = report.causes
    assert (cause.kind, cause.split) == ("example", "train")
    assert len(report.models) == 4


def test_impact_names_the_split_of_a_test_image(run, tmp_path: Path) -> None:  # noqa: ARG001
    [cause] = impact_of(open_graph(tmp_path / "pipeline"), f"{200:016x}").causes

    assert cause.split == "test"


@pytest.mark.parametrize("kind", ["source", "resized"])
def test_impact_finds_a_picture_by_its_pixels(make_run, tmp_path: Path, kind: str) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    run = make_run(tmp_path / "first")
    graph = open_graph(tmp_path / "first")
    entry = graph.index.entry_at(run.records["ImageExampleGen"])
    ids = ids_of_image(graph, entry, "examples", tmp_path / "digit.png")
    # An older data set has the last one: the digest of the resized pixels.
    identity = ids[0] if kind == "source" else ids[-1]
    make_run(tmp_path / "pipeline", extra=[identity])

    report = impact_of(open_graph(tmp_path / "pipeline"), str(tmp_path / "digit.png"))

    assert report.digest == identity
    assert [(cause.kind, cause.split) for cause in report.causes] == [("example", "train")]
    assert len(report.models) == 4


@pytest.mark.slow
def test_ids_of_image_begin_with_the_stored_id(make_run, tmp_path: Path) -> None:
    from learn2compress.data.example_records import Plan, make_record
    from learn2compress.data.raw_examples import RawExample
    from learn2compress.modalities.image.pixels import decode_image
    from learn2compress.schemas.manifests import Task

    Image.fromarray(np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(10, 10, 3)).save(tmp_path / "x.png")
    run = make_run(tmp_path / "pipeline")
    graph = open_graph(tmp_path / "pipeline")
    entry = graph.index.entry_at(run.records["ImageExampleGen"])
    plan = Plan(
        "", "", Task(input_shape=(8, 8, 1), classes=["a", "b"]), 0.1, 0.1, {"train": 1, "validation": 1, "test": 1}, 1
    )
    raw = RawExample("x.png", None, 0, decode_image(tmp_path / "x.png"))

    made = make_record(raw, plan)

    assert ids_of_image(graph, entry, "examples", tmp_path / "x.png")[0] == made.identity
    assert b"\n\x12\n\x10" + made.identity.encode() in made.data


def test_impact_is_incomplete_when_a_shard_is_missing(run, tmp_path: Path) -> None:
    run.path("ImageExampleGen.examples", "Split-train/data_tfrecord-00000-of-00001.gz").unlink()
    graph = open_graph(tmp_path / "pipeline")

    report = impact_of(graph, f"{3:016x}")

    assert report.status == "unknown"
    assert report.problems[0].where.endswith("Split-train/data_tfrecord-00000-of-00001.gz")


def test_impact_names_a_damaged_shard(run, tmp_path: Path) -> None:
    shard = run.path("ImageExampleGen.examples", "Split-train/data_tfrecord-00000-of-00001.gz")
    shard.write_bytes(shard.read_bytes()[:-20])
    graph = open_graph(tmp_path / "pipeline")
    entry = graph.index.entry_at(run.records["ImageExampleGen"])

    splits, problem = find_example(graph, entry, "examples", f"{999:016x}")

    assert splits == []
    assert problem.kind == "incomplete"
    assert "cut short" in problem.reason or "whole TFRecord" in problem.reason


def test_impact_of_an_unrecorded_subject_is_unknown(run, tmp_path: Path) -> None:  # noqa: ARG001
    report = impact_of(open_graph(tmp_path / "pipeline"), "f" * 64)

    assert report.status == "unknown"
    assert report.executions == []


def test_impact_refuses_an_ambiguous_digest(run, tmp_path: Path) -> None:
    for digit in "01":
        run.node("Other", [], {"out": ("T", {"file": digit.encode()})}, {"given": "abcdabcd" + digit * 56})

    with pytest.raises(LineageError, match=r"^abcdabcd must match one digest only; it matches 2"):
        impact_of(open_graph(tmp_path / "pipeline"), "abcdabcd")


@pytest.mark.parametrize("subject", ["nowhere.tflite", "abc", "g" * 64])
def test_impact_refuses_a_subject_that_is_neither_file_nor_digest(run, tmp_path: Path, subject: str) -> None:  # noqa: ARG001
    with pytest.raises(LineageError, match=f"^{subject} must be a file, a folder, a digest"):
        impact_of(open_graph(tmp_path / "pipeline"), subject)


def test_impact_refuses_an_empty_file(run, tmp_path: Path) -> None:  # noqa: ARG001
    (tmp_path / "empty").write_bytes(b"")

    with pytest.raises(LineageError, match=r"^The subject must have content"):
        impact_of(open_graph(tmp_path / "pipeline"), str(tmp_path / "empty"))
