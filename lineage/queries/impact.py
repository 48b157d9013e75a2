# SPDX-License-Identifier: Apache-2.0
"""Finds everything that derives from a teacher, a data set, any other file, or one training image.

A digest is matched against recorded files, artifacts, folders within artifacts (a SavedModel), and the values of
parameters: nodes receive the digests of the source files and of the teacher as parameters. The outputs of an execution
derive from all of its inputs and parameters, and so do the outputs of every execution that reads them. Content decides:
a node that read the same bytes at another place counts as well.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from learn2compress.lineage.graph import Graph, unique_problems
from learn2compress.lineage.index import Entry, FileEntry, InputEntry, OutputEntry
from learn2compress.lineage.queries.example_search import find_example, ids_of_image
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import (
    Cause,
    ImpactedExecution,
    ImpactedModel,
    ImpactReport,
    Problem,
    Status,
    status_of,
)
from learn2compress.schemas.provenance import EMPTY

MODEL_SUFFIX = ".tflite"
_HEX = frozenset("0123456789abcdef")
_SHORTEST = 8
_ID_DIGITS = 16


def impact_of(graph: Graph, subject: str) -> ImpactReport:
    """Find everything that derives from a subject.

    Args:
        graph: The records.
        subject: A file or folder, matched by content; a picture, also matched by its pixels; a digest or at least its
            first eight digits; or an example's id of 16 digits.

    Raises:
        LineageError: The subject is none of these, or its first digits match more than one digest.
    """
    search = _Search(graph)
    path = Path(subject)
    if path.exists():
        digest = path_sha256(path)
        if not search.look_for(digest) and path.is_file():
            digest = search.look_for_picture(path) or digest
    elif set(subject.lower()) <= _HEX and _SHORTEST <= len(subject) <= 64:
        digest = search.look_for_prefix(subject.lower())
    else:
        raise LineageError(
            f"{subject} must be a file, a folder, a digest of 8 to 64 hexadecimal digits, or an example's id of 16; "
            "there is no such file. Check the path."
        )
    return search.report(subject, digest)


class _Search:
    """Finds the causes, then everything that derives from them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.causes: list[tuple[str, str, int, str | None]] = []
        self.artifacts: set[str] = set()  # digests of the artifacts that everything else derives from
        self.records: set[int] = set()  # executions that received the cause itself as a parameter
        self.problems: list[Problem | None] = []

    def look_for(self, digest: str) -> bool:
        """Search for a digest in every role; return whether it was found."""
        index = self.graph.index
        if digest == EMPTY:
            raise LineageError(
                "The subject must have content; it is empty, and all empty files have the same digest. Name another."
            )
        for file in index.files_with(digest):
            self._add("file", f"{file.output}/{file.path}" if file.path else file.output, file.record)
            self.artifacts.add(self._output(file.record, file.output).digest)
        for output in index.outputs_with(digest):
            self._add("artifact", output.name, output.record)
            self.artifacts.add(output.digest)
        for named in index.folders_with(digest):
            self._add("folder", named.name, named.record)
            self.artifacts.add(self._output(named.record, named.name.partition("/")[0]).digest)
        for named in index.parameters_with(digest):
            self._add("parameter", named.name, named.record)
            self.records.add(named.record)
        return bool(self.causes)

    def look_for_prefix(self, prefix: str) -> str:
        """Search for a digest by its first digits, or for an example by its id."""
        fitting = [prefix] if len(prefix) == 64 else self.graph.index.complete_digest(prefix)
        if len(fitting) > 1:
            raise LineageError(
                f"{prefix} must match one digest only; it matches {len(fitting)}: "
                + ", ".join(f"{digest[:20]}…" for digest in fitting[:4])
            )
        if fitting and self.look_for(fitting[0]):
            return fitting[0]
        if len(prefix) == _ID_DIGITS:
            self.look_for_example(prefix)
        return prefix

    def look_for_example(self, identity: str, data: Iterable[OutputEntry] | None = None) -> bool:
        """Search the shards of every data set, or of the given ones, for an example; return whether it was found."""
        found = False
        for output in self._data_sets() if data is None else data:
            [entry] = self.graph.index.entries_by_id([output.record])
            splits, problem = find_example(self.graph, entry, output.name, identity)
            self.problems.append(problem)
            for split in splits:
                found = True
                self._add("example", f"{identity} in {output.name}", output.record, split)
                self.artifacts.add(output.digest)
        return found

    def look_for_picture(self, path: Path) -> str | None:
        """Search for a picture by its pixels; return its id, or None."""
        identity = None
        for output in self._data_sets():
            [entry] = self.graph.index.entries_by_id([output.record])
            ids = ids_of_image(self.graph, entry, output.name, path)
            identity = next((own for own in ids if self.look_for_example(own, [output])), identity)
        return identity

    def report(self, subject: str, digest: str) -> ImpactReport:
        """Follow the causes to everything that derives from them."""
        executions, models = self._derived()
        entries = {entry.id: entry for entry in self.graph.index.entries_by_id(cause[2] for cause in self.causes)}
        causes = [
            Cause(kind=kind, name=name, record=entries[record].path, split=split)
            for kind, name, record, split in self.causes
        ]
        problems = unique_problems(self.problems)
        status: Status = status_of(problems) if self.causes else "unknown"
        return ImpactReport(
            status=status,
            location=str(self.graph.home),
            subject=subject,
            digest=digest,
            causes=causes,
            runs=sorted({execution.run for execution in executions}),
            executions=executions,
            models=models,
            problems=problems,
        )

    def _derived(self) -> tuple[list[ImpactedExecution], list[ImpactedModel]]:
        index = self.graph.index
        entries = {entry.id: entry for entry in index.entries()}
        readers: dict[str, list[InputEntry]] = defaultdict(list)
        for read in index.all_inputs():
            readers[read.digest].append(read)
        outputs: dict[int, list[OutputEntry]] = defaultdict(list)
        for output in index.all_outputs():
            outputs[output.record].append(output)
        distance = dict.fromkeys(self.records, 0)
        digests = self.artifacts | {output.digest for record in self.records for output in outputs[record]}
        seen, step = {EMPTY}, 0
        while digests := digests - seen:
            step += 1
            seen |= digests
            reached = {read.record for digest in digests for read in readers[digest]} - set(distance)
            distance |= dict.fromkeys(reached, step)
            digests = {output.digest for record in reached for output in outputs[record]}
        executions = []
        for record, far in distance.items():
            entry = entries[record]
            executions.append(
                ImpactedExecution(
                    record=entry.path, node=entry.node, run=entry.run, finished=entry.finished, cached=entry.cached,
                    distance=far, outputs=[self.graph.uri(entry, output.uri) for output in outputs[record]],
                )
            )  # fmt: skip
        executions.sort(key=lambda one: (one.distance, one.finished or "", one.record))
        return executions, self._models(distance, entries, outputs)

    def _models(
        self, distance: dict[int, int], entries: dict[int, Entry], outputs: dict[int, list[OutputEntry]]
    ) -> list[ImpactedModel]:
        """List the derived models; of bytes that several executions made or copied, list where they were made first."""
        nearest: dict[tuple[str, str], tuple[int, FileEntry]] = {}
        for file in self.graph.index.files_ending_in(MODEL_SUFFIX):
            if file.record in distance:
                key, far = (file.sha256, entries[file.record].root), distance[file.record]
                if key not in nearest or far < nearest[key][0]:
                    nearest[key] = (far, file)
        models = []
        for _, file in nearest.values():
            entry = entries[file.record]
            output = next(one for one in outputs[file.record] if one.name == file.output)
            place = f"{self.graph.uri(entry, output.uri)}/{file.path}"
            models.append(ImpactedModel(file=place, sha256=file.sha256, bytes=file.bytes, run=entry.run))
        return sorted(models, key=lambda model: model.file)

    def _data_sets(self) -> list[OutputEntry]:
        """List each data set once, even if several executions took it from the cache."""
        unique_sets: dict[str, OutputEntry] = {}
        for output in self.graph.index.all_outputs():
            if output.type == "Examples":
                unique_sets.setdefault(output.digest, output)
        return list(unique_sets.values())

    def _output(self, record: int, name: str) -> OutputEntry:
        return next(output for output in self.graph.index.outputs_of(record) if output.name == name)

    def _add(self, kind: str, name: str, record: int, split: str | None = None) -> None:
        self.causes.append((kind, name, record, split))
