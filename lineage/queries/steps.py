# SPDX-License-Identifier: Apache-2.0
"""Describes an execution for the results of lineage queries."""

from datetime import datetime

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import Entry
from learn2compress.schemas.lineage import ArtifactView, Step
from learn2compress.schemas.provenance import Statement


def describe_step(graph: Graph, entry: Entry, statement: Statement, inputs: list[ArtifactView]) -> Step:
    """Describe an execution.

    Args:
        graph: The records.
        entry: Index entry of the execution's record.
        statement: The record.
        inputs: The execution's inputs, with the records that made them.
    """
    return Step(
        node=statement.node,
        record=entry.path,
        run=statement.run,
        pipeline=statement.pipeline,
        execution=str(statement.internal.get("execution", "")),
        started=statement.started,
        finished=statement.finished,
        seconds=seconds_between(statement.started, statement.finished),
        cached=statement.cached,
        seed=statement.internal.get("seed"),
        parameters=statement.parameters,
        code=statement.internal.get("code", {}),
        packages=statement.packages,
        platform=statement.internal.get("platform"),
        builder=statement.predicate.run_details.builder.id,
        inputs=inputs,
        outputs=[
            ArtifactView(
                key=output.name,
                uri=graph.uri(entry, output.uri),
                type=output.type,
                digest=output.digest,
                files=len(output.files),
                bytes=sum(file.bytes for file in output.files.values()),
                properties=dict(output.properties),
            )
            for output in statement.outputs
        ],
    )


def seconds_between(started: str | None, finished: str | None) -> float | None:
    """Compute the seconds between two times, or return None if one of them is unknown."""
    if not started or not finished:
        return None
    try:
        span = datetime.fromisoformat(finished.replace("Z", "+00:00")) - datetime.fromisoformat(
            started.replace("Z", "+00:00")
        )
    except (ValueError, TypeError):  # a TypeError if only one of them has a time zone
        return None
    return round(span.total_seconds(), 3)
