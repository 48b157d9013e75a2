# SPDX-License-Identifier: Apache-2.0
"""Tests a real run in which each student is pruned and quantized in separate nodes."""

import json
import shutil
from pathlib import Path

import pytest
import s3fs
import yaml
from support.digits_job import FEW_LAYERS, command, write_job
from support.servers import s3_server

from learn2compress.kubeflow.fetch import fetch_run
from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.schemas.provenance import parse_statement
from learn2compress.schemas.reports import Report

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_students_of_separate_nodes_are_evaluated_and_traced_to_their_nodes(tmp_path, monkeypatch):
    config = write_job(tmp_path / "job")
    settings = yaml.safe_load(config.read_text())
    settings["distill"]["epochs"], settings["prune"]["epochs"], settings["quantize"]["epochs"] = 1, 1, 1
    settings["kubeflow"] = {"fan_out": True}
    config.write_text(yaml.safe_dump(settings))
    output = tmp_path / "out"

    done = command("run", config, "--output", output, "--allow-near-chance", "--set", FEW_LAYERS)

    assert done.returncode == 0, done.stdout + done.stderr
    report = Report.model_validate_json((output / "report.json").read_text())
    names = ["small-float32", "small-int8", "large-float32", "large-int8", "teacher-int8"]
    assert [one.name for one in report.evaluation.candidates] == names
    assert [student.name for student in report.students.students] == ["small", "large"]
    assert {one.stage for one in report.curves} == {"distilled", "pruned", "quantized"}
    assert all(set(one.accuracy) == {"small", "large"} for one in report.curves)
    for student in ("small", "large"):
        reported = command("lineage", output / "models" / f"{student}-int8.tflite", "--at", output, "--json")
        found = json.loads(reported.stdout)
        assert found["status"] == "whole"
        [chain] = found["chains"]
        assert [step["node"] for step in chain["steps"]] == [
            f"Quantizer-{student}", f"Pruner-{student}", "Distiller", "TeacherImporter", "ImageExampleGen",
        ]  # fmt: skip
        assert chain["steps"][0]["parameters"]["student"] == student
        assert chain["measurements"][0]["figures"]["name"] == f"{student}-int8"
        assert {one["name"] for one in chain["siblings"]} == set(names) - {f"{student}-int8"}
    assert command("verify", output).returncode == 0
    # The same records are fetched from a bucket, like those of a cluster, with the files of each Quantizer.
    fetched = fetch_as_from_a_cluster(output / "pipeline", tmp_path, monkeypatch, s3_server)
    assert {path.stem for path in (fetched / "models").iterdir()} == set(names)
    for path in (fetched / "models").iterdir():
        reported = lineage_of_file(open_graph(fetched), path)
        assert reported.status == "whole"
        assert len(reported.chains[0].siblings) == 4


def fetch_as_from_a_cluster(pipeline: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, s3_server) -> Path:
    [record] = pipeline.glob("StudentSelector/provenance/*.json")
    run = parse_statement(record.read_bytes(), "x").run
    shutil.copytree(pipeline, folder / "store" / "bucket" / "runs" / "tiny" / run)
    with s3_server.serving(folder / "store") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        fetch_run("minio://bucket/runs", run, folder / "fetched")
    return folder / "fetched"
