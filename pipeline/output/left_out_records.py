# SPDX-License-Identifier: Apache-2.0
"""Writes the record of a node whose run was killed after the node had finished and before its record was written.

TFX publishes an execution in ML Metadata, and the record is made of what is there; a kill between the two leaves
a finished execution without a record, whose outputs the next run takes from the cache. Only executions that are newer
than every record can have been left out in this way: an older one without a record had one that was deleted, and stays
missing.
"""

from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.lineage.records.provenance import write_record
from learn2compress.pipeline.output.leftovers import FINISHED
from learn2compress.schemas.provenance import FOLDER, SUFFIX

_WRITTEN = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT)


def write_left_out_records(store: MetadataStore, root: Path) -> list[str]:
    """Write the records that a kill left out.

    Args:
        store: ML Metadata store of the run.
        root: Pipeline root OUT/pipeline. Executions of other roots in the store are left alone.

    Returns:
        Paths of the records.

    Raises:
        LineageError: An output cannot be read.
    """
    numbers = [path.name.removesuffix(SUFFIX) for path in root.glob(f"*/{FOLDER}/*{SUFFIX}")]
    last = max((int(number) for number in numbers if number.isdigit()), default=0)
    newer = [one.id for one in store.get_executions() if one.id > last and one.last_known_state in FINISHED]
    written = []
    for execution in sorted(newer):
        if _is_of(store, execution, root):
            written.append(write_record(store, execution, root))
    return written


def _is_of(store: MetadataStore, execution: int, root: Path) -> bool:
    """Tell whether all outputs of an execution, of which there is at least one, are there and below a root."""
    events = [event for event in store.get_events_by_execution_ids([execution]) if event.type in _WRITTEN]
    artifacts = store.get_artifacts_by_id([event.artifact_id for event in events])
    places = [Path(artifact.uri) for artifact in artifacts]
    return bool(places) and all(root in place.parents and place.exists() for place in places)
