# SPDX-License-Identifier: Apache-2.0
"""Tests of a database whose writer was killed within a transaction."""

import subprocess
import sys
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.mlmd.store import ROLLED_BACK, open_sqlite, open_store, recover_sqlite
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.progress import listening
from learn2compress.storage.location import open_location

# Small pages of cache make SQLite write changed pages into the file before the transaction ends.
_KILLED_WRITER = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 2")
database.execute("BEGIN IMMEDIATE")
for number in range(400):
    database.execute("INSERT INTO Context (type_id, name) VALUES (1, ?)", (f"{number:04}" * 200,))
os._exit(9)
"""


def _connection(path: Path) -> mlmd.ConnectionConfig:
    return mlmd.ConnectionConfig(sqlite=mlmd.SqliteMetadataSourceConfig(filename_uri=str(path)))


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.db"
    store = MetadataStore(_connection(path))
    kind = store.put_context_type(mlmd.ContextType(name="run"))
    store.put_contexts([mlmd.Context(type_id=kind, name="kept")])
    del store
    subprocess.run([sys.executable, "-c", _KILLED_WRITER, str(path)], check=False)
    assert path.with_name("metadata.db-journal").stat().st_size
    return path


def test_open_store_rolls_back_what_a_killed_process_left_and_says_so(killed: Path) -> None:
    told: list[str] = []

    with listening(lambda progress: told.append(progress.detail)):
        contexts = open_store(_connection(killed)).get_contexts()

    assert [context.name for context in contexts] == ["kept"]
    assert told == [f"{killed}: {ROLLED_BACK}"]
    assert not killed.with_name("metadata.db-journal").exists()


def test_open_sqlite_reads_a_database_after_a_kill(killed: Path) -> None:
    assert [context.name for context in open_sqlite(killed).get_contexts()] == ["kept"]


def test_verify_place_does_not_call_a_database_tampered_after_a_kill(killed: Path, make_run) -> None:
    make_run(killed.parent / "pipeline")

    report = verify_place(open_graph(killed.parent), open_location(killed.parent))

    assert report.status == "whole"
    assert ROLLED_BACK in [problem.reason for problem in report.problems if problem.where == "metadata.db"]


def test_recover_sqlite_leaves_a_whole_database_alone(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    open_store(_connection(path))

    assert not recover_sqlite(path)
    assert not recover_sqlite(tmp_path / "none.db")


def test_recover_sqlite_names_a_journal_that_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    path.write_bytes(b"no database" * 100)
    path.with_name("metadata.db-journal").write_bytes(b"\xd9\xd5\x05\xf9 \xa1c\xd7" + bytes(504))

    with pytest.raises(LineageError, match="must be a whole ML Metadata database"):
        recover_sqlite(path)
