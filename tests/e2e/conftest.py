# SPDX-License-Identifier: Apache-2.0
"""Provides a small real job for all end-to-end tests, and one finished run of it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.digits_job import fresh_command, write_job


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> Path:
    return write_job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="session")
def finished(job, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Output folder and process result of a finished run."""
    output = tmp_path_factory.mktemp("run") / "out"
    result = fresh_command("run", job, "--output", output)
    assert result.returncode == 0, result.stdout + result.stderr + (output / "run.log").read_text()[-5000:]
    return output, result


@pytest.fixture
def copy(finished, job, tmp_path):
    """Finished run that a test may change, like its job; both are restored afterwards, byte for byte."""
    output, _ = finished
    shutil.copytree(output, tmp_path / "output")
    shutil.copytree(job.parent, tmp_path / "job")
    yield output
    for folder, backup in ((output, tmp_path / "output"), (job.parent, tmp_path / "job")):
        shutil.rmtree(folder)
        shutil.move(backup, folder)
