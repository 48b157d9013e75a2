# SPDX-License-Identifier: Apache-2.0
"""An index of provenance records, which maps a digest to the records that mention it without reading them all.

The index is a SQLite file beside the records, updated whenever a record is written. It is only a cache: each query
first compares it with the listing of the record files (size and modification time, or entity tag) and reads the files
that are new or changed, and the records behind a query result are read again. A damaged or foreign index is rebuilt. A
query never creates an index at the location that it audits: where none exists, or where it cannot be written, the index
is kept in the user's cache folder.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learn2compress.schemas.digests import digest_of_tree
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import EMPTY, Statement, is_sealed, parse_statement
from learn2compress.storage.location import Found, Location

INDEX_FILE = "provenance-index.sqlite"
VERSION = 1

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCHEMA = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, bytes INTEGER, mark TEXT, sha256 TEXT, root TEXT, node TEXT,
    run TEXT, pipeline TEXT, execution TEXT, invocation TEXT, started TEXT, finished TEXT, cached INTEGER,
    problem TEXT);
CREATE TABLE outputs (
    record INTEGER, name TEXT, uri TEXT, type TEXT, digest TEXT, files INTEGER, bytes INTEGER, properties TEXT);
CREATE TABLE inputs (record INTEGER, name TEXT, uri TEXT, type TEXT, digest TEXT, source TEXT, source_sha256 TEXT);
CREATE TABLE files (sha256 TEXT, record INTEGER, output TEXT, path TEXT, bytes INTEGER);
CREATE TABLE folders (digest TEXT, record INTEGER, output TEXT, path TEXT);
CREATE TABLE parameters (digest TEXT, record INTEGER, name TEXT);
CREATE INDEX outputs_record ON outputs (record);
CREATE INDEX outputs_digest ON outputs (digest);
CREATE INDEX inputs_record ON inputs (record);
CREATE INDEX inputs_digest ON inputs (digest);
CREATE INDEX files_sha256 ON files (sha256);
CREATE INDEX files_record ON files (record);
CREATE INDEX folders_digest ON folders (digest);
CREATE INDEX folders_record ON folders (record);
CREATE INDEX parameters_digest ON parameters (digest);
CREATE INDEX parameters_record ON parameters (record);
"""


class Entry(NamedTuple):
    """A record, as the index holds it.

    Attributes:
        path: Path of the record, relative to the index's home location.
        root: Path of the pipeline root, relative to the home location; artifact URIs are relative to this root.
        problem: Reason why the record cannot be read, or None. If it is set, the other fields are empty.
    """

    id: int
    path: str
    sha256: str
    root: str
    node: str
    run: str
    pipeline: str
    execution: str
    invocation: str
    started: str | None
    finished: str | None
    cached: bool
    problem: str | None


class OutputEntry(NamedTuple):
    """An artifact that a record lists as an output."""

    record: int
    name: str
    uri: str
    type: str
    digest: str
    files: int
    bytes: int
    properties_json: str  # parsed only on demand, since there may be many

    @property
    def properties(self) -> dict[str, Any]:
        """Parse the artifact's custom properties."""
        return json.loads(self.properties_json)


class InputEntry(NamedTuple):
    """An artifact that a record lists as an input; `source` is the path of the producing record from the same root."""

    record: int
    name: str
    uri: str
    type: str
    digest: str
    source: str | None
    source_sha256: str | None


class FileEntry(NamedTuple):
    """A file of an output artifact."""

    sha256: str
    record: int
    output: str
    path: str
    bytes: int


class Named(NamedTuple):
    """Another place where a digest occurs: a folder within an artifact, or the value of a parameter."""

    digest: str
    record: int
    name: str


class Index:
    """The index of the records below a home location."""

    def __init__(self, home: Location, database: sqlite3.Connection) -> None:
        self._home = home
        self._database = database

    @classmethod
    def open(cls, home: Location) -> "Index":
        """Open the index of a home location, wherever it is stored; it may be empty or out of date."""
        return cls(home, _open(home))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def refresh(self, found: Iterable[Found]) -> None:
        """Bring the index up to date with a listing of the record files."""
        listed = {one.path: one for one in found}
        try:
            self._update(listed)
        except sqlite3.DatabaseError:
            # The database is damaged or read-only.
            self.renew(listed.values())

    def renew(self, found: Iterable[Found]) -> None:
        """Rebuild the index from scratch."""
        self._database.close()
        self._database = _open(self._home, anew=True)
        self._update({one.path: one for one in found})

    def add(self, found: Found, raw: bytes, statement: Statement) -> None:
        """Add a record that was just written."""
        with self._database:
            known = self._database.execute("SELECT id FROM records WHERE path = ?", (found.path,))
            self._remove([row[0] for row in known])
            self._insert(found, raw, statement)

    def entries(self) -> list[Entry]:
        """Return all records, oldest first."""
        return self._entries("ORDER BY started, id")

    def broken(self) -> list[Entry]:
        """Return the records that cannot be read or were changed."""
        return self._entries("WHERE problem IS NOT NULL ORDER BY path")

    def entries_by_id(self, ids: Iterable[int]) -> list[Entry]:
        """Return the records with the given ids, oldest first."""
        wanted = sorted(set(ids))
        found: list[Entry] = []
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            found += self._entries(f"WHERE id IN ({','.join('?' * len(part))})", part)
        return sorted(found, key=lambda entry: (entry.started or "", entry.id))

    def entry_at(self, path: str) -> Entry | None:
        """Return the record at a path, or None."""
        return next(iter(self._entries("WHERE path = ?", [path])), None)

    def files_with(self, sha256: str) -> list[FileEntry]:
        """Return the files with a given content."""
        return self._files("WHERE sha256 = ?", sha256)

    def files_of_size(self, size: int) -> list[FileEntry]:
        """Return the files with a given size in bytes."""
        return self._files("WHERE bytes = ?", size)

    def files_of(self, record: int) -> list[FileEntry]:
        """Return the files of a record's outputs."""
        return self._files("WHERE record = ?", record)

    def files_ending_in(self, suffix: str) -> list[FileEntry]:
        """Return the files whose path ends in a suffix."""
        return self._files("WHERE substr(path, ?) = ?", -len(suffix), suffix)

    def outputs_with(self, digest: str) -> list[OutputEntry]:
        """Return the output artifacts with a given content, except empty ones, which all have the same digest."""
        return [] if digest == EMPTY else self._outputs("WHERE digest = ?", digest)

    def outputs_of(self, record: int) -> list[OutputEntry]:
        """Return the output artifacts of a record."""
        return self._outputs("WHERE record = ?", record)

    def outputs_at(self, uri: str) -> list[OutputEntry]:
        """Return the output artifacts at a URI relative to their pipeline root."""
        return self._outputs("WHERE uri = ?", uri)

    def all_outputs(self) -> list[OutputEntry]:
        """Return the output artifacts of all records."""
        return self._outputs("")

    def inputs_with(self, digest: str) -> list[InputEntry]:
        """Return the input artifacts with a given content, except empty ones."""
        return [] if digest == EMPTY else self._inputs("WHERE digest = ?", digest)

    def inputs_of(self, record: int) -> list[InputEntry]:
        """Return the input artifacts of a record."""
        return self._inputs("WHERE record = ?", record)

    def all_inputs(self) -> list[InputEntry]:
        """Return the input artifacts of all records."""
        return self._inputs("")

    def folders_with(self, digest: str) -> list[Named]:
        """Return the folders within artifacts that have a given content."""
        query = "SELECT digest, record, output || '/' || path FROM folders WHERE digest = ?"
        rows = self._database.execute(query, (digest,))
        return [Named(*row) for row in rows]

    def parameters_with(self, digest: str) -> list[Named]:
        """Return the parameters whose value is a given digest."""
        rows = self._database.execute("SELECT digest, record, name FROM parameters WHERE digest = ?", (digest,))
        return [Named(*row) for row in rows]

    def complete_digest(self, prefix: str) -> list[str]:
        """Return the digests of files, artifacts, folders and parameters that start with a prefix."""
        found: set[str] = set()
        columns = {"files": "sha256", "outputs": "digest", "folders": "digest", "parameters": "digest"}
        for table, column in columns.items():
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} >= ? AND {column} < ?"
            found |= {row[0] for row in self._database.execute(query, (prefix, prefix + "g"))}
        return sorted(found)

    def _entries(self, where: str, values: Iterable[Any] = ()) -> list[Entry]:
        columns = "id, path, sha256, root, node, run, pipeline, execution, invocation, started, finished"
        rows = self._database.execute(f"SELECT {columns}, cached, problem FROM records {where}", tuple(values))
        return [Entry._make((*row[:11], bool(row[11]), row[12])) for row in rows]

    def _files(self, where: str, *values: Any) -> list[FileEntry]:
        rows = self._database.execute(f"SELECT sha256, record, output, path, bytes FROM files {where}", values)
        return [FileEntry(*row) for row in rows]

    def _outputs(self, where: str, *values: Any) -> list[OutputEntry]:
        columns = "record, name, uri, type, digest, files, bytes, properties"
        rows = self._database.execute(f"SELECT {columns} FROM outputs {where}", values)
        return [OutputEntry(*row) for row in rows]

    def _inputs(self, where: str, *values: Any) -> list[InputEntry]:
        columns = "record, name, uri, type, digest, source, source_sha256"
        return [InputEntry(*row) for row in self._database.execute(f"SELECT {columns} FROM inputs {where}", values)]

    def _update(self, listed: Mapping[str, Found]) -> None:
        known = {
            path: (id, (size, mark))
            for id, path, size, mark in self._database.execute("SELECT id, path, bytes, mark FROM records")
        }
        stale = [id for path, (id, key) in known.items() if path not in listed or _key(listed[path]) != key]
        fresh = {path: one for path, one in listed.items() if path not in known or known[path][1] != _key(one)}
        if not stale and not fresh:
            return
        with self._database:
            self._remove(stale)
            for path, raw in self._home.read_many(list(fresh)):
                try:
                    self._insert(fresh[path], raw, self._parse(path, raw))
                except LineageError as error:
                    self._insert_broken(fresh[path], raw, str(error))

    def _parse(self, path: str, raw: bytes) -> Statement:
        statement = parse_statement(raw, path)
        if not is_sealed(raw, statement):
            raise LineageError(f"{path} must match the digest of its seal; it was changed.")
        if path != statement.path and not path.endswith(f"/{statement.path}"):
            raise LineageError(f"{path} must lie at {statement.path} below its pipeline root; it was moved on its own.")
        return statement

    def _remove(self, ids: Iterable[int]) -> None:
        for id in ids:
            for table in ("outputs", "inputs", "files", "folders", "parameters"):
                self._database.execute(f"DELETE FROM {table} WHERE record = ?", (id,))
            self._database.execute("DELETE FROM records WHERE id = ?", (id,))

    def _insert_broken(self, found: Found, raw: bytes, problem: str) -> None:
        self._database.execute(
            "INSERT INTO records (path, bytes, mark, sha256, root, node, run, pipeline, execution, invocation, cached,"
            " problem) VALUES (?, ?, ?, ?, '', '', '', '', '', '', 0, ?)",
            (found.path, *_key(found), hashlib.sha256(raw).hexdigest(), problem),
        )

    def _insert(self, found: Found, raw: bytes, statement: Statement) -> None:
        outputs, inputs = statement.outputs, statement.inputs
        root = found.path[: len(found.path) - len(statement.path)].rstrip("/")
        row = (
            found.path, *_key(found), hashlib.sha256(raw).hexdigest(), root, statement.node, statement.run,
            statement.pipeline, str(statement.internal.get("execution", "")), statement.invocation, statement.started,
            statement.finished, statement.cached,
        )  # fmt: skip
        execute, many = self._database.execute, self._database.executemany
        record = execute(
            "INSERT INTO records (path, bytes, mark, sha256, root, node, run, pipeline, execution, invocation, started,"
            f" finished, cached) VALUES ({','.join('?' * len(row))})",
            row,
        ).lastrowid
        for output in outputs:
            size = sum(file.bytes for file in output.files.values())
            properties = json.dumps(dict(output.properties))
            execute(
                "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (record, output.name, output.uri, output.type, output.digest, len(output.files), size, properties),
            )
            many(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
                [(file.sha256, record, output.name, path, file.bytes) for path, file in output.files.items()],
            )
            contents = {path: file.sha256 for path, file in output.files.items()}
            many(
                "INSERT INTO folders VALUES (?, ?, ?, ?)",
                [(digest, record, output.name, path) for path, digest in _subfolders(contents).items()],
            )
        many(
            "INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (record, one.key if one.index == 0 else f"{one.key}[{one.index}]", one.uri, one.type, one.digest,
                 one.record, one.record_sha256)
                for one in inputs
            ],
        )  # fmt: skip
        many(
            "INSERT INTO parameters VALUES (?, ?, ?)",
            [(value, record, name) for name, value in statement.parameters.items() if _is_digest(value)],
        )


def index_record(home: Location, path: str, raw: bytes, statement: Statement) -> None:
    """Add a record that was just written to the index beside it.

    This is done only in a local folder, since a file in an object store cannot be updated in place.
    """
    if home.local is None:
        return
    # The next query adds records that are missing here, so a locked or damaged index must not stop a run.
    with contextlib.suppress(sqlite3.Error, OSError):
        about = (home.local / path).stat()
        index = Index(home, _connect(home.local / INDEX_FILE))
        try:
            index.add(Found(path, about.st_size, str(about.st_mtime_ns)), raw, statement)
        finally:
            index.close()


def _open(home: Location, anew: bool = False) -> sqlite3.Connection:
    """Open the first index that can be used: the one beside the records, the user's own, or one in memory."""
    beside = home.local / INDEX_FILE if home.local else None
    candidates = []
    if beside is not None and beside.exists():
        if os.access(beside, os.W_OK) and os.access(beside.parent, os.W_OK):
            candidates.append(beside)
        elif not anew:
            with contextlib.suppress(OSError):
                _copy(beside, _cache_file(home))
    for file in (*candidates, _cache_file(home)):
        with contextlib.suppress(sqlite3.Error, OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            if anew:
                file.unlink(missing_ok=True)
            return _connect(file)
    return _connect(":memory:")


def _connect(target: str | Path) -> sqlite3.Connection:
    database = sqlite3.connect(target, timeout=10)
    try:
        # A run does not wait for the disk: if the machine crashes, the index may be lost, and is then rebuilt.
        database.execute("PRAGMA synchronous = OFF")
        [version] = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with database:
                database.execute("BEGIN IMMEDIATE")
                [again] = database.execute("PRAGMA user_version").fetchone()
                if again == 0:
                    for statement in _SCHEMA.split(";"):
                        database.execute(statement)
                    database.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"an index of version {version}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _copy(beside: Path, target: Path) -> None:
    if not target.exists() or target.stat().st_mtime < beside.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(beside, target)


def _cache_file(home: Location) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "learn2compress" / "lineage" / f"{hashlib.sha256(str(home).encode()).hexdigest()[:32]}.sqlite"


def _key(found: Found) -> tuple[int, str]:
    return found.bytes, found.mark


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _subfolders(files: Mapping[str, str]) -> dict[str, str]:
    """Compute the digest of each folder within an artifact."""
    folders: dict[str, dict[str, str]] = {}
    for path, sha256 in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folders.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = sha256
    return {folder: digest_of_tree(inside) for folder, inside in folders.items()}
