# SPDX-License-Identifier: Apache-2.0
"""What a killed command leaves in an output folder, which is unfinished and not tampered with."""

import json
from pathlib import Path

from learn2compress.lineage.graph import Graph
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.files.whole import is_aside
from learn2compress.schemas.provenance import LOCK_FILE, SUFFIX


def interrupted_command(output: Path) -> str | None:
    """Describe the command that an output folder's lock names, which is at work or was killed; None if it has ended."""
    try:
        told = json.loads((output / LOCK_FILE).read_text(encoding="utf-8"))
        return f"learn2compress {told['command']} of {told['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def unrecorded_executions(graph: Graph, database: Path) -> set[str]:
    """Return the ids of the executions that a metadata store holds and no record describes.

    Args:
        graph: The records.
        database: The SQLite file of the store, which need not exist.
    """
    if not database.is_file():
        return set()
    from learn2compress.lineage.mlmd.store import open_sqlite

    try:
        known = {str(execution.id) for execution in open_sqlite(database).get_executions()}
    except LineageError:
        return set()
    return known - {entry.path.rsplit("/", 1)[-1].removesuffix(SUFFIX) for entry in graph.index.entries()}


def is_unfinished(path: str, executions: set[str]) -> bool:
    """Whether a file was being written, or belongs to one of some executions.

    Args:
        path: Path of the file; of an execution's file <node>/<key>/<execution>/….
        executions: Ids of executions.
    """
    *folders, name = path.split("/")
    return is_aside(name) or any(folder in executions for folder in folders[2:])
