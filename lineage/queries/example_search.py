# SPDX-License-Identifier: Apache-2.0
"""Finds one image in the shards of a data set, by its id or by its pixels, without TensorFlow.

`DataManifest` defines an id: the first 16 hexadecimal digits of the SHA-256 of an image's shape and pixels, as they are
in its source. In older data sets it is of the image in the data set's shape; ids of both kinds are therefore searched
for. In a serialized tf.Example the id is a feature with one value of 16 bytes, preceded by these bytes:

    0a 12 (bytes_list of 18 bytes) 0a 10 (value of 16 bytes) <id>
"""

import posixpath
from pathlib import Path
from typing import Any

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import Entry
from learn2compress.schemas.errors import DataError, LineageError
from learn2compress.schemas.lineage import Problem

_ANNOUNCED = b"\n\x12\n\x10"


def find_example(graph: Graph, entry: Entry, output: str, identity: str) -> tuple[list[str], Problem | None]:
    """Search the data set that a record made for an example.

    Args:
        graph: The records.
        entry: Index entry of the record that made the data set.
        output: Name of the data set among the record's outputs.
        identity: The example's id, 16 hexadecimal digits.

    Returns:
        The splits that hold the example, and the problem that kept part of the data set from being searched, or None.
    """
    from learn2compress.data.record_files import read_records

    uri, manifest, problem = _manifest(graph, entry, output)
    if manifest is None:
        return [], problem
    needle = _ANNOUNCED + identity.encode()
    splits = []
    for split, shards in manifest["shards"].items():
        for name in _likely_first(shards, identity):
            place = posixpath.join(uri, f"Split-{split}", name)
            try:
                with graph.home.as_local(place) as path:
                    if any(needle in record for record in read_records(path)):
                        splits.append(split)
                        break
            except (OSError, DataError) as error:
                reason = f"it cannot be searched for example {identity}: {error}"
                problem = Problem(kind="incomplete", where=place, reason=reason)
    return splits, problem


def ids_of_image(graph: Graph, entry: Entry, output: str, path: Path) -> list[str]:
    """Compute the ids that a picture may have in a data set, the likeliest first; none if the file is not a picture."""
    from learn2compress.modalities import modality_of
    from learn2compress.schemas.manifests import Task

    _, manifest, _ = _manifest(graph, entry, output)
    if manifest is None:
        return []
    try:
        task = Task.model_validate(manifest["task"])
        records = modality_of(task).records(task)
        raw = records.read_file(path)
        return list(dict.fromkeys(records.digest(form)[:8].hex() for form in (raw, records.fit(raw))))
    except ValueError:
        return []


def _manifest(graph: Graph, entry: Entry, output: str) -> tuple[str, dict[str, Any] | None, Problem | None]:
    try:
        made = next(one for one in graph.statement(entry).outputs if one.name == output)
    except LineageError as error:
        return "", None, Problem(kind="tampered", where=entry.path, reason=str(error))
    manifest, problem = graph.evidence(entry, made, "manifest.json")
    uri = graph.uri(entry, made.uri)
    if manifest is None and problem is None:
        reason = "it has no manifest.json that lists its shards, so it cannot be searched for examples"
        problem = Problem(kind="note", where=uri, reason=reason)
    return uri, manifest, problem


def _likely_first(shards: list[str], identity: str) -> list[str]:
    """Order the shards so that the most likely one is first: examples are distributed over the shards by id."""
    likely = int(identity, 16) % len(shards) if shards else 0
    return shards[likely : likely + 1] + shards[:likely] + shards[likely + 1 :]
