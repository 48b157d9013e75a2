# SPDX-License-Identifier: Apache-2.0
"""A small job of texts on the emulated backend, with its data in an object store, against the same job here."""

import json
from pathlib import Path

import pytest
import yaml
from support import forked
from support.servers import s3_server
from support.texts import job as text_job

from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.schemas.config import load_config
from learn2compress.schemas.reports import Evaluation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = ["distill.epochs=2", "data.modality=text", "data.max_tokens=24", "evaluate.latency_runs=2"]
FILES = ("teacher.keras", "messages.csv", "unlabeled.csv")
PLACES = [
    "kubeflow.teacher=minio://bucket/teacher.keras",
    "kubeflow.data=minio://bucket/messages.csv",
    "data.unlabeled=minio://bucket/unlabeled.csv",
]


def figures(folder: Path) -> dict:
    evaluation = Evaluation.model_validate_json((folder / "evaluation.json").read_text())
    return {one.name: (one.sha256, one.figures["test"].top1) for one in evaluation.candidates}


def test_steps_on_a_cluster_make_the_files_of_a_run_here(load, tmp_path):
    config = text_job.write_job(tmp_path / "job")
    bucket = tmp_path / "store" / "bucket"
    bucket.mkdir(parents=True)
    for name in FILES:
        (bucket / name).write_bytes((config.parent / name).read_bytes())
    with s3_server.serving(tmp_path / "store") as server:
        settings = [*SETTINGS, *PLACES, f"kubeflow.env={json.dumps(server.environment)}"]
        pipeline = tmp_path / "pipeline.yaml"
        pipeline.write_text(compile_pipeline(load_config(config, settings), "registry.example/steps:1"))
        emulator = load("emulator").Emulator(server.root, tmp_path / "pods", run_process=forked.run_step)
        made = emulator.run(pipeline, {"teacher_sha256": "the first", "data_digest": "the first"})
    options = ["--allow-near-chance", *(f"--set={setting}" for setting in SETTINGS)]
    local = forked.run(forked.CLI, ["run", str(config), "--output", str(tmp_path / "out"), *options], config.parent)

    assert local.returncode == 0, local.stdout + local.stderr
    tasks = next(yaml.safe_load_all(pipeline.read_text()))["root"]["dag"]["tasks"]
    assert "TextExampleGen" in tasks
    [folder] = (tmp_path / "out" / "pipeline" / "TFLiteEvaluator" / "evaluation").iterdir()
    there = emulator.store / made["TFLiteEvaluator"]["evaluation"]["uri"].removeprefix("minio://")
    assert figures(there) == figures(folder)
