# SPDX-License-Identifier: Apache-2.0
"""Provides a small real job for all end-to-end tests, and one finished run of it."""

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
