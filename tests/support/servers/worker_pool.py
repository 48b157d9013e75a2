# SPDX-License-Identifier: Apache-2.0
"""Starts Beam's pool of Python workers, finds Prism, the engine to try them with, and kills workers."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from learn2compress.components.beam.exchange import write
from learn2compress.data.raw_examples import Piece

PRISM = os.environ.get("PRISM") or shutil.which("prism")
needs_prism = pytest.mark.skipif(
    PRISM is None, reason="prism is not installed: go install github.com/apache/beam/sdks/v2/go/cmd/prism@latest"
)
in_make_engines = pytest.mark.skipif("ENGINES" not in os.environ, reason="whole runs that `make engines` adds")
# Beam starts a single process then: the process of the tests or of the run, which must not be killed.
needs_processes = pytest.mark.skipif(
    " " in sys.executable, reason="Beam starts no processes with a Python whose path has a blank"
)
SECONDS = 120


@dataclass(frozen=True)
class Killing(Piece):
    """A piece that kills its worker in the middle, the first time that it is read.

    Attributes:
        piece: What is read.
        flag: Path of a file that is made before the worker is killed.
    """

    piece: Piece
    flag: str

    def read(self) -> Iterator[Any]:
        """Reads the piece."""
        for number, raw in enumerate(self.piece.read()):
            if number == 5 and not os.path.exists(self.flag):
                Path(self.flag).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield raw


@contextmanager
def worker_pool(folder: Path, python: str | None = None, hidden: Path | None = None) -> Iterator[list[str]]:
    """Runs a pool while the context lasts.

    Args:
        folder: Working directory of the workers.
        python: Program that a worker is started with; default: this one.
        hidden: Folder that the workers do not see: an empty one lies over it in a mount namespace of their own, which
            only root can make.

    Yields:
        The arguments of a run on Prism that uses the pool.
    """
    programs = Path(sys.executable).parent
    if python is not None:
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python").symlink_to(python)
    port = _free_port()
    program = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    if hidden is not None:
        program = [*_hiding(hidden), *program]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    pool = subprocess.Popen(program, env=environment, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield [
            "--runner=PrismRunner", f"--prism_location={PRISM}", "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{port}", "--sdk_container_image=unused",
        ]  # fmt: skip
    finally:
        pool.terminate()
        pool.wait()


def bare_python(folder: Path) -> str:
    """Writes a program that runs a Python with Beam and all else, but not this package, whose path comes from a .pth.

    Returns:
        Its path.
    """
    site = next(path for path in sys.path if path.endswith("site-packages"))
    path = folder / "bare"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" -S "$@"\n')
    path.chmod(0o755)
    return str(path)


def write_hiding_python(path: Path, hidden: Path) -> None:
    """Writes a program that runs Python, this one, in a mount namespace in which it does not see a folder."""
    program = shlex.join([*_hiding(hidden), sys.executable])
    path.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    path.chmod(0o755)


def tell_sight(_: int, path: str, reference: str) -> None:
    """Records at a reference, under the number of this process, whether it sees a path; workers call this."""
    write(f"{reference}/{os.getpid()}", str(os.path.exists(path)).encode())
    time.sleep(0.5)  # so that the other workers get a share


def _hiding(hidden: Path) -> list[str]:
    script = 'mount -t tmpfs none "$0" && mkdir "$0/home" && cd "$0/home" && HOME=$PWD TMPDIR=$PWD exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(hidden)]


def can_hide() -> bool:
    """Whether a mount namespace can be made here."""
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "--mount", "true"]).returncode == 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def _wait(port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"the pool of workers must listen within {SECONDS} seconds")
