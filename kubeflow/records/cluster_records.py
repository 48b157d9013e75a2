# SPDX-License-Identifier: Apache-2.0
"""Compares a cluster's ML Metadata with the provenance records of its steps, and completes each by the other.

ML Metadata leads from a file's digest to the run, and from there to the object store where the records lie, so that a
file is traced by the service's address alone. Where a record is missing, or the store cannot be read, the step is
described from ML Metadata: node, parameters, artifacts, their digests and figures, but neither packages nor the files
of a folder, other than those that figures name.
"""

import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from learn2compress.kubeflow.local_copies import LARGEST_EXACT_INTEGER
from learn2compress.kubeflow.records.cluster_metadata import ClusterArtifact, ClusterStep, read_steps
from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import Entry
from learn2compress.lineage.queries.trace import MODEL_SET
from learn2compress.lineage.records.provenance import KUBEFLOW, seed_of
from learn2compress.lineage.records.statement import build_statement
from learn2compress.schemas.errors import ClusterError, LineageError
from learn2compress.schemas.lineage import ImpactReport, LineageReport, Problem, VerifyReport, status_of
from learn2compress.schemas.provenance import FileDigest, Input, Output, Statement
from learn2compress.storage.addresses import fsspec_url
from learn2compress.storage.location import Bucket, Found, Location, is_absolute, open_location
from learn2compress.storage.object_store import answers

Report = TypeVar("Report", LineageReport, VerifyReport, ImpactReport)
# The step computes these; the run is given the compiled value, or any text that changes with the content.
_FOUND_OUT = {"teacher_sha256": ("learn2compress.Teacher", "sha256"), "data_digest": ("Examples", "data_digest")}
_THE_STEPS_OWN = ("code_version", "pass_versions")
_PLACES = 1e-6
_RELATIVE = 1e-12  # a double's own error, with room for its way through text


class ClusterRecords:
    """The records of a cluster's runs, with the contents of its ML Metadata.

    Attributes:
        name: Name of the service in messages.
        steps: Steps in ML Metadata.
    """

    def __init__(self, address: str) -> None:
        """Read ML Metadata.

        Args:
            address: HOST:PORT of its gRPC service.

        Raises:
            ConfigError: The address is not HOST:PORT.
            LineageError: It cannot be reached, or holds no step of ours.
        """
        self.name = f"grpc://{address.removeprefix('grpc://')}"
        self.steps = read_steps(address)
        self._unreadable: str | None = None

    def open_graph(self, at: str | None = None) -> Graph:
        """Open the records; each missing one is replaced by the contents of ML Metadata.

        Args:
            at: Address of the records; default: the one in ML Metadata.

        Raises:
            LineageError: ML Metadata names places in several stores, or has no step at the place, which has no
                records either.
        """
        place = fsspec_url(at) if at is not None else self._home()
        location = open_location(place)
        try:
            with answers(place, "be readable"):
                found = location.records()
        except ClusterError as error:
            self._unreadable, location, found = str(error), _Unreadable(place), []
        made, digests, there = {}, {}, set(_endings(found))
        for step in self.steps:
            path = _path_of(step, location)
            if path is not None:
                digests[path] = step.record_sha256
                if step.record not in there:
                    made[path] = _statement_of(step).to_bytes()
        # All of Location that a graph uses; what it does not define itself is passed on.
        return Graph(cast(Location, _TwoSources(location, found, made, digests)))

    def judge(self, report: Report, graph: Graph, basis: LineageReport | None = None) -> Report:
        """Add to a report which parts come from ML Metadata, and where records and ML Metadata differ.

        Args:
            basis: Report that names the records to consider; default: `report`, or all records if it names none.
        """
        told = _records_of(basis or report)
        home: Any = graph.home
        missing = sorted(home.made) if isinstance(home, _TwoSources) else []
        missing = [path for path in missing if told is None or path in told]
        reason = f"the record is missing; the step is described from {self.name}"
        problems: list[Problem] = [Problem(kind="incomplete", where=path, reason=reason) for path in missing]
        if self._unreadable is not None and missing:
            reason = f"no record can be read, so all steps are described from {self.name}; {self._unreadable}"
            problems = [Problem(kind="incomplete", where=str(home), reason=reason)]
        for path, problem in self._differences(graph):
            if (told is None or path in told) and path not in missing:
                problems.append(problem)
        all_problems = [*report.problems, *problems]
        status = report.status if report.status == "unknown" else status_of(all_problems)
        return report.model_copy(update={"problems": all_problems, "status": status})

    def _home(self) -> str:
        """The folder below which all runs lie, according to ML Metadata."""
        folders = {posixpath.dirname(step.folder) for step in self.steps}
        schemes = {folder.partition("://")[0] for folder in folders}
        common = posixpath.commonpath([folder.partition("://")[2] for folder in folders])
        if len(schemes) > 1 or not common:
            raise LineageError(
                f"The runs that {self.name} knows must lie in one store; they lie at {', '.join(sorted(folders))}. "
                "Name one with --at."
            )
        return f"{schemes.pop()}://{common}"

    def _differences(self, graph: Graph) -> Iterator[tuple[str, Problem]]:
        """Compares each record with its step in ML Metadata; also yields the record's path."""
        entries = {(entry.run, _from_run(entry)): entry for entry in graph.index.entries() if not entry.problem}
        runs = {entry.run for entry in entries.values()}
        known = set()
        for step in self.steps:
            known.add((step.run, step.record))
            entry = entries.get((step.run, step.record))
            if entry is not None:
                for what in _faults(graph, entry, step):
                    reason = f"{self.name} says otherwise: it has {what} of {step.node} in run {step.run}"
                    yield entry.path, Problem(kind="tampered", where=entry.path, reason=reason)
            elif step.run in runs:
                reason = f"{self.name} knows {step.node} of run {step.run}, of which there is no record"
                yield step.record, Problem(kind="incomplete", where=f"{step.run}/{step.record}", reason=reason)
        for key, entry in entries.items():
            if key not in known:
                reason = f"{self.name} does not know this step"
                yield entry.path, Problem(kind="note", where=entry.path, reason=reason)


class _TwoSources:
    """A location whose missing records are made from ML Metadata; all else is the location's own.

    Attributes:
        made: Records made from ML Metadata, by path.
    """

    def __init__(
        self, location: Location, found: Sequence[Found], made: Mapping[str, bytes], digests: Mapping[str, str]
    ) -> None:
        self._location, self._found, self.made, self._digests = location, found, made, digests

    def __str__(self) -> str:
        return str(self._location)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._location, name)

    def records(self) -> list[Found]:
        made = [Found(path, len(raw), f"from ML Metadata {self._digests[path]}") for path, raw in self.made.items()]
        return sorted([*self._found, *made])

    def read(self, path: str) -> bytes:
        return self.made[path] if path in self.made else self._location.read(path)

    def read_many(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        yield from ((path, self.made[path]) for path in paths if path in self.made)
        yield from self._location.read_many([path for path in paths if path not in self.made])

    def stands_for(self, path: str) -> str | None:
        return self._digests[path] if path in self.made else None

    def below(self, path: str) -> "_TwoSources":
        found = [one._replace(path=one.path[len(path) + 1 :]) for one in self._found]
        made = {one[len(path) + 1 :]: raw for one, raw in self.made.items()}
        digests = {one[len(path) + 1 :]: digest for one, digest in self._digests.items()}
        return _TwoSources(self._location.below(path), found, made, digests)


class _Unreadable(Bucket):
    """A place in a store that cannot be read: its paths have a meaning, and nothing is looked for."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def below(self, path: str) -> "_Unreadable":
        return _Unreadable(self.join(path))


def _path_of(step: ClusterStep, location: Location) -> str | None:
    """Where a step's record lies, or would lie, below a location; None if outside."""
    if location.local is not None:
        run = step.run if (location.local / step.run).is_dir() else f"{step.pipeline}/{step.run}"
        return f"{run}/{step.record}"
    path = location.relative(f"{step.folder}/{step.record}")
    return None if is_absolute(path) else path


def _endings(found: Sequence[Found]) -> Iterator[str]:
    """All that the paths of records end in: whole, and from each folder on."""
    for one in found:
        parts = one.path.split("/")
        for start in range(len(parts)):
            yield "/".join(parts[start:])


def _statement_of(step: ClusterStep) -> Statement:
    """The record of a step, as far as ML Metadata contains it."""
    return build_statement(
        path=step.record,
        outputs=[
            Output(one.key, _inside(step, one.uri), one.type, one.digest, _files(step, one), 0, one.properties)
            for one in step.outputs
        ],
        inputs=[_input(step, one) for one in step.inputs],
        parameters=_parameters(step),
        internal={
            "node": step.node,
            "pipeline": step.pipeline,
            "run": step.run,
            "execution": step.run,
            "seed": seed_of(step.parameters),
        },
        packages={},
        builder=KUBEFLOW,
        invocation=f"{step.run}/{step.node}",
        started=step.started,
        finished=step.finished,
        cached=False,
    )


def _input(step: ClusterStep, one: ClusterArtifact) -> Input:
    """What a step read; the record that made it lies in its own run's folder."""
    uri = _inside(step, one.uri)
    if is_absolute(uri):
        return Input(one.key, uri, one.type, one.digest)
    other = "/".join(uri.split("/")[:2]) if uri.startswith("../") else ""
    return Input(
        one.key, uri, one.type, one.digest, record=posixpath.join(other, one.record), record_sha256=one.record_sha256
    )


def _inside(step: ClusterStep, uri: str) -> str:
    """Writes an address as seen from the run's folder, if it is the pipeline's."""
    home = f"{posixpath.dirname(step.folder)}/"
    return posixpath.relpath(uri, step.folder) if uri.startswith(home) else uri


def _parameters(step: ClusterStep) -> dict[str, Any]:
    """The parameters, with what the step has found out of its teacher and data in place of what it was given."""
    found = {
        name: one.properties[figure]
        for name, (kind, figure) in _FOUND_OUT.items()
        for one in step.outputs
        if name in step.parameters and one.type == kind and figure in one.properties
    }
    return {**step.parameters, **found}


def _files(step: ClusterStep, one: ClusterArtifact) -> dict[str, FileDigest]:
    """The models in an artifact, which its figures name by digest."""
    sizes = {}
    for models in (*step.outputs, *step.inputs):
        if models.type == MODEL_SET:
            for name in str(models.properties.get("models", "")).split(","):
                key = name.replace("-", "_")
                if f"sha256_{key}" in models.properties:
                    digest = FileDigest(models.properties[f"sha256_{key}"], models.properties[f"bytes_{key}"])
                    sizes[models.digest, name] = digest
    if one.type == MODEL_SET:
        return {f"{name}.tflite": file for (digest, name), file in sizes.items() if digest == one.digest}
    if one.type == "Model":
        chosen = [file for (_, name), file in sizes.items() if name == one.properties.get("chosen")]
        return {f"Format-Serving/{one.properties['chosen']}.tflite": file for file in chosen}
    return {}


def _faults(graph: Graph, entry: Entry, step: ClusterStep) -> Iterator[str]:
    """Names what ML Metadata says otherwise than a record."""
    home: Any = graph.home
    if isinstance(home, _TwoSources) and home.stands_for(entry.path):
        return
    if step.record_sha256 != entry.sha256:
        yield "another record"
    try:
        recorded = graph.statement(entry)
    except LineageError:
        return
    told = _statement_of(step)
    ours, theirs = recorded.parameters, told.parameters
    for name in sorted(ours.keys() | theirs.keys()):
        told_alike = name in ours and name in theirs and _same(ours[name], theirs[name], places=0.0)
        if name not in _THE_STEPS_OWN and not told_alike:
            yield f"another value of the parameter {name}"
    if [_identity(one) for one in _by_key(recorded.inputs)] != [_identity(one) for one in _by_key(told.inputs)]:
        yield "other inputs"
    outputs, told_outputs = _by_key(recorded.outputs), _by_key(told.outputs)
    if [_identity(one) for one in outputs] != [_identity(one) for one in told_outputs]:
        yield "other outputs"
    elif not all(_same(one.properties, two.properties) for one, two in zip(outputs, told_outputs, strict=True)):
        yield "other figures"


def _same(one: Any, other: Any, places: float = _PLACES) -> bool:
    """Whether two values are the same, as near as ML Metadata keeps them.

    Every number is a double there, with 15 digits. A smaller integer is kept exactly; a larger one travels as text, and
    in runs of older versions as a double; a fraction is kept to a number of decimal places.

    Args:
        one: A JSON value.
        other: Likewise.
        places: Largest absolute difference between fractions; the relative one is that of a double.
    """
    one, other = _decoded(one), _decoded(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key], places) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b, places) for a, b in zip(one, other, strict=True))
    for text, number in ((one, other), (other, one)):
        if isinstance(text, str) and isinstance(number, int) and abs(number) > LARGEST_EXACT_INTEGER:
            return text == str(number)
    if _is_number(one) and _is_number(other):
        if all(float(value).is_integer() and abs(value) <= LARGEST_EXACT_INTEGER for value in (one, other)):
            return one == other
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=places)
    return one == other


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decoded(value: Any) -> Any:
    """What tfx keeps in a struct: itself, or as its one field where it has none; a list is Kubeflow's to wrap."""
    if isinstance(value, Mapping) and isinstance(value.get("struct"), Mapping):
        inner = value["struct"]
        return next((inner[key] for key in ("__value__", "list") if set(inner) == {key}), inner)
    return value


def _by_key(artifacts: Sequence[Any]) -> list[Any]:
    return sorted(artifacts, key=lambda one: one.key)


def _identity(one: Input | Output) -> tuple[str, ...]:
    return one.key, one.uri, one.type, one.digest


def _from_run(entry: Entry) -> str:
    """A record's path from its run's folder."""
    return entry.path[len(entry.root) :].lstrip("/")


def _records_of(report: LineageReport | VerifyReport | ImpactReport) -> set[str] | None:
    """The records that a report is made from; None: all."""
    if isinstance(report, LineageReport):
        return {step.record for chain in report.chains for step in chain.steps}
    if isinstance(report, ImpactReport):
        return {one.record for one in report.executions} | {one.record for one in report.causes}
    return None
