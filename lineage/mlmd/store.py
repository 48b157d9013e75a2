# SPDX-License-Identifier: Apache-2.0
"""Opens an ML Metadata store, and reports what is wrong with it in one line before any work is done."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ml_metadata import MetadataStore, errors
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.progress import say

ROLLED_BACK = "a transaction that a killed process had left unfinished was rolled back"
_LOCK_SECONDS = 5.0
_JOURNAL_SUFFIX = "-journal"
_VERSIONS = re.compile(r"database version (\d+) is (greater|older) than library version (\d+)")
_FAILURES = (RuntimeError, errors.StatusError, OSError)


def open_store(connection: mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig) -> MetadataStore:
    """Open a store.

    Args:
        connection: Address of a database or of a server.

    Raises:
        LineageError: The store is truncated, locked, unreachable, has another schema version, or is not an ML Metadata
            database.
    """
    name = describe_address(connection)
    if isinstance(connection, mlmd.ConnectionConfig) and connection.HasField("sqlite"):
        _check_sqlite(Path(connection.sqlite.filename_uri))
    try:
        store = MetadataStore(connection)
        # Only the first query contacts a server; opening the store does not.
        store.get_context_types()
    except _FAILURES as error:
        raise LineageError(_explain(name, error)) from error
    return store


@contextmanager
def store_errors(name: str) -> Iterator[None]:
    """Name what is wrong with a store that fails while it is used.

    Raises:
        LineageError: ML Metadata, or the database below it, refused.
    """
    try:
        yield
    except _FAILURES as error:
        raise LineageError(_explain(name, error)) from error


def open_sqlite(path: Path) -> MetadataStore:
    """Open an existing SQLite file for reading.

    Raises:
        LineageError: The file does not exist, or `open_store` refuses it.
    """
    if not path.is_file():
        raise LineageError(f"{path} must be an ML Metadata database; it does not exist. Check the path.")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    return open_store(config)


def recover_sqlite(path: Path) -> bool:
    """Roll back the transaction that a killed process left in a SQLite file.

    Until then the file cannot be opened for reading only, since that would show half of the transaction.

    Args:
        path: The SQLite file; it need not exist.

    Returns:
        Whether something was rolled back. The journal of a process that is still at work is left alone.

    Raises:
        LineageError: The file or its folder cannot be written.
    """
    journal = path.with_name(f"{path.name}{_JOURNAL_SUFFIX}")
    if not (path.is_file() and journal.is_file() and journal.stat().st_size):
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_LOCK_SECONDS)) as opened:
            opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        if "readonly" not in str(error) and "unable to open" not in str(error):
            raise LineageError(_explain(str(path), error)) from error
        raise LineageError(
            f"{path} must be writable once; a killed process left an unfinished transaction in it, which must be "
            f"rolled back ({error}). Change its permissions, or copy the folder to where it can be written."
        ) from error
    return not journal.exists()


def describe_address(connection: mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig) -> str:
    """Return a store's address without its password."""
    if isinstance(connection, mlmd.MetadataStoreClientConfig):
        return f"grpc://{connection.host}:{connection.port}"
    if connection.HasField("mysql"):
        return f"mysql://{connection.mysql.host}:{connection.mysql.port}/{connection.mysql.database}"
    if connection.HasField("postgresql"):
        server = connection.postgresql
        return f"postgresql://{server.host}:{server.port}/{server.dbname}"
    return connection.sqlite.filename_uri


def _check_sqlite(path: Path) -> None:
    """Detect faults that ML Metadata would retry for half a minute, or report as a failed CREATE TABLE."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    if recover_sqlite(path):
        say(f"{path}: {ROLLED_BACK}")
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOCK_SECONDS)
        try:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            [state] = database.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise LineageError(_explain(str(path), error)) from error
    if state != "ok":
        raise LineageError(_explain(str(path), sqlite3.DatabaseError(f"malformed: {state}")))
    if tables and "MLMDEnv" not in tables:
        raise LineageError(
            f"{path} must be an ML Metadata database; it has other tables ({sorted(tables)[0]} …). Choose another file."
        )


def _explain(name: str, error: Exception) -> str:
    text = str(error)
    versions = _VERSIONS.search(text)
    if versions:
        newer = "a newer" if versions[2] == "greater" else "an older"
        return (
            f"{name} must have ML Metadata's schema version {versions[3]}; it has {versions[1]}, of {newer} "
            "ml-metadata. Use that version, or another database: `learn2compress rebuild-metadata` creates one from "
            "the provenance records."
        )
    if "locked" in text or "Concurrent writes aborted" in text:
        return f"{name} must not be in use; another process has locked it. Wait for that process, or end it."
    if "malformed" in text or "not a database" in text:
        return (
            f"{name} must be a whole ML Metadata database; it is truncated or damaged ({text.splitlines()[0][:80]}). "
            "Move it away: `learn2compress rebuild-metadata` rebuilds it from the provenance records."
        )
    return f"{name} must be a reachable metadata store; {text.splitlines()[0] if text else repr(error)}."
