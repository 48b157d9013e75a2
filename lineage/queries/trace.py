# SPDX-License-Identifier: Apache-2.0
"""Traces a file from its bytes back through every step to the teacher and the data, and forward to its measurements.

The file may have any name and location: the records that list it are found by its SHA-256. Each record then names the
records that made its inputs, by path and by digest. Neither TensorFlow nor tfx nor a database is needed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learn2compress.lineage.graph import Graph, unique_problems
from learn2compress.lineage.index import Entry, FileEntry
from learn2compress.lineage.queries.steps import describe_step
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import (
    ArtifactView,
    Chain,
    ChoiceView,
    DataView,
    LineageReport,
    Measurement,
    Problem,
    Sibling,
    Step,
    TeacherView,
    status_of,
)
from learn2compress.schemas.provenance import Output

TEACHER = "learn2compress.Teacher"
TRAINED_TEACHER = "learn2compress.TrainedTeacher"
EXAMPLES = "Examples"
EVALUATION = "learn2compress.ModelEvaluation"
SELECTION = "learn2compress.Selection"
MODEL_SET = "learn2compress.OnDeviceModelSet"
MAX_CHAINS = 10
_FILE_LISTS = ("shards", "duplicate_examples", "skipped")


def lineage_of_file(graph: Graph, file: Path, max_chains: int = MAX_CHAINS) -> LineageReport:
    """Trace a file.

    Args:
        graph: The records.
        file: The file.
        max_chains: Largest number of chains in the result, one for each time that the same bytes were made.

    Raises:
        LineageError: The file cannot be read.
    """
    try:
        sha256, size = file_sha256(file), file.stat().st_size
    except OSError as error:
        raise LineageError(f"{file} must be a readable file; {error.strerror}.") from error
    return lineage_of_digest(graph, sha256, str(file), size, max_chains)


def lineage_of_digest(graph: Graph, sha256: str, name: str, size: int, max_chains: int = MAX_CHAINS) -> LineageReport:
    """Trace a file of which only the digest is known.

    Args:
        graph: The records.
        sha256: SHA-256 of the file.
        name: Name of the file in the result.
        size: Size in bytes; -1 if it is not known.
        max_chains: Largest number of chains in the result.
    """
    try:
        return _Tracer(graph).report(sha256, name, size, max_chains)
    except _WrongIndexError:
        graph.index.renew(graph.found)
        return _Tracer(graph).report(sha256, name, size, max_chains)


class _WrongIndexError(Exception):
    """The index holds an entry that the record does not confirm."""


class _Tracer:
    """Walks the graph, reads each record once and collects problems."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.problems: list[Problem | None] = []
        self.steps: dict[str, tuple[Step, list[Entry]]] = {}

    def report(self, sha256: str, name: str, size: int, max_chains: int) -> LineageReport:
        made, copies = self.graph.producers(sha256)
        entries = {entry.id: entry for entry in self.graph.index.entries_by_id(one.record for one in made + copies)}
        origins = _origins(made, entries)
        if not made:
            self._explain_unknown(name, size)
        chains = []
        for one, served in origins[:max_chains]:
            if entries[one.record].cached:
                reason = "it took the file from the cache, and the record that made it is missing"
                self._problem("incomplete", entries[one.record].path, reason)
            try:
                chains.append(self._chain(one, entries[one.record], served, copies, entries))
            except LineageError as error:
                self._problem("tampered", entries[one.record].path, str(error))
        if size < 0 and made:
            size = made[0].bytes
        problems = unique_problems(self.problems)
        named = {problem.where for problem in problems}
        elsewhere = [broken for broken in self.graph.broken() if broken.where not in named]
        problems += [broken.model_copy(update={"kind": "note"} if made else {}) for broken in elsewhere]
        return LineageReport(
            status=status_of(problems) if made else "unknown",
            file=name,
            sha256=sha256,
            bytes=size,
            location=str(self.graph.home),
            problems=problems,
            chains=chains,
            more_chains=max(0, len(origins) - max_chains),
        )

    def _chain(
        self, one: FileEntry, entry: Entry, served: list[Entry], copies: list[FileEntry], entries: dict[int, Entry]
    ) -> Chain:
        statement = self.graph.statement(entry)
        output = next((output for output in statement.outputs if output.name == one.output), None)
        if output is None or one.path not in output.files or output.files[one.path].sha256 != one.sha256:
            raise _WrongIndexError
        steps = self._walk(entry)
        manifest = self._evidence(entry, output, "manifest.json")
        model = _model_entry(manifest, one.sha256)
        # Students that were processed in separate tasks were collected in one artifact before they were measured.
        collected = self._consumers(output.digest, MODEL_SET)
        candidates, measurements, choices = self._measured([output, *(made for _, made in collected)], one.sha256)
        beside, listed = output, manifest
        for collector, together in collected[:1]:
            beside, listed = together, self._evidence(collector, together, "manifest.json")
        return Chain(
            made_by=entry.path,
            output=f"{output.name}/{one.path}" if one.path else output.name,
            uri=_join(self.graph.uri(entry, output.uri), one.path),
            run=entry.run,
            pipeline=entry.pipeline,
            finished=entry.finished,
            teacher=self._teacher(steps),
            trained_teacher=self._teacher(steps, TRAINED_TEACHER),
            data=self._data(steps),
            calibration=(model or {}).get("calibration"),
            model=model,
            measurements=measurements,
            choices=choices,
            siblings=_siblings(beside, one, listed, candidates, choices),
            copies=self._copied_to(copies, entries),
            served=[other.path for other in served],
            steps=[self.steps[found.path][0] for found in steps],
        )

    def _walk(self, entry: Entry) -> list[Entry]:
        """Order the record and all records before it so that each comes after every record that read its outputs."""
        found, waiting = {entry.path: entry}, [entry]
        while waiting:
            for source in self._step(waiting.pop()):
                if source.path not in found:
                    found[source.path] = source
                    waiting.append(source)
        self._find_cycle(entry)
        readers = dict.fromkeys(found, 0)
        for path in found:
            for source in self.steps[path][1]:
                readers[source.path] += 1
        ordered, ready = [], [entry]
        while ready:
            ready.sort(key=lambda one: (one.finished or "", one.path))
            current = ready.pop()
            ordered.append(current)
            for source in self.steps[current.path][1]:
                readers[source.path] -= 1
                if readers[source.path] == 0 and source.path != entry.path:
                    ready.append(source)
        # Records on a cycle never become ready.
        return ordered + [one for one in found.values() if one not in ordered]

    def _readable(self, entry: Entry) -> bool:
        try:
            self.graph.statement(entry)
        except LineageError as error:
            self._problem("tampered", entry.path, str(error))
            return False
        return True

    def _step(self, entry: Entry) -> list[Entry]:
        """Describe an execution, once, and find the records that made its inputs."""
        if entry.path in self.steps:
            return self.steps[entry.path][1]
        statement = self.graph.statement(entry)
        inputs, sources = [], []
        for read in self.graph.index.inputs_of(entry.id):
            source, problem = self.graph.source(entry, read)
            self.problems.append(problem)
            if source is not None and self._readable(source):
                sources.append(source)
            inputs.append(
                ArtifactView(
                    key=read.name,
                    uri=self.graph.uri(entry, read.uri),
                    type=read.type,
                    digest=read.digest,
                    record=source.path if source else None,
                )
            )
        self.steps[entry.path] = (describe_step(self.graph, entry, statement, inputs), sources)
        return sources

    def _find_cycle(self, start: Entry) -> None:
        done: set[str] = set()
        path: list[str] = []
        stack: list[tuple[str, Iterator[Entry]]] = [(start.path, iter(self.steps[start.path][1]))]
        path.append(start.path)
        while stack:
            name, sources = stack[-1]
            source = next(sources, None)
            if source is None:
                stack.pop()
                path.pop()
                done.add(name)
            elif source.path in path:
                loop = " ◄ ".join([*path[path.index(source.path) :], source.path])
                self._problem("incomplete", source.path, f"it is among its own sources: {loop}")
            elif source.path not in done:
                stack.append((source.path, iter(self.steps[source.path][1])))
                path.append(source.path)

    def _teacher(self, steps: list[Entry], kind: str = TEACHER) -> TeacherView | None:
        for entry, output in self._made(steps, kind):
            if output.properties.get("mode") == "fixed":  # older versions recorded one where none was trained
                continue
            manifest = self._evidence(entry, output, "manifest.json")
            sha256 = (manifest or {}).get("sha256") or output.properties.get("sha256") or output.digest
            return TeacherView(
                record=entry.path, uri=self.graph.uri(entry, output.uri), sha256=sha256,
                properties=dict(output.properties), manifest=manifest,
            )  # fmt: skip
        return None

    def _data(self, steps: list[Entry]) -> DataView | None:
        for entry, output in self._made(steps, EXAMPLES):
            manifest = self._evidence(entry, output, "manifest.json")
            if manifest is not None:
                manifest = {key: value for key, value in manifest.items() if key not in _FILE_LISTS}
            digest = (manifest or {}).get("digest") or output.properties.get("data_digest") or output.digest
            return DataView(
                record=entry.path, uri=self.graph.uri(entry, output.uri), digest=digest,
                properties=dict(output.properties), manifest=manifest,
            )  # fmt: skip
        return None

    def _made(self, steps: list[Entry], kind: str) -> Iterator[tuple[Entry, Output]]:
        for entry in steps:
            for output in self.graph.statement(entry).outputs:
                if output.type == kind:
                    yield entry, output

    def _measured(
        self, holders: list[Output], sha256: str
    ) -> tuple[dict[str, dict[str, Any]], list[Measurement], list[ChoiceView]]:
        """Find the measurements of the file and the choices based on them.

        Args:
            holders: Artifacts that hold the file.
            sha256: SHA-256 of the file.

        Returns:
            The latest figures of the file and its siblings by SHA-256; the measurements; the choices.
        """
        candidates: dict[str, dict[str, Any]] = {}
        measurements, choices = [], []
        evaluations = [found for models in holders for found in self._consumers(models.digest, EVALUATION)]
        for entry, evaluation in evaluations:
            document = self._evidence(entry, evaluation, "evaluation.json")
            if document is None:
                continue
            for candidate in document.get("candidates", []):
                candidates.setdefault(candidate["sha256"], candidate)
            own = next((c for c in document.get("candidates", []) if c["sha256"] == sha256), None)
            if own is not None:
                host = document.get("host", {})
                measurements.append(Measurement(record=entry.path, finished=entry.finished, host=host, figures=own))
            for chooser, selection in self._consumers(evaluation.digest, SELECTION):
                choice = self._evidence(chooser, selection, "selection.json") or {}
                name = own["name"] if own else None
                for verdict in choice.get("verdicts", []):
                    if verdict["candidate"] == name:
                        choices.append((_view_of(chooser, verdict, choice), choice))
        choices.sort(key=lambda pair: pair[0].finished or "", reverse=True)
        if choices:
            by_name = {candidate["name"]: candidate for candidate in candidates.values()}
            for verdict in choices[0][1]["verdicts"]:
                if verdict["candidate"] in by_name:
                    by_name[verdict["candidate"]]["verdict"] = verdict
        for measurement in measurements:
            measurement.figures.pop("verdict", None)
        return candidates, measurements, [view for view, _ in choices]

    def _consumers(self, digest: str, kind: str) -> list[tuple[Entry, Output]]:
        """List the executions that read an artifact and made one of a given type, newest first."""
        readers = self.graph.index.entries_by_id(read.record for read in self.graph.index.inputs_with(digest))
        found = []
        for entry in reversed(readers):
            if not entry.cached and any(one.type == kind for one in self.graph.index.outputs_of(entry.id)):
                found += [(entry, output) for output in self.graph.statement(entry).outputs if output.type == kind]
        return found[:MAX_CHAINS]

    def _copied_to(self, copies: list[FileEntry], entries: dict[int, Entry]) -> list[str]:
        places = []
        for one in copies:
            entry = entries[one.record]
            output = next(o for o in self.graph.index.outputs_of(entry.id) if o.name == one.output)
            places.append(_join(self.graph.uri(entry, output.uri), one.path))
        return sorted(set(places))

    def _evidence(self, entry: Entry, output: Output, path: str) -> dict[str, Any] | None:
        document, problem = self.graph.evidence(entry, output, path)
        self.problems.append(problem)
        return document

    def _explain_unknown(self, name: str, size: int) -> None:
        """Report a recorded file of the same size and type, of which an unknown file may be a changed copy."""
        alike = self.graph.index.files_of_size(size) if size > 0 else []
        alike = [one for one in alike if Path(one.path).suffix == Path(name).suffix]
        if alike:
            named = f"{alike[0].output}/{alike[0].path}"
            possible_origin = f"{named} has the same size ({size:,}), so this may be a changed copy of it"
            reason = f"no record lists these bytes; {possible_origin}"
            self._problem("tampered", name, reason)

    def _problem(self, kind: str, where: str, reason: str) -> None:
        self.problems.append(Problem(kind=kind, where=where, reason=reason))


def _origins(made: list[FileEntry], entries: dict[int, Entry]) -> list[tuple[FileEntry, list[Entry]]]:
    """Return each time that the file was made, newest first, with the later executions that took it from the cache."""
    fresh = [one for one in made if not entries[one.record].cached]
    cached = [one for one in made if entries[one.record].cached]
    origins: list[tuple[FileEntry, list[Entry]]] = [(one, []) for one in fresh]
    for one in cached:
        entry = entries[one.record]
        place = next(
            (
                served
                for origin, served in origins
                if entries[origin.record].root == entry.root and (origin.output, origin.path) == (one.output, one.path)
            ),
            None,
        )
        if place is None:
            origins.append((one, []))
        else:
            place.append(entry)
    return sorted(origins, key=lambda pair: entries[pair[0].record].finished or "", reverse=True)


def _model_entry(manifest: dict[str, Any] | None, sha256: str) -> dict[str, Any] | None:
    models = (manifest or {}).get("models", [])
    return next((model for model in models if model.get("file", {}).get("sha256") == sha256), None)


def _view_of(entry: Entry, verdict: dict[str, Any], choice: dict[str, Any]) -> ChoiceView:
    return ChoiceView(
        record=entry.path,
        finished=entry.finished,
        candidate=verdict["candidate"],
        status=verdict["status"],
        reason=verdict["reason"],
        chosen=choice.get("chosen"),
        objective=choice.get("objective"),
        limits={key: value for key, value in choice.get("limits", {}).items() if value is not None},
    )


def _siblings(
    output: Output,
    one: FileEntry,
    manifest: dict[str, Any] | None,
    candidates: dict[str, dict[str, Any]],
    choices: list[ChoiceView],
) -> list[Sibling]:
    """List the other models of the artifact with their figures, smallest first."""
    names = {model["file"]["sha256"]: model["name"] for model in (manifest or {}).get("models", [])}
    siblings = []
    for path, file in output.files.items():
        if path == one.path or Path(path).suffix != Path(one.path).suffix:
            continue
        measured = candidates.get(file.sha256, {})
        figures = measured.get("figures", {})
        verdict = measured.get("verdict", {}) if choices else {}
        siblings.append(
            Sibling(
                name=names.get(file.sha256, Path(path).stem),
                file=path,
                sha256=file.sha256,
                bytes=file.bytes,
                validation_accuracy=figures.get("validation", {}).get("top1"),
                test_accuracy=figures.get("test", {}).get("top1"),
                latency_ms=next((latency["p50_ms"] for latency in measured.get("latency", [])), None),
                status=verdict.get("status"),
                reason=verdict.get("reason"),
            )
        )
    return sorted(siblings, key=lambda sibling: (sibling.bytes, sibling.name))


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if path else folder
