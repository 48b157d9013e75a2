# SPDX-License-Identifier: Apache-2.0
"""Runs programs in processes forked from one that has imported TFX, since the import takes longer than most programs.

    server     reads one request in each line, forks, and writes the child's process number, then its exit status
      └ child  has its own arguments, environment, working directory and output files; calls the program's `main`

The server only imports modules: TensorFlow starts its threads at its first computation, which happens in the children.
The first program starts the server, which ends with the process that started it.
"""

import atexit
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

CLI = "learn2compress.cli.main"
STEP = "learn2compress.kubeflow.entrypoint"
IMPORTED = (
    CLI,
    STEP,
    "learn2compress.pipeline.local_run",
    "learn2compress.pipeline.replay",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_entrypoint_utils",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
)


@dataclass
class Program:
    """A running program; as a context manager it waits for the end of the program."""

    pid: int
    folder: tempfile.TemporaryDirectory
    server: subprocess.Popen
    status: int | None = None

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wait()
        self.folder.cleanup()

    def wait(self) -> int:
        """Waits for the end; returns the exit status, which is negative if a signal ended the program."""
        if self.status is None:
            self.status = int(self.server.stdout.readline())
        return self.status

    def read(self, stream: str) -> str:
        return Path(self.folder.name, stream).read_text(encoding="utf-8", errors="replace")


def start(
    module: str, arguments: list[str], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> Program:
    """Starts a program; another can be started only after it has ended.

    Args:
        module: CLI or STEP.
        arguments: Arguments of the program.
        folder: Working directory; default: the current one.
        env: Environment; default: that of this process.
    """
    server, files = _server(), tempfile.TemporaryDirectory(prefix="program-")
    request = {
        "module": module,
        "arguments": arguments,
        "folder": str(folder or Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "files": [str(Path(files.name, stream)) for stream in ("stdout", "stderr")],
    }
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return Program(int(server.stdout.readline()), files, server)


def run(
    module: str, arguments: list[str], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; the arguments are those of `start`."""
    with start(module, arguments, folder, env) as program:
        status = program.wait()
        return subprocess.CompletedProcess(arguments, status, program.read("stdout"), program.read("stderr"))


def run_step(command: list[str], folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a step of a compiled pipeline: the command of its container, in a process that has imported TFX.

    Args:
        command: As compiled, with the launcher's values in it.
        folder: Working directory.
        env: Environment.
    """
    assert command[:3] == ["python", "-m", STEP]
    return run(STEP, command[3:], folder, env)


@cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # runs before the wait
    return server


def _serve() -> int:
    """Serves requests until there are no more; returns 0, and in a child the program's exit status."""
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps output of imports out of the protocol
    del sys.path[0]  # this file's folder, which is not on the path of other programs
    with warnings.catch_warnings():
        _import()
    while line := sys.stdin.readline():
        pid = os.fork()
        if not pid:
            responses.close()
            return _become(json.loads(line))
        print(pid, file=responses, flush=True)
        _, ended = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(ended), file=responses, flush=True)
    return 0


def _import() -> None:
    from learn2compress.pipeline.environment import prepare_environment

    prepare_environment()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()


def _become(request: dict) -> int:
    """Runs the program in the child."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    for number, path in enumerate([os.devnull, *request["files"]]):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv[1:] = request["arguments"]
    try:
        return importlib.import_module(request["module"]).main(request["arguments"]) or 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)


if __name__ == "__main__":
    sys.exit(_serve())
