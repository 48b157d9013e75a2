# SPDX-License-Identifier: Apache-2.0
"""Runs the command line in a pseudo-terminal, and answers its questions."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

_QUESTION = re.compile(r"[\])]: $")  # a question ends in its default or in a remark


def in_a_terminal(arguments: Iterable[str | Path], answers: Iterable[str]) -> tuple[int, str]:
    """Runs `learn2compress` with its streams at a pseudo-terminal.

    Args:
        arguments: The arguments of the command line.
        answers: What is typed at each question.

    Returns:
        The exit status, and what was shown.
    """
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be opened here: {error}")
    command = [sys.executable, "-m", "learn2compress.cli.main", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"})
    os.close(theirs)
    shown, waiting = "", list(answers)
    while True:
        try:
            shown += os.read(ours, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            break
        if waiting and _QUESTION.search(shown):
            os.write(ours, f"{waiting.pop(0)}\n".encode())
            shown += "\n"
    os.close(ours)
    return process.wait(timeout=60), shown
