# SPDX-License-Identifier: Apache-2.0
"""Runs programs in processes forked from one that has imported TFX, since the import takes longer than most programs.

    server        one for all workers of xdist; forks an attendant for each connection, until the test session ends
      └ attendant reads one request, forks the program, and writes its process number, then its exit status
          └ program   has its own arguments, environment, working directory and output files

The server only imports modules: TensorFlow starts its threads at its first computation, which happens in the programs.
The first program starts the server.
"""

import fcntl
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
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
    attendant: socket.socket
    status: int | None = None

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wait()
        self.folder.cleanup()

    def wait(self) -> int:
        """Waits for the end; returns the exit status, which is negative if a signal ended the program."""
        if self.status is None:
            with self.attendant:
                self.status = _read_number(self.attendant)
        return self.status

    def read(self, stream: str) -> str:
        return Path(self.folder.name, stream).read_text(encoding="utf-8", errors="replace")


def start(
    program: str, arguments: list[str], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> Program:
    """Starts a program.

    Args:
        program: CLI, STEP, or the path of a script.
        arguments: Arguments of the program.
        folder: Working directory; default: the current one.
        env: Environment; default: that of this process.
    """
    files = tempfile.TemporaryDirectory(prefix="program-")
    request = {
        "program": program,
        "arguments": arguments,
        "folder": str(folder or Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "files": [str(Path(files.name, stream)) for stream in ("stdout", "stderr")],
    }
    attendant = _connect()
    attendant.sendall(json.dumps(request).encode() + b"\n")
    return Program(_read_number(attendant), files, attendant)


def run(
    program: str, arguments: list[str], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; the arguments are those of `start`."""
    with start(program, arguments, folder, env) as started:
        status = started.wait()
        return subprocess.CompletedProcess(arguments, status, started.read("stdout"), started.read("stderr"))


def run_step(command: list[str], folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a step of a compiled pipeline: the command of its container, in a process that has imported TFX.

    Args:
        command: As compiled, with the launcher's values in it.
        folder: Working directory.
        env: Environment.
    """
    assert command[:3] == ["python", "-m", STEP]
    return run(STEP, command[3:], folder, env)


def _read_number(connection: socket.socket) -> int:
    """Reads a line with a number; no buffer is between, so that the next line stays for the next call."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError("the server of forked programs must run until the end of the tests; it has ended")
        line += byte
    return int(line)


def _connect() -> socket.socket:
    """Connects to the server of this test session, and starts it if there is none."""
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = Path(tempfile.gettempdir(), f"forked-programs-{session}")
    folder.mkdir(mode=0o700, exist_ok=True)
    connection = socket.socket(socket.AF_UNIX)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(str(folder / "socket"))
        except (FileNotFoundError, ConnectionRefusedError):
            _start_server(folder, session)
            connection.connect(str(folder / "socket"))
    return connection


def _start_server(folder: Path, session: int) -> None:
    (folder / "socket").unlink(missing_ok=True)
    command = [sys.executable, __file__, str(folder), str(session)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert server.stdout.read() == b"ready"  # closed by the server, which outlives this process


def _serve(folder: Path, session: int) -> int:
    """Serves requests until the session's process ends; returns 0, and in a program its exit status."""
    ready = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps output of imports out of the response
    del sys.path[0]  # this file's folder, which is not on the path of other programs
    with warnings.catch_warnings():
        _import()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        with ready:
            ready.write("ready")
        listener.settimeout(1)
        while _is_running(session):
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            finally:
                _reap()
            with connection:
                if not os.fork():
                    listener.close()
                    return _attend(connection)
    rmtree(folder)
    return 0


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _reap() -> None:
    """Takes notice of attendants that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _attend(connection: socket.socket) -> int:
    """Starts a program and tells of it; returns in the program alone, with its exit status."""
    connection.setblocking(True)
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if not pid:
        connection.close()
        return _become(request)
    try:
        connection.sendall(f"{pid}\n".encode())
        _, ended = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    finally:
        os._exit(0)


def _import() -> None:
    from learn2compress.pipeline.environment import prepare_environment

    prepare_environment()
    for name in IMPORTED:
        importlib.import_module(name)
    check_forkable()
    gc.freeze()


def check_forkable() -> None:
    """Raises RuntimeError if TensorFlow has computed something: forked processes would lack its threads."""
    import tensorflow as tf

    for threads in (1, 0):  # 0: as TensorFlow chooses
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if threading.active_count() > 1:
        raise RuntimeError(f"no thread must run; got {threading.enumerate()}")


def _become(request: dict) -> int:
    """Runs the program in the child."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    for number, path in enumerate([os.devnull, *request["files"]]):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    program, arguments = request["program"], request["arguments"]
    sys.argv[1:] = arguments
    try:
        if program.endswith(".py"):
            sys.argv[0] = program
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
            return 0
        return importlib.import_module(program).main(arguments) or 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)


if __name__ == "__main__":
    sys.exit(_serve(Path(sys.argv[1]), int(sys.argv[2])))
