# SPDX-License-Identifier: Apache-2.0
"""Tests the lock of an output folder with two processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from learn2compress.lineage.queries.unfinished import interrupted_command
from learn2compress.pipeline.output.lock import hold_output
from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.provenance import LOCK_FILE

HOLDER = """
import sys, time
from pathlib import Path
from learn2compress.pipeline.output.lock import hold_output
with hold_output(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_hold_output_names_the_process_that_works_in_the_folder(holder, tmp_path):
    message = rf"must be free to use; process {holder.pid} on .* \(learn2compress run, since 20.*\) works in it\. Wait"
    with pytest.raises(OutputError, match=message), hold_output(tmp_path, "pick"):
        pass


def test_hold_output_succeeds_after_the_holder_was_killed(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with hold_output(tmp_path, "pick"):
        assert f'"process": {os.getpid()}' in (tmp_path / LOCK_FILE).read_text()


FORKING_HOLDER = HOLDER.replace("    time.sleep(60)", "    time.sleep(60 if __import__('os').fork() else 1)")


def test_hold_output_waits_for_a_child_that_a_killed_holder_was_starting(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", FORKING_HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    time.sleep(0.2)
    process.kill()
    process.wait()

    with hold_output(tmp_path, "pick"):
        assert f'"process": {os.getpid()}' in (tmp_path / LOCK_FILE).read_text()


def test_hold_output_releases_the_folder_at_its_end(tmp_path):
    for command in ("run", "pick"):
        with hold_output(tmp_path, command):
            pass


def test_hold_output_leaves_the_command_in_the_lock_file_until_one_ends_without_an_error(tmp_path):
    with pytest.raises(KeyError, match="stop"), hold_output(tmp_path, "run"):
        raise KeyError("stop")

    assert "learn2compress run of 20" in interrupted_command(tmp_path)
    with hold_output(tmp_path, "run"):
        pass
    assert interrupted_command(tmp_path) is None


def test_hold_output_names_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="must be writable; No such file"), hold_output(tmp_path / "none", "run"):
        pass
