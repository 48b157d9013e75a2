# SPDX-License-Identifier: Apache-2.0
"""Compares an ML Metadata store with the provenance records: executions, artifacts and events, one by one.

The records are the evidence, not the database. What the database lacks can be rebuilt and is only noted; a value that
differs from the records is a sign that one of the two was tampered with.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.mlmd.rebuild import Collection
from learn2compress.lineage.mlmd.store import ROLLED_BACK, open_sqlite, recover_sqlite
from learn2compress.lineage.records import mlmd_messages as mlmd_json
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Problem

_FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


def check_metadata(graph: Graph, database: Path, name: str) -> list[Problem]:
    """Compare a SQLite store with the records.

    Args:
        graph: The records.
        database: The SQLite file.
        name: Name of the database in the reported problems.

    Returns:
        The differences.
    """
    try:
        recovered = recover_sqlite(database)
    except LineageError as error:
        return [Problem(kind="incomplete", where=name, reason=str(error))]
    problems = [Problem(kind="note", where=name, reason=ROLLED_BACK)] if recovered else []
    try:
        store = open_sqlite(database)
    except LineageError as error:
        return [*problems, Problem(kind="tampered", where=name, reason=str(error))]
    collected = Collection(graph)
    for entry in graph.index.entries():
        collected.add(entry)
    problems += [Problem(kind=kind, where=name, reason=reason) for kind, reason in _compare(store, collected)]
    return problems


def _compare(store: Any, collected: Collection) -> Iterator[tuple[str, str]]:
    kinds = {kind.id: kind for kind in (*store.get_artifact_types(), *store.get_execution_types())}
    artifacts = {artifact.id: artifact for artifact in store.get_artifacts()}
    executions = {execution.id: execution for execution in store.get_executions()}
    events: dict[int, set[str]] = {}
    for event in store.get_events_by_execution_ids(list(executions)) if executions else []:
        events.setdefault(event.execution_id, set()).add(_line(event.artifact_id, mlmd_json.event_to_json(event)))
    matched = set()
    for one in collected.executions.values():
        there = executions.get(one.metadata["id"])
        if there is None or there.name != one.metadata.get("name", ""):
            yield "note", f"it lacks the execution of {one.entry.path}; rebuild-metadata creates a database that has it"
            continue
        matched.add(there.id)
        plain = mlmd_json.execution_to_json(there, kinds[there.type_id])
        if {**plain, "contexts": one.metadata["contexts"]} != one.metadata:
            yield "tampered", f"its entry for execution {there.id} differs from {one.entry.path}"
        elif mlmd_json.properties_to_json(there) != one.statement.parameters:
            yield "tampered", f"its parameters of execution {there.id} differ from {one.entry.path}"
        linked = {_line(key[0], event) for key, event, _ in one.links}
        if events.get(there.id, set()) != linked:
            yield "tampered", f"its events of execution {there.id} differ from {one.entry.path}"
    for execution in executions.values():
        if execution.last_known_state in _FINISHED and execution.id not in matched:
            yield "incomplete", f"it holds a finished execution {execution.id} that has no record"
    for recorded in collected.artifacts.values():
        there = artifacts.get(recorded.metadata["id"])
        if there is None or there.create_time_since_epoch != recorded.metadata["created"] or not recorded.made:
            continue
        if mlmd_json.properties_to_json(there) != recorded.properties:
            yield "tampered", f"its properties of artifact {there.id} ({recorded.uri}) differ from the record"
        elif not there.uri.endswith(recorded.uri) or kinds[there.type_id].name != recorded.type:
            yield "tampered", f"its URI or type of artifact {there.id} ({recorded.uri}) differs from the record"


def _line(artifact: int, event: dict[str, Any]) -> str:
    return f"{artifact} {json.dumps(event, sort_keys=True)}"
