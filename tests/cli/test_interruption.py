# SPDX-License-Identifier: Apache-2.0
"""A signal ends a command with one line and the status that shells expect, and its child processes with it."""

import signal
import subprocess
import sys

import psutil
import pytest

PROGRAM = """
import subprocess, sys, time
import typer
from learn2compress.cli import main as module
from learn2compress.cli.interruption import resumable

@module.app.command("work")
def work() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    with resumable():
        print(child.pid, flush=True)
        try:
            time.sleep(120)
        except Exception:
            print("swallowed", flush=True)

module.main(["work"])
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_command_in_one_line_and_its_children(number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = psutil.Process(int(process.stdout.readline()))

    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (status, "")
    assert err == "Interrupted; the same command goes on from here.\n"
    assert not child.is_running()
