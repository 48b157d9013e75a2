# SPDX-License-Identifier: Apache-2.0
"""Writes the provenance record of each execution, so that the nodes themselves need no code for it.

`write_record` reads an execution from ML Metadata after a node of a local run has finished, whether the node is ours or
a standard one, and whether it ran or was served from the cache. Where there is no store, as in a step on a cluster,
`describe_output`, `record_of` and `save_record` do the same from explicit inputs, outputs and parameters.

A record lies at `<pipeline root>/<node>/provenance/<execution>.intoto.json`, beside the artifacts and not among their
files, since some standard nodes require a fixed set of files. In the store the outputs get the custom properties
`tree_sha256` and `provenance` (the record's path). They are set once, before anything reads the artifact, because a
later change would alter the cache key of every downstream node.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2compress.lineage.index import index_record
from learn2compress.lineage.records.statement import build_statement
from learn2compress.lineage.records.versions import code_descriptor, package_versions, platform_name, source_version
from learn2compress.schemas.digests import digest_of_tree
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import (
    FOLDER,
    SUFFIX,
    FileDigest,
    Input,
    Output,
    Statement,
    is_sealed,
    parse_statement,
    timestamp,
    validate_statement,
)
from learn2compress.storage.location import Location, open_location

if TYPE_CHECKING:
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

DIGEST_PROPERTY = "tree_sha256"
RECORD_PROPERTY = "provenance"
LOCAL = "urn:learn2compress:local"
KUBEFLOW = "urn:learn2compress:kubeflow"


def write_record(store: "MetadataStore", execution_id: int, pipeline_root: str | Path) -> str:
    """Write the record of a finished execution, and set the digests of its outputs in the store.

    If the outputs come from the cache, their digests are taken from the record that made them, and the files are not
    read again. If that record is missing because a run was killed right after the node, it is written first.

    Args:
        store: ML Metadata store.
        execution_id: Id of the execution in the store.
        pipeline_root: Pipeline root of the run.

    Returns:
        Path of the record.

    Raises:
        LineageError: The store has no such execution, the execution has not finished, or an output cannot be read.
    """
    return _Writer(store, open_location(pipeline_root)).write(execution_id)


def describe_output(
    location: Location,
    uri: str,
    key: str,
    type_name: str,
    index: int = 0,
    properties: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Output:
    """Compute the digests of an artifact.

    Args:
        location: Pipeline root.
        uri: URI of the artifact, absolute or relative to the location.
        key: Name of the output in the node.
        type_name: Name of the artifact type.
        index: Position of the artifact, where an output holds several.
        properties: Custom properties of the artifact.
        metadata: Identity of the artifact in ML Metadata.

    Raises:
        LineageError: A file cannot be read.
    """
    uri = location.relative(uri)
    try:
        names = [""] if location.is_file(uri) else location.files(uri)
        files = {
            name: FileDigest(location.sha256(path), location.size(path))
            for name, path in ((name, f"{uri}/{name}" if name else uri) for name in names)
        }
    except OSError as error:
        raise LineageError(f"The files of artifact {key} at {uri} must be readable; {error}.") from error
    digest = files[""].sha256 if "" in files else digest_of_tree({n: file.sha256 for n, file in files.items()})
    return Output(key, uri, type_name, digest, files, index, dict(properties or {}), metadata)


def record_of(
    node: str,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    parameters: Mapping[str, Any],
    *,
    pipeline: str,
    run: str,
    execution: str,
    path: str | None = None,
    builder: str = LOCAL,
    started: str | None = None,
    finished: str | None = None,
    cached: bool = False,
    seed: int | None = None,
    invocation: str | None = None,
    internal: Mapping[str, Any] | None = None,
) -> Statement:
    """Build a record from a node's inputs, outputs and parameters.

    Args:
        node: Name of the node.
        inputs: Artifacts that the node read.
        outputs: Artifacts that the node made.
        parameters: The node's parameters.
        pipeline: Name of the pipeline.
        run: Identifier of the run.
        execution: Identifier of the execution within its node, from which the file name is formed.
        path: Path of the record relative to the pipeline root (default: beside the node's outputs).
        builder: Identifier of the environment that ran the node.
        started: Start, ISO 8601 in UTC.
        finished: End, ISO 8601 in UTC.
        cached: Whether the outputs were taken from the cache.
        seed: Random seed (default: the parameter `seed`, or one whose name ends in `_seed`).
        invocation: Globally unique identifier of the execution (default: `execution`).
        internal: Further internal parameters.
    """
    seed = seed_of(parameters) if seed is None else seed
    about = {
        "node": node,
        "pipeline": pipeline,
        "run": run,
        "execution": execution,
        "seed": seed,
        "code": source_version(),
        "platform": platform_name(),
        **(internal or {}),
    }
    return build_statement(
        path=path or record_path(node, execution),
        outputs=outputs,
        inputs=inputs,
        parameters=parameters,
        internal=about,
        packages=package_versions(),
        builder=builder,
        invocation=invocation or execution,
        started=started,
        finished=finished,
        cached=cached,
        code=[code_descriptor()],
    )


def seed_of(parameters: Mapping[str, Any]) -> int | None:
    """Return the random seed among a node's parameters, or None."""
    return next((parameters[key] for key in sorted(parameters) if key == "seed" or key.endswith("_seed")), None)


def record_path(node: str, execution: str) -> str:
    """Return the path of an execution's record, relative to the pipeline root."""
    return f"{node}/{FOLDER}/{execution}{SUFFIX}"


def save_record(location: Location, statement: Statement) -> str:
    """Validate a record against its standards, seal it and write it.

    Returns:
        Path of the record.
    """
    validate_statement(statement)
    raw = statement.to_bytes()
    location.write(statement.path, raw)
    index_record(location, statement.path, raw, statement)
    return location.join(statement.path)


class _Writer:
    """Writes records of executions in one store below one pipeline root."""

    def __init__(self, store: "MetadataStore", location: Location) -> None:
        # Imported here because a step on a cluster needs no ML Metadata.
        from ml_metadata.proto import metadata_store_pb2

        from learn2compress.lineage.records import mlmd_messages as mlmd_json

        self._pb = metadata_store_pb2
        self._json = mlmd_json
        self._store = store
        self._location = location

    def write(self, execution_id: int, late: bool = False) -> str:
        found = self._store.get_executions_by_id([execution_id])
        if not found:
            raise LineageError(
                f"Execution {execution_id} must be in the metadata store; no execution has that id. Check the store."
            )
        [execution] = found
        state = self._pb.Execution.State.Name(execution.last_known_state)
        if state not in ("COMPLETE", "CACHED"):
            raise LineageError(f"Execution {execution_id} must be finished before it is recorded; got {state}.")
        [kind] = self._store.get_execution_types_by_id([execution.type_id])
        contexts = self._store.get_contexts_by_execution(execution_id)
        names = {context.type: context.name for context in contexts}
        pipeline = names.get("pipeline", "")
        node = names.get("node", kind.name).removeprefix(f"{pipeline}.")
        events = sorted(
            self._store.get_events_by_execution_ids([execution_id]),
            key=lambda event: (str(event.path), event.artifact_id),
        )
        cached = state == "CACHED"
        path = self._free_path(node, execution)
        outputs = [
            self._output(event, cached, path, contexts)
            for event in events
            if event.type in (self._pb.Event.OUTPUT, self._pb.Event.DECLARED_OUTPUT)
        ]
        inputs = [
            self._input(event, contexts)
            for event in events
            if event.type in (self._pb.Event.INPUT, self._pb.Event.DECLARED_INPUT)
        ]
        if not outputs:
            raise LineageError(f"Execution {execution_id} of node {node} must have an output to record; got none.")
        statement = record_of(
            node,
            inputs,
            outputs,
            self._json.properties_to_json(execution),
            pipeline=pipeline,
            run=names.get("pipeline_run", ""),
            execution=str(execution_id),
            path=path,
            started=timestamp(execution.create_time_since_epoch),
            finished=timestamp(execution.last_update_time_since_epoch),
            cached=cached,
            invocation=execution.name or str(execution_id),
            internal={
                "ml_metadata": self._json.execution_to_json(execution, kind)
                | {"contexts": [self._context(context) for context in sorted(contexts, key=lambda one: one.id)]},
                # The record is written after the run, when code and packages may have changed.
                **({"recorded_late": True} if late else {}),
            },
        )
        return save_record(self._location, statement)

    def _free_path(self, node: str, execution: "mlmd.Execution") -> str:
        """Return a path that does not overwrite another record: a new store counts executions from one again."""
        path = record_path(node, str(execution.id))
        there = self._read(path)
        invocation = execution.name or str(execution.id)
        if not self._location.exists(path) or (there and there.invocation == invocation):
            return path
        return record_path(node, f"{execution.id}-{execution.name[:8] or execution.create_time_since_epoch}")

    def _output(self, event: "mlmd.Event", cached: bool, path: str, contexts: Sequence["mlmd.Context"]) -> Output:
        [artifact] = self._store.get_artifacts_by_id([event.artifact_id])
        key, index = _steps(event)
        earlier = None
        if cached:
            earlier = self._recorded(artifact) or self._record_producer(artifact)
            [artifact] = self._store.get_artifacts_by_id([event.artifact_id])
        uri = self._location.relative(artifact.uri)
        if earlier is None:
            described = describe_output(self._location, uri, key, artifact.type, index)
            self._mark(artifact, described.digest, path)
            [artifact] = self._store.get_artifacts_by_id([event.artifact_id])
        else:
            described = earlier
        properties = self._json.properties_to_json(artifact)
        return Output(
            key, uri, artifact.type, described.digest, described.files, index, properties,
            self._artifact_metadata(artifact, event, contexts),
        )  # fmt: skip

    def _input(self, event: "mlmd.Event", contexts: Sequence["mlmd.Context"]) -> Input:
        [artifact] = self._store.get_artifacts_by_id([event.artifact_id])
        key, index = _steps(event)
        uri = self._location.relative(artifact.uri)
        metadata = self._artifact_metadata(artifact, event, contexts)
        made = self._recorded(artifact)
        if made is None:
            found = describe_output(self._location, uri, key, artifact.type, index)
            return Input(key, uri, artifact.type, found.digest, index, found.is_file, metadata=metadata)
        record = artifact.custom_properties[RECORD_PROPERTY].string_value
        sha256 = self._location.sha256(record)
        return Input(key, uri, artifact.type, made.digest, index, made.is_file, record, sha256, metadata)

    def _mark(self, artifact: "mlmd.Artifact", digest: str, path: str) -> None:
        wanted = {DIGEST_PROPERTY: digest, RECORD_PROPERTY: path}
        if all(artifact.custom_properties[key].string_value == value for key, value in wanted.items()):
            return
        for key, value in wanted.items():
            artifact.custom_properties[key].string_value = value
        self._store.put_artifacts([artifact])

    def _recorded(self, artifact: "mlmd.Artifact") -> Output | None:
        """Return the artifact as described by the record that made it, or None."""
        if RECORD_PROPERTY not in artifact.custom_properties:
            return None
        statement = self._read(artifact.custom_properties[RECORD_PROPERTY].string_value)
        uri = self._location.relative(artifact.uri)
        return next((output for output in statement.outputs if output.uri == uri), None) if statement else None

    def _record_producer(self, artifact: "mlmd.Artifact") -> Output | None:
        """Write the missing record of the execution that made an artifact."""
        made = [
            event.execution_id
            for event in self._store.get_events_by_artifact_ids([artifact.id])
            if event.type in (self._pb.Event.OUTPUT, self._pb.Event.DECLARED_OUTPUT)
        ]
        for execution in self._store.get_executions_by_id(made):
            if execution.last_known_state == self._pb.Execution.COMPLETE:
                self.write(execution.id, late=True)
                [artifact] = self._store.get_artifacts_by_id([artifact.id])
                return self._recorded(artifact)
        return None

    def _read(self, path: str) -> Statement | None:
        """Read a record; return None if it is missing or broken."""
        try:
            raw = self._location.read(path)
            statement = parse_statement(raw, path)
        except (OSError, LineageError):
            return None
        return statement if is_sealed(raw, statement) else None

    def _artifact_metadata(
        self, artifact: "mlmd.Artifact", event: "mlmd.Event", contexts: Sequence["mlmd.Context"]
    ) -> dict[str, Any]:
        [kind] = self._store.get_artifact_types_by_id([artifact.type_id])
        attributed = {context.id for context in self._store.get_contexts_by_artifact(artifact.id)}
        return {
            **self._json.artifact_to_json(artifact, kind),
            "event": self._json.event_to_json(event),
            "contexts": sorted(_label(context) for context in contexts if context.id in attributed),
        }

    def _context(self, context: "mlmd.Context") -> dict[str, Any]:
        [kind] = self._store.get_context_types_by_id([context.type_id])
        parents = self._store.get_parent_contexts_by_context(context.id)
        return self._json.context_to_json(context, kind, sorted(map(_label, parents)))


def _label(context: "mlmd.Context") -> str:
    """Return a context's type and name, which identify it."""
    return f"{context.type}:{context.name}"


def _steps(event: "mlmd.Event") -> tuple[str, int]:
    key = next((step.key for step in event.path.steps if step.WhichOneof("value") == "key"), "artifact")
    index = next((step.index for step in event.path.steps if step.WhichOneof("value") == "index"), 0)
    return key, index
