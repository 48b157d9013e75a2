# SPDX-License-Identifier: Apache-2.0
"""The graph of provenance records at a location: which record made each artifact that another record read.

Query results are taken from the records themselves, which are read again and checked against their seals. The index is
used only to find the records to read.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from learn2compress.lineage.index import Entry, FileEntry, Index, InputEntry
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Problem
from learn2compress.schemas.provenance import FOLDER, SUFFIX, Output, Statement, is_sealed, parse_statement
from learn2compress.storage.location import Location, open_location

_RECORD_DEPTH = 3  # <node>/provenance/<execution>.intoto.json


class Graph:
    """All records below a home location.

    Attributes:
        home: Location that the records' paths are relative to.
        found: Record files, as listed.
        index: Index of the records, brought up to date with the listing.
    """

    def __init__(self, location: Location) -> None:
        """List the records and bring the index up to date.

        Raises:
            LineageError: The location has no records.
        """
        location, found = _list(location)
        if not found:
            raise LineageError(
                f"{location} must hold provenance records (*/{FOLDER}/*{SUFFIX}); found none. "
                "Name the location of the run's outputs."
            )
        folder = _common_home([one.path for one in found])
        if folder:
            location = location.below(folder)
            found = [one._replace(path=one.path[len(folder) + 1 :]) for one in found]
        self.home = location
        self.found = found
        self.index = Index.open(location)
        self.index.refresh(found)
        self._statements: dict[str, Statement] = {}

    def broken(self) -> list[Problem]:
        """Return a problem for each record that cannot be read or was changed."""
        return [Problem(kind="tampered", where=entry.path, reason=entry.problem or "") for entry in self.index.broken()]

    def statement(self, entry: Entry) -> Statement:
        """Read a record.

        Args:
            entry: Index entry of the record.

        Raises:
            LineageError: The record is broken or missing, or differs from what the index holds.
        """
        if entry.path not in self._statements:
            if entry.problem:
                raise LineageError(entry.problem)
            try:
                raw = self.home.read(entry.path)
            except OSError as error:
                raise LineageError(f"{entry.path} must be readable; {error}.") from error
            statement = parse_statement(raw, entry.path)
            if not is_sealed(raw, statement) or hashlib.sha256(raw).hexdigest() != entry.sha256:
                raise LineageError(f"{entry.path} must match the digest of its seal; it was changed.")
            self._statements[entry.path] = statement
        return self._statements[entry.path]

    def source(self, entry: Entry, read: InputEntry) -> tuple[Entry | None, Problem | None]:
        """Find the record that made an input of another record.

        Args:
            entry: Index entry of the record that read the input.
            read: The input.

        Returns:
            The record that made it, or None, and the problem with the link between the two, or None.
        """
        if read.source is None:
            made = self._other_producer(read.digest, entry)
            reason = f"{entry.node} read {read.name} ({read.uri}), and no record states what made it"
            return made, None if made else Problem(kind="incomplete", where=entry.path, reason=reason)
        path = posixpath.normpath(posixpath.join(entry.root, read.source))
        found = self.index.entry_at(path)
        if found is None:
            made = self._other_producer(read.digest, entry)
            reason = f"it made {read.name} ({read.uri}), which {entry.node} read, and is missing"
            return made, Problem(kind="incomplete", where=path, reason=reason)
        if found.problem:
            return found, Problem(kind="tampered", where=path, reason=found.problem)
        if (self.home.stands_for(path) or found.sha256) != read.source_sha256:
            reason = f"it is not the record whose digest is given in {entry.path}: it was replaced"
            return found, Problem(kind="tampered", where=path, reason=reason)
        if all(output.digest != read.digest for output in self.index.outputs_of(found.id)):
            reason = f"{entry.node} read {read.name} with digest {read.digest[:12]}…, which {path} did not make"
            return found, Problem(kind="tampered", where=entry.path, reason=reason)
        return found, None

    def uri(self, entry: Entry, uri: str) -> str:
        """Return an artifact's URI relative to the home location."""
        return uri if uri.startswith("/") or "://" in uri else posixpath.normpath(posixpath.join(entry.root, uri))

    def evidence(self, entry: Entry, output: Output, path: str) -> tuple[dict[str, Any] | None, Problem | None]:
        """Read a JSON file of an artifact, provided that its bytes are those that were recorded.

        Args:
            entry: Index entry of the record that made the artifact.
            output: The artifact.
            path: Path of the file within the artifact.

        Returns:
            The parsed file, or None, and the problem with it, or None.
        """
        place = posixpath.join(self.uri(entry, output.uri), path)
        expected = output.files.get(path)
        if expected is None:
            return None, None
        try:
            if self.home.sha256(place) != expected.sha256:
                reason = f"its bytes are not those that {entry.path} recorded"
                return None, Problem(kind="tampered", where=place, reason=reason)
            return json.loads(self.home.read(place)), None
        except (OSError, ValueError, RecursionError) as error:
            reason = f"it cannot be read ({type(error).__name__}), so its contents are left out"
            return None, Problem(kind="incomplete", where=place, reason=reason)

    def producers(self, sha256: str) -> tuple[list[FileEntry], list[FileEntry]]:
        """Find the records that made a file, and those that only copied it from one of their inputs."""
        made = self.index.files_with(sha256)
        holding = {
            output.digest for one in made for output in self.index.outputs_of(one.record) if output.name == one.output
        }
        copies = [one for one in made if any(read.digest in holding for read in self.index.inputs_of(one.record))]
        return [one for one in made if one not in copies], copies

    def _other_producer(self, digest: str, reader: Entry) -> Entry | None:
        """Find another record with the same output content, made by a different execution or at a different place."""
        makers = self.index.entries_by_id(output.record for output in self.index.outputs_with(digest))
        makers = [entry for entry in makers if entry.id != reader.id and not entry.cached]
        return makers[-1] if makers else None


def open_graph(place: str | Path) -> Graph:
    """Open the graph of the records at a folder or an fsspec URL.

    Raises:
        LineageError: The location has no records.
    """
    return Graph(open_location(place))


def find_records_near(file: Path, working: Path) -> Path | None:
    """Find the location of the records that a file may belong to: a folder above it, or one near the working directory.

    Only folder names are read, so that the search is fast wherever it starts.
    """
    for folder in (*file.absolute().parents, working):
        for candidate in (folder, folder / "pipeline"):
            if _holds_nodes(candidate):
                return candidate
    roots = [path for path in _subfolders(working) if _holds_nodes(path / "pipeline")]
    return working if roots else None


def unique_problems(problems: Iterable[Problem | None]) -> list[Problem]:
    """Remove None and duplicate problems, keeping the order."""
    return list(dict.fromkeys(problem for problem in problems if problem is not None))


def _list(location: Location) -> tuple[Location, list[Any]]:
    """List the records; from within a node's folder, list those of the whole pipeline."""
    found = location.records()
    depth = min((len(one.path.split("/")) for one in found), default=_RECORD_DEPTH)
    if depth >= _RECORD_DEPTH:
        return location, found
    for _ in range(_RECORD_DEPTH - depth):
        location = location.parent()
    return location, location.records()


def _common_home(paths: list[str]) -> str:
    homes = {posixpath.dirname(posixpath.dirname(posixpath.dirname(path))) for path in paths}
    return "" if "" in homes else posixpath.commonpath(homes)


def _holds_nodes(folder: Path) -> bool:
    return any((path / FOLDER).is_dir() for path in _subfolders(folder))


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
