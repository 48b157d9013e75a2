# SPDX-License-Identifier: Apache-2.0
"""The records at a location as a graph: which record made what another read.

Everything that an answer says is taken from the records themselves, read anew and checked against their seals; the
index only tells which ones to read.
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
    """All records below a home.

    Attributes:
        home: The location that paths of records are relative to.
        found: The records' files as they were listed.
        index: Brought up to date with them.
    """

    def __init__(self, location: Location) -> None:
        """List the records and bring the index up to date.

        Raises:
            LineageError: There is no record at all.
        """
        location, found = _list(location)
        if not found:
            raise LineageError(
                f"{location} must hold provenance records (*/{FOLDER}/*{SUFFIX}); found none. "
                "Name the place where the run's outputs lie."
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
        """The records that cannot be read or were changed."""
        return [Problem(kind="tampered", where=entry.path, reason=entry.problem or "") for entry in self.index.broken()]

    def statement(self, entry: Entry) -> Statement:
        """Read a record.

        Raises:
            LineageError: It is broken, gone, or not what the index took in.
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
                raise LineageError(f"{entry.path} must have the bytes that were sealed; it was changed.")
            self._statements[entry.path] = statement
        return self._statements[entry.path]

    def source(self, entry: Entry, read: InputEntry) -> tuple[Entry | None, Problem | None]:
        """Find the record that made what a record read.

        Returns:
            The record, if there is one, and what is wrong with the link between the two.
        """
        if read.source is None:
            made = self._makers(read.digest, entry)
            reason = f"{entry.node} read {read.name} ({read.uri}), and no record says what made it"
            return made, None if made else Problem(kind="incomplete", where=entry.path, reason=reason)
        path = posixpath.normpath(posixpath.join(entry.root, read.source))
        found = self.index.entry_at(path)
        if found is None:
            made = self._makers(read.digest, entry)
            reason = f"it made {read.name} ({read.uri}), which {entry.node} read, and is missing"
            return made, Problem(kind="incomplete", where=path, reason=reason)
        if found.problem:
            return found, Problem(kind="tampered", where=path, reason=found.problem)
        if (self.home.stands_for(path) or found.sha256) != read.source_sha256:
            reason = f"it is not the record that {entry.path} names by its digest: it was replaced"
            return found, Problem(kind="tampered", where=path, reason=reason)
        if all(output.digest != read.digest for output in self.index.outputs_of(found.id)):
            reason = f"{entry.node} read {read.name} with digest {read.digest[:12]}…, which {path} has not made"
            return found, Problem(kind="tampered", where=entry.path, reason=reason)
        return found, None

    def uri(self, entry: Entry, uri: str) -> str:
        """Write an artifact's URI relative to home."""
        return uri if uri.startswith("/") or "://" in uri else posixpath.normpath(posixpath.join(entry.root, uri))

    def evidence(self, entry: Entry, output: Output, path: str) -> tuple[dict[str, Any] | None, Problem | None]:
        """Read a JSON file of an artifact, if its bytes are those that were recorded."""
        place = posixpath.join(self.uri(entry, output.uri), path)
        expected = output.files.get(path)
        if expected is None:
            return None, None
        try:
            if self.home.sha256(place) != expected.sha256:
                reason = f"its bytes are not those that {entry.path} recorded"
                return None, Problem(kind="tampered", where=place, reason=reason)
            return json.loads(self.home.read(place)), None
        except (OSError, ValueError) as error:
            reason = f"it cannot be read ({type(error).__name__}), so that what it says is left out"
            return None, Problem(kind="incomplete", where=place, reason=reason)

    def producers(self, sha256: str) -> tuple[list[FileEntry], list[FileEntry]]:
        """Find the records that made a file, and those that only copied it from what they had read."""
        made = self.index.files_with(sha256)
        holding = {
            output.digest for one in made for output in self.index.outputs_of(one.record) if output.name == one.output
        }
        copies = [one for one in made if any(read.digest in holding for read in self.index.inputs_of(one.record))]
        return [one for one in made if one not in copies], copies

    def _makers(self, digest: str, reader: Entry) -> Entry | None:
        """A record that made the same content, another way or at another place."""
        makers = self.index.entries_by_id(output.record for output in self.index.outputs_with(digest))
        makers = [entry for entry in makers if entry.id != reader.id and not entry.cached]
        return makers[-1] if makers else None


def open_graph(place: str | Path) -> Graph:
    """Read the records at a folder or an fsspec URL.

    Raises:
        LineageError: There are none.
    """
    return Graph(open_location(place))


def near(file: Path, working: Path) -> Path | None:
    """Find the records that a file may belong to: in the folders above it, or near the working directory.

    Only names are looked at, so that a search from anywhere on a disk stays quick.
    """
    for folder in (*file.absolute().parents, working):
        for candidate in (folder, folder / "pipeline"):
            if _holds_nodes(candidate):
                return candidate
    roots = [path for path in _subfolders(working) if _holds_nodes(path / "pipeline")]
    return working if roots else None


def unique(problems: Iterable[Problem | None]) -> list[Problem]:
    """Leave out what was said before."""
    return list(dict.fromkeys(problem for problem in problems if problem is not None))


def _list(location: Location) -> tuple[Location, list[Any]]:
    """Lists the records; from within a node's folder, those of the whole pipeline."""
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
