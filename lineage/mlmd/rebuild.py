# SPDX-License-Identifier: Apache-2.0
"""Rebuilds an ML Metadata store from the provenance records alone: types, artifacts, executions, events, contexts.

Nodes are inserted in the order of their former ids, so that they get the same ids again unless some are missing: a
failed execution has no outputs and therefore no record. Records from a cluster, which were never in a local store, get
the contexts that TFX would have created. URIs point to where the artifacts are now.

ML Metadata sets creation times itself. Since the target is a SQLite file that this module creates, the recorded times
are written into it afterwards.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.lineage.graph import Graph, unique_problems
from learn2compress.lineage.index import Entry
from learn2compress.lineage.records import mlmd_messages as mlmd_json
from learn2compress.lineage.records.output_record import UNSTORED
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Problem, RebuildReport, status_of
from learn2compress.schemas.provenance import Input, Output, Statement

Json = dict[str, Any]
Key = tuple[Any, ...]


def rebuild_metadata(graph: Graph, database: Path) -> RebuildReport:
    """Build a SQLite store from the records.

    Args:
        graph: The records.
        database: Path of the new file.

    Raises:
        LineageError: The file exists already, or cannot be written.
    """
    if database.exists():
        raise LineageError(f"{database} must be a new file; it exists already. Choose another name, or move it away.")
    if not database.absolute().parent.is_dir():
        raise LineageError(f"{database} must lie in an existing folder. Create {database.parent} first.")
    collected = Collection(graph)
    for entry in graph.index.entries():
        collected.add(entry)
    fresh = database.with_name(f".{database.name}.new")
    fresh.unlink(missing_ok=True)
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(fresh)
    builder = _Builder(MetadataStore(config), graph)
    try:
        builder.build(collected)
        del builder.store
        _write_times(fresh, builder.times)
        fresh.replace(database)
    finally:
        fresh.unlink(missing_ok=True)
    problems = unique_problems(collected.problems)
    return RebuildReport(
        status=status_of(problems),
        location=str(graph.home),
        database=str(database),
        artifacts=len(collected.artifacts),
        executions=len(collected.executions),
        events=len(builder.events),
        contexts=len(collected.contexts),
        problems=problems,
    )


@dataclass
class _Artifact:
    """An artifact, as described by the latest record that mentions it."""

    uri: str
    type: str
    metadata: Json
    properties: Json
    made: bool  # described by a record that made it, not only by one that read it


@dataclass
class _Execution:
    """A record's execution and the artifacts that it is connected to."""

    entry: Entry
    statement: Statement
    metadata: Json
    contexts: list[Key]
    links: list[tuple[Key, Json, list[str]]]  # artifact, event, labels of the contexts it is attributed to


@dataclass
class Collection:
    """The contents of the records, each artifact, execution and context once."""

    graph: Graph
    artifacts: dict[Key, _Artifact] = field(default_factory=dict)
    executions: dict[Key, _Execution] = field(default_factory=dict)
    contexts: dict[Key, Json] = field(default_factory=dict)
    problems: list[Problem | None] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Add a record."""
        try:
            statement = self.graph.statement(entry)
        except LineageError as error:
            self.problems.append(Problem(kind="tampered", where=entry.path, reason=str(error)))
            return
        if statement.internal.get(UNSTORED):
            return
        metadata = statement.internal.get("ml_metadata") or _invented_execution(statement)
        contexts = [self._context(context) for context in metadata["contexts"]]
        links = []
        for output in statement.outputs:
            links.append(self._artifact(entry, output, output.metadata, dict(output.properties), True))
        for read in self.graph.index.inputs_of(entry.id):
            self.problems.append(self.graph.source(entry, read)[1])
        for one in statement.inputs:
            links.append(self._artifact(entry, one, one.metadata, {}, False))
        self.executions[entry.path, statement.invocation] = _Execution(entry, statement, metadata, contexts, links)

    def _context(self, plain: Json) -> Key:
        key = (plain["type"]["name"], plain["name"])
        if key not in self.contexts or self.contexts[key].get("updated", 0) < plain.get("updated", 0):
            self.contexts[key] = plain
        return key

    def _artifact(
        self, entry: Entry, one: Output | Input, metadata: Mapping[str, Any] | None, properties: Json, made: bool
    ) -> tuple[Key, Json, list[str]]:
        uri = self.graph.uri(entry, one.uri)
        plain = dict(metadata) if metadata else _invented_artifact(one, made)
        key = (plain["id"], plain["created"]) if metadata else (uri, one.digest)
        known = self.artifacts.get(key)
        if known is None or (made and (not known.made or known.metadata["updated"] <= plain["updated"])):
            self.artifacts[key] = _Artifact(uri, one.type, plain, properties, made)
        return key, plain["event"], plain["contexts"]


class _Builder:
    """Inserts the collected contents into a store."""

    def __init__(self, store: MetadataStore, graph: Graph) -> None:
        self.store = store
        self.graph = graph
        self.types: dict[tuple[type, str], int] = {}
        self.times: list[tuple[str, int, int, int]] = []
        self.events: list[mlmd.Event] = []

    def build(self, collected: Collection) -> None:
        """Insert everything."""
        self._put_types(collected)
        contexts = self._put_contexts(collected.contexts)
        artifacts = self._put_artifacts(collected.artifacts)
        executions = self._put_executions(collected.executions)
        attributions, associations = set(), set()
        for key, execution in collected.executions.items():
            for artifact, event, labels in execution.links:
                self.events.append(mlmd_json.event_from_json(event, artifacts[artifact], executions[key]))
                attributions |= {(artifacts[artifact], contexts[tuple(label.split(":", 1))]) for label in labels}
            associations |= {(executions[key], contexts[context]) for context in execution.contexts}
        self.events.sort(key=lambda event: (event.milliseconds_since_epoch, event.execution_id, event.artifact_id))
        self.store.put_events(self.events)
        self.store.put_attributions_and_associations(
            [mlmd.Attribution(artifact_id=artifact, context_id=context) for artifact, context in sorted(attributions)],
            [mlmd.Association(execution_id=one, context_id=context) for one, context in sorted(associations)],
        )

    def _put_types(self, collected: Collection) -> None:
        # Types are inserted in the order of their ids, because TFX's cache keys contain these ids.
        found: dict[tuple[type, str], Json] = {}
        for message, nodes in (
            (mlmd.ContextType, collected.contexts.values()),
            (mlmd.ArtifactType, (one.metadata for one in collected.artifacts.values())),
            (mlmd.ExecutionType, (one.metadata for one in collected.executions.values())),
        ):
            for plain in nodes:
                found.setdefault((message, plain["type"]["name"]), plain["type"])
        put = {
            mlmd.ContextType: self.store.put_context_type,
            mlmd.ArtifactType: self.store.put_artifact_type,
            mlmd.ExecutionType: self.store.put_execution_type,
        }
        for (message, name), plain in sorted(found.items(), key=lambda item: item[1].get("id", 0)):
            self.types[message, name] = put[message](mlmd_json.type_from_json(plain, message))

    def _put_contexts(self, contexts: dict[Key, Json]) -> dict[Key, int]:
        ids = {}
        for key, plain in sorted(contexts.items(), key=lambda item: _rank(item[1])):
            kind = self.types[mlmd.ContextType, plain["type"]["name"]]
            context = mlmd.Context(type_id=kind, name=plain["name"], external_id=plain.get("external_id"))
            mlmd_json.fill_properties(context, plain.get("properties", {}), plain.get("declared", []))
            [ids[key]] = self.store.put_contexts([context])
            self._keep_times("Context", ids[key], plain)
        parents = {
            (ids[key], ids[tuple(label.split(":", 1))])
            for key, plain in contexts.items()
            for label in plain.get("parents", [])
            if tuple(label.split(":", 1)) in ids
        }
        if parents:
            self.store.put_parent_contexts(
                [mlmd.ParentContext(child_id=child, parent_id=parent) for child, parent in sorted(parents)]
            )
        return ids

    def _put_artifacts(self, artifacts: dict[Key, _Artifact]) -> dict[Key, int]:
        ids = {}
        for key, one in sorted(artifacts.items(), key=lambda item: _rank(item[1].metadata)):
            plain = one.metadata
            artifact = mlmd.Artifact(
                type_id=self.types[mlmd.ArtifactType, plain["type"]["name"]],
                uri=self.graph.home.join(one.uri),
                name=plain.get("name"),
                external_id=plain.get("external_id"),
                state=mlmd.Artifact.State.Value(plain["state"]),
            )
            mlmd_json.fill_properties(artifact, one.properties, plain["declared"])
            [ids[key]] = self.store.put_artifacts([artifact])
            self._keep_times("Artifact", ids[key], plain)
        return ids

    def _put_executions(self, executions: dict[Key, _Execution]) -> dict[Key, int]:
        ids = {}
        for key, one in sorted(executions.items(), key=lambda item: _rank(item[1].metadata)):
            plain = one.metadata
            execution = mlmd.Execution(
                type_id=self.types[mlmd.ExecutionType, plain["type"]["name"]],
                name=plain.get("name"),
                external_id=plain.get("external_id"),
                last_known_state=mlmd.Execution.State.Value(plain["state"]),
            )
            mlmd_json.fill_properties(execution, one.statement.parameters, plain["declared"])
            [ids[key]] = self.store.put_executions([execution])
            self._keep_times("Execution", ids[key], plain)
        return ids

    def _keep_times(self, table: str, id: int, plain: Json) -> None:
        if plain.get("created"):
            self.times.append((table, plain["created"], plain["updated"], id))


def _write_times(database: Path, times: Iterable[tuple[str, int, int, int]]) -> None:
    with sqlite3.connect(database) as connection:
        for table, created, updated, id in times:
            connection.execute(
                f"UPDATE {table} SET create_time_since_epoch = ?, last_update_time_since_epoch = ? WHERE id = ?",
                (created, updated, id),
            )
    connection.close()


def _rank(plain: Json) -> tuple[int, int]:
    """Return the sort key of a node: its former id; nodes from different stores are ordered by time."""
    return plain["id"], plain.get("created", 0)


def _invented_execution(statement: Statement) -> Json:
    """Describe an execution that was never in ML Metadata as TFX would have stored it."""
    time = _milliseconds(statement.finished)
    labels = [("pipeline", statement.pipeline), ("pipeline_run", statement.run)]
    labels += [("node", f"{statement.pipeline}.{statement.node}")]
    contexts: list[Json] = [{"id": 0, "type": {"name": kind}, "name": name} for kind, name in labels if name]
    for context in contexts:
        if context["type"]["name"] == "pipeline_run":
            context["parents"] = [f"pipeline:{statement.pipeline}"]
    return {
        "id": 0,
        "created": _milliseconds(statement.started),
        "updated": time,
        "name": statement.invocation,
        "state": "CACHED" if statement.cached else "COMPLETE",
        "declared": [],
        "type": {"name": statement.node},
        "contexts": contexts,
    }


def _invented_artifact(one: Output | Input, made: bool) -> Json:
    return {
        "id": 0,
        "created": 0,
        "updated": 0,
        "state": "LIVE",
        "declared": [],
        "type": {"name": one.type},
        "contexts": [],
        "event": {"type": "OUTPUT" if made else "INPUT", "steps": [one.key, one.index], "time": 0},
    }


def _milliseconds(time: str | None) -> int:
    return 0 if time is None else int(datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() * 1000)
