# SPDX-License-Identifier: Apache-2.0
"""Runs the small job on another engine, and compares all results with those of one process."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.digits_job import command, states

from learn2compress.schemas.digests import file_sha256

pytestmark = pytest.mark.e2e
PRISM = os.environ.get("PRISM") or shutil.which("prism")
ENGINE = ("--set", "pipeline.runner=prism", "--set", f"pipeline.prism.location={PRISM}")

needs_prism = pytest.mark.skipif(
    PRISM is None, reason="prism is not installed: go install github.com/apache/beam/sdks/v2/go/cmd/prism@latest"
)


def contents(output: Path, node: str) -> dict[str, str]:
    """Digests of the files that a node wrote, by path without the number of the execution."""
    folders = sorted((output / "pipeline" / node).glob("*/*/"))
    return {
        f"{folder.parent.name}/{path.relative_to(folder).as_posix()}": file_sha256(path)
        for folder in folders
        if folder.parent.name not in ("provenance", ".system")
        for path in folder.rglob("*")
        if path.is_file()
    }


def figures(output: Path) -> list[dict]:
    """What was measured of each file, without times."""
    candidates = json.loads((output / "report.json").read_text())["evaluation"]["candidates"]
    return [{key: value for key, value in candidate.items() if key != "latency"} for candidate in candidates]


@needs_prism
def test_run_on_prism_gives_the_same_examples_logits_files_and_figures(finished, job, tmp_path):
    output, _ = finished
    result = command("run", job, "--output", tmp_path / "prism", *ENGINE)

    assert result.returncode == 0, result.stdout + result.stderr
    for node, kind in (
        ("ImageExampleGen", "data_tfrecord"),
        ("TeacherImporter", "data_tfrecord"),
        ("Quantizer", ".tflite"),
    ):
        expected = {name: digest for name, digest in contents(output, node).items() if kind in name}
        found = contents(tmp_path / "prism", node)
        assert expected
        assert {name: found.get(name) for name in expected} == expected, node
    assert figures(tmp_path / "prism") == figures(output)


@needs_prism
def test_run_again_on_prism_is_served_from_the_cache(copy, job):
    result = command("run", job, "--output", copy, *ENGINE)

    assert result.returncode == 0, result.stdout + result.stderr
    assert set(states(result.stdout).values()) == {"cached"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["pipeline.runner=prism", "pipeline.prism.location=/no/prism"], "must be Beam's prism binary"),
        (["pipeline.runner=flink", "pipeline.flink.job_server_jar=/no.jar"], "must be the jar of Beam's job server"),
        (["pipeline.runner=flink", "pipeline.workers=2"], "workers must be left out with the runner flink"),
    ],
)
def test_run_names_an_engine_that_cannot_be_reached_in_one_line(job, tmp_path, settings, message):
    result = command("run", job, "--output", tmp_path / "out", *(word for one in settings for word in ("--set", one)))

    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
