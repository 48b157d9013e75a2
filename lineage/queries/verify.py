# SPDX-License-Identifier: Apache-2.0
"""Verifies that a location holds exactly what was recorded.

Each record must be whole, conform to its standards, and be the one whose digest the later records give. Each file of an
artifact must have its recorded bytes; no file may be missing or added. Where two records describe the same folder, the
later one counts. Outside the artifacts, model files such as OUT/models/*.tflite must be copies of recorded files; other
files are listed.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from learn2compress.lineage.graph import Graph, find_records_near, open_graph, unique_problems
from learn2compress.lineage.index import INDEX_FILE, Entry
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.lineage.queries.unfinished import interrupted_command, is_unfinished, unrecorded_executions
from learn2compress.lineage.records.signing import ENVELOPE_SUFFIX, SignatureChecker
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Problem, VerifyReport, status_of
from learn2compress.schemas.provenance import LOCK_FILE, SUFFIX, Output, validate_statement
from learn2compress.storage.location import Location, is_absolute, open_location

MODEL_SUFFIX = ".tflite"
DATABASE = "metadata.db"
_OURS = (SUFFIX, ENVELOPE_SUFFIX)
_OWN_FOLDERS = {".system"}
# The log of a step on Kubeflow, one a try, which its launcher puts beside the step's outputs. No record can be of it:
# it is complete only after the step.
_STEP_LOG = re.compile(r"executor-logs(-\d+)?")


@dataclass
class _Counts:
    records: int = 0
    artifacts: int = 0
    files: int = 0
    bytes: int = 0


def open_for_verifying(path: str, at: str | None = None) -> tuple[Graph, Location, str]:
    """Open the records that describe a place: those at the place itself or, for a part of a pipeline, those above it.

    Args:
        path: Folder, file or fsspec URL.
        at: Location of the records, if they are elsewhere.

    Returns:
        The arguments `graph`, `place` and `inside` of `verify_place`.

    Raises:
        LineageError: There are no records, or the place does not exist.
    """
    place = open_location(path)
    if not place.exists():
        raise LineageError(f"{path} must be a folder, a file or an fsspec URL; it does not exist. Check the path.")
    above = find_records_near(place.local / "any", place.local) if place.local and not place.records() else None
    graph = open_graph(at if at is not None else above or path)
    inside = graph.home.relative(str(place))
    return graph, place, "" if is_absolute(inside) or inside == "." else inside


def verify_place(graph: Graph, place: Location, inside: str = "", public_key: Path | None = None) -> VerifyReport:
    """Verify everything at a place.

    Args:
        graph: The records at the place, or above it.
        place: Location whose files are checked.
        inside: Path of the place within the graph's home location, or empty; it may be a part of an artifact.
        public_key: PEM file of the key that each record must be signed with.

    Raises:
        LineageError: The key cannot be used.
    """
    verifier = _Verifier(graph, public_key)
    verifier.check_records()
    claims = verifier.claims()
    for uri, (entry, output) in claims.items():
        if is_absolute(uri) or inside.startswith(f"{uri}/") or verifier.within(place, uri) is not None:
            verifier.check_artifact(uri, entry, output)
    verifier.check_database(place)
    copies, unrecorded = verifier.check_others(place, list(claims))
    return verifier.report(str(place), copies, unrecorded)


def verify_file(graph: Graph, file: Path, public_key: Path | None = None) -> VerifyReport:
    """Verify one file: its bytes, and the records of the chain behind it.

    The status is `unknown` if no record lists the bytes, and `tampered` if a record lists other bytes for this path.
    """
    verifier = _Verifier(graph, public_key)
    report = lineage_of_file(graph, file)
    problems = list(report.problems)
    uri = graph.home.relative(str(file.absolute()))
    for folder, (entry, output) in verifier.claims().items():
        path = uri[len(folder) + 1 :] if uri.startswith(f"{folder}/") else None
        if path is not None and path in output.files and output.files[path].sha256 != report.sha256:
            reason = f"its bytes are not those that {entry.path} recorded"
            problems = [Problem(kind="tampered", where=uri, reason=reason)]
            report = report.model_copy(update={"status": "tampered"})
    steps = {step.record for chain in report.chains for step in chain.steps}
    unsigned = unique_problems(verifier.signatures.check(entry) for entry in map(graph.index.entry_at, steps) if entry)
    problems += unsigned
    return VerifyReport(
        status=report.status if report.status in ("unknown", "tampered") else status_of(problems),
        location=str(file),
        records=len(steps),
        artifacts=0,
        files=1,
        bytes=report.bytes,
        signatures=verifier.signatures.count if public_key else None,
        signed=verifier.signatures.envelopes,
        signers=sorted(verifier.signatures.signers),
        problems=problems,
        copies=[],
        unrecorded=[],
    )


class _Verifier:
    """Runs the checks and collects problems."""

    def __init__(self, graph: Graph, public_key: Path | None) -> None:
        self.graph = graph
        self.signatures = SignatureChecker(graph.home, public_key)
        self.signed = public_key is not None
        self.counts = _Counts()
        self.problems: list[Problem | None] = []
        self.made_anew: list[str] = []
        self.interrupted = interrupted_command(graph.home.local.parent) if graph.home.local else None

    def check_records(self) -> None:
        """Check each record and the links between records."""
        for entry in self.graph.index.entries():
            self.counts.records += 1
            try:
                validate_statement(self.graph.statement(entry))
            except LineageError as error:
                self._problem("tampered", entry.path, str(error))
                continue
            for read in self.graph.index.inputs_of(entry.id):
                self.problems.append(self.graph.source(entry, read)[1])
            self.problems.append(self.signatures.check(entry))
        self.problems += self.signatures.check_list(self.graph.index.entries())

    def claims(self) -> dict[str, tuple[Entry, Output]]:
        """Map each artifact's URI to the latest record that describes it."""
        latest: dict[str, tuple[Entry, str, str]] = {}
        older: dict[str, list[tuple[Entry, str]]] = defaultdict(list)
        entries = {entry.id: entry for entry in self.graph.index.entries()}
        for output in self.graph.index.all_outputs():
            entry = entries[output.record]
            uri = self.graph.uri(entry, output.uri)
            rank = (entry.finished or "", not entry.cached)
            if uri in latest:
                known = latest[uri][0]
                if rank < (known.finished or "", not known.cached):
                    older[uri].append((entry, output.digest))
                    continue
                older[uri].append((known, latest[uri][1]))
            latest[uri] = (entry, output.digest, output.name)
        found = {}
        for uri, (entry, digest, name) in latest.items():
            for former, former_digest in older[uri]:
                # Files outside the pipeline root are replaced by each run, which is intended.
                if former_digest != digest and not uri.startswith(".."):
                    reason = f"its artifact {uri} was overwritten by that of {entry.path}"
                    self._problem("incomplete", former.path, reason)
            try:
                outputs = self.graph.statement(entry).outputs
            except LineageError:
                continue
            found[uri] = (entry, next(output for output in outputs if output.name == name))
        return found

    def check_artifact(self, uri: str, entry: Entry, output: Output) -> None:
        """Check the files of an artifact against its record."""
        self.counts.artifacts += 1
        home = self.graph.home
        if not home.exists(uri) and output.files:
            if is_absolute(uri):
                reason = f"it lies outside the pipeline root and is not available here; {entry.path} recorded it"
                self._problem("note", uri, reason)
            else:
                reason = f"it is missing, with {len(output.files)} files that {entry.path} recorded"
                self._problem("incomplete", uri, reason)
            return
        there = {""} if output.is_file else set(home.files(uri))
        for path, file in sorted(output.files.items()):
            place = f"{uri}/{path}" if path else uri
            if path not in there:
                self._problem("incomplete", place, f"it is missing; {entry.path} recorded it")
                continue
            try:
                size, sha256 = home.size(place), home.sha256(place)
            except OSError as error:
                self._problem("incomplete", place, f"it cannot be read: {error.strerror or error}")
                continue
            self.counts.files += 1
            self.counts.bytes += size
            if sha256 != file.sha256:
                reason = f"its bytes are not those that {entry.path} recorded ({sha256[:12]}… for {file.sha256[:12]}…)"
                self._changed(uri, place, reason)
        for path in sorted(there - set(output.files)):
            self._changed(uri, f"{uri}/{path}", f"it was added: {entry.path} recorded no such file")

    def check_database(self, place: Location) -> None:
        """Check the metadata store of an output folder, if there is one, against the records."""
        if place.local is None or not (place.local / DATABASE).is_file():
            return
        # Imported here because it takes half a second and only local folders need it.
        from learn2compress.lineage.mlmd.consistency import check_metadata

        self.problems += check_metadata(self.graph, place.local / DATABASE, DATABASE)

    def check_others(self, place: Location, claimed: list[str]) -> tuple[list[str], list[str]]:
        """Return the files outside the artifacts: copies of recorded files, and files that no record lists."""
        copies, unrecorded = [], []
        folders = {self.within(place, uri) for uri in claimed} - {None}
        executions = unrecorded_executions(self.graph, place.local / DATABASE) if place.local else set()
        unfinished = 0
        for path in place.files():
            parts = path.split("/")
            name = parts[-1]
            if path == LOCK_FILE or name.startswith((INDEX_FILE, DATABASE)):
                self.made_anew.append(path)
                continue
            if name.endswith(_OURS) or _OWN_FOLDERS & set(parts):
                continue
            if _STEP_LOG.fullmatch(name):
                continue
            if any("/".join(parts[:depth]) in folders for depth in range(1, len(parts) + 1)):
                continue
            if is_unfinished(self.graph.home.relative(place.join(path)), executions):
                unfinished += 1
                continue
            # Only a file with the size of a recorded file can be a copy of it.
            alike = self.graph.index.files_of_size(place.size(path))
            sha256 = place.sha256(path) if alike and not place.is_special(path) else ""
            if any(one.sha256 == sha256 for one in alike):
                copies.append(path)
            elif name.endswith(MODEL_SUFFIX):
                self._problem(
                    "tampered", path, "no record lists these bytes, but a model must be a copy of a recorded file"
                )
            else:
                unrecorded.append(path)
        if unfinished:
            reason = f"{unfinished} files are of attempts that did not finish; the next run removes them"
            self._problem("incomplete", str(place), reason)
        return copies, unrecorded

    def report(self, location: str, copies: list[str], unrecorded: list[str]) -> VerifyReport:
        """Return the result of all checks."""
        problems = unique_problems(self.problems)
        return VerifyReport(
            status=status_of(problems),
            location=location,
            records=self.counts.records,
            artifacts=self.counts.artifacts,
            files=self.counts.files,
            bytes=self.counts.bytes,
            signatures=self.signatures.count if self.signed else None,
            signed=self.signatures.envelopes,
            signers=sorted(self.signatures.signers),
            problems=problems,
            copies=copies,
            unrecorded=unrecorded,
            made_anew=sorted(self.made_anew),
        )

    def within(self, place: Location, uri: str) -> str | None:
        """Return an artifact's URI relative to the place, or None if it lies elsewhere."""
        full = self.graph.home.join(uri)
        if self.graph.home.local:
            full = str(Path(full).resolve())
        relative = place.relative(full)
        return None if relative == full else relative

    def _changed(self, uri: str, where: str, reason: str) -> None:
        """Report a file of an artifact that is not as recorded.

        Outside the pipeline root it may be newer than its record, if the command that replaced it was interrupted; a
        model is then still a copy of a recorded file.
        """
        replaced = uri.startswith("../") and self.interrupted is not None
        if replaced and where.endswith(MODEL_SUFFIX):
            replaced = bool(self.graph.index.files_with(self.graph.home.sha256(where)))
        if replaced:
            reason = f"{reason}; {self.interrupted}, which replaces it, has not finished"
        self._problem("incomplete" if replaced else "tampered", where, reason)

    def _problem(self, kind: str, where: str, reason: str) -> None:
        self.problems.append(Problem(kind=kind, where=where, reason=reason))
