# SPDX-License-Identifier: Apache-2.0
"""Does ML Metadata say the same as the records? Executions, artifacts and events are compared one by one.

The records are the evidence and the database is not: what it lacks can be rebuilt, and is only noted; what it says
otherwise is a sign of tampering with one of the two.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.mlmd.rebuild import Collection
from learn2compress.lineage.mlmd.store import open_sqlite
from learn2compress.lineage.records import mlmd_messages as mlmd_json
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Problem

_FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


def check_metadata(graph: Graph, database: Path, name: str) -> list[Problem]:
    """Compare a SQLite store with the records.

    Args:
        name: What to call it in a problem.
    """
    try:
        store = open_sqlite(database)
    except LineageError as error:
        return [Problem(kind="tampered", where=name, reason=str(error))]
    collected = Collection(graph)
    for entry in graph.index.entries():
        collected.add(entry)
    return [Problem(kind=kind, where=name, reason=reason) for kind, reason in _compare(store, collected)]


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
            yield "note", f"it lacks the execution of {one.entry.path}; rebuild-metadata makes a database that has it"
            continue
        matched.add(there.id)
        plain = mlmd_json.execution_to_json(there, kinds[there.type_id])
        if {**plain, "contexts": one.metadata["contexts"]} != one.metadata:
            yield "tampered", f"it describes execution {there.id} otherwise than {one.entry.path}"
        elif mlmd_json.properties_to_json(there) != one.statement.parameters:
            yield "tampered", f"it has other parameters for execution {there.id} than {one.entry.path}"
        linked = {_line(key[0], event) for key, event, _ in one.links}
        if events.get(there.id, set()) != linked:
            yield "tampered", f"it has other events for execution {there.id} than {one.entry.path}"
    for execution in executions.values():
        if execution.last_known_state in _FINISHED and execution.id not in matched:
            yield "incomplete", f"it knows a finished execution {execution.id} that no record is of"
    for one in collected.artifacts.values():
        there = artifacts.get(one.metadata["id"])
        if there is None or there.create_time_since_epoch != one.metadata["created"] or not one.made:
            continue
        if mlmd_json.properties_to_json(there) != one.properties:
            yield "tampered", f"it has other properties for artifact {there.id} ({one.uri}) than its record"
        elif not there.uri.endswith(one.uri) or kinds[there.type_id].name != one.type:
            yield "tampered", f"it has another URI or type for artifact {there.id} ({one.uri}) than its record"


def _line(artifact: int, event: dict[str, Any]) -> str:
    return f"{artifact} {json.dumps(event, sort_keys=True)}"
