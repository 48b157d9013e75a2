# SPDX-License-Identifier: Apache-2.0
"""ML Metadata on a real MariaDB and a real PostgreSQL, where installed (Debian packages mariadb-server, postgresql)."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.schemas.errors import LineageError

_POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *map(str, _POSTGRESQL)])
_PATIENCE = 60.0


def program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def as_another_user(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root; then the folder is given to `nobody`."""
    if os.geteuid() != 0:
        return []
    subprocess.run(["chown", "-R", "nobody", folder], check=True)
    for parent in folder.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    return [program("runuser"), "-u", "nobody", "--"]


@contextlib.contextmanager
def running(command: list[str], ready: list[str], log: Path) -> Iterator[None]:
    """Starts a server, waits until it answers, and ends it."""
    with open(log, "wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as server:
        try:
            until = time.monotonic() + _PATIENCE
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            server.terminate()
            server.wait(_PATIENCE)


@contextlib.contextmanager
def mariadb(folder: Path) -> Iterator[str]:
    server, install = program("mariadbd"), program("mariadb-install-db")
    client, port = program("mariadb"), free_port()
    data, log = folder / "data", folder / "log"
    data.mkdir()
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user],
        check=True, capture_output=True,
    )  # fmt: skip
    where = ["--no-defaults", "--host=127.0.0.1", f"--port={port}", "--user=root"]
    command = [server, "--no-defaults", f"--datadir={data}", "--bind-address=127.0.0.1", f"--port={port}",
               f"--socket={folder / 's'}", f"--pid-file={folder / 'pid'}", *user]  # fmt: skip
    with running(command, [client, *where, "-e", "SELECT 1"], log):
        statement = "CREATE USER 'me'@'127.0.0.1' IDENTIFIED BY 'p@ss'; GRANT ALL ON *.* TO 'me'@'127.0.0.1';"
        subprocess.run([client, *where, "-e", statement], check=True)
        yield f"mysql://me:p%40ss@127.0.0.1:{port}/metadata"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    initdb, server, ready = program("initdb"), program("postgres"), program("pg_isready")
    client, port = program("psql"), free_port()
    data = folder / "data"
    user = as_another_user(folder)
    subprocess.run([*user, initdb, "-D", data, "-U", "me", "-A", "trust"], check=True, capture_output=True)
    command = [*user, server, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    where = ["-h", "127.0.0.1", "-p", str(port), "-U", "me"]
    with running(command, [ready, *where], folder.parent / f"{folder.name}.log"):
        subprocess.run([client, *where, "-d", "postgres", "-c", "CREATE DATABASE metadata"], check=True)
        yield f"postgresql://me:x@127.0.0.1:{port}/metadata"


@pytest.mark.e2e
@pytest.mark.parametrize("server", [mariadb, postgresql])
def test_store_on_a_server_is_recorded_and_rebuilt(server, tiny_dag, tmp_path_factory: pytest.TempPathFactory) -> None:
    from learn2compress.lineage.mlmd.address import connection_config
    from learn2compress.lineage.mlmd.rebuild import rebuild_metadata
    from learn2compress.lineage.mlmd.store import open_sqlite, open_store
    from learn2compress.lineage.records.provenance import write_record

    out = tmp_path_factory.mktemp("out")
    (out / "teacher").mkdir()
    (out / "teacher" / "model").write_text("teacher")
    with server(tmp_path_factory.mktemp("server")) as address:
        connection = connection_config(address, out)
        store = open_store(connection)

        def record(execution: int) -> None:
            write_record(store, execution, out / "pipeline")

        for number in (1, 2):
            tiny_dag.run(out / "pipeline", out / "teacher", connection, f"run-{number}", record)

        model = out / "pipeline" / "Convert" / "models" / "4" / "small-int8.tflite"
        [chain] = lineage_of_file(open_graph(out), model).chains
        assert [step.node for step in chain.steps] == ["Convert", "Train", "TeacherImporter", "Gen"]
        assert len(chain.served) == 1

        rebuild_metadata(open_graph(out), out / "rebuilt.db")
        rebuilt = open_sqlite(out / "rebuilt.db")
        for what in ("artifacts", "executions", "contexts"):
            original, again = ({plain(node) for node in getattr(one, f"get_{what}")()} for one in (store, rebuilt))
            assert original == again
            assert original
        events = [
            sorted(map(str, one.get_events_by_execution_ids([e.id for e in one.get_executions()])))
            for one in (store, rebuilt)
        ]
        assert events[0] == events[1]

        database = tmp_path_factory.mktemp("again")
    with pytest.raises(LineageError, match=r"must be a reachable metadata store") as caught:
        open_store(connection_config(address, database))
    assert "p@ss" not in str(caught.value)


def plain(node) -> str:
    """A node without the number of its type, which a server's own order decides."""
    node.ClearField("type_id")
    return str(node)
