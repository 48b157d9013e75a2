# SPDX-License-Identifier: Apache-2.0
"""The provenance record of a step on a cluster, where no store of ours knows the execution.

The same record as a local run's, made from what the step was given and left. It lies in the step's own output
`provenance`, and is found again by the next step through the metadata of each artifact: its digest, the record's place
below the run's folder, and the record's own digest. What an earlier run made, and the cluster took for this one, is
named from the run's folder as well: `../<earlier run>/…`.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learn2compress.kubeflow.local_copies import exact_numbers, to_local, without_local_paths
from learn2compress.lineage.records import mlmd_messages as mlmd_json
from learn2compress.lineage.records.provenance import (
    DIGEST_PROPERTY,
    KUBEFLOW,
    RECORD_PROPERTY,
    describe_output,
    record_of,
    save_record,
)
from learn2compress.schemas.errors import ClusterError
from learn2compress.schemas.provenance import SUFFIX, Input, Output, timestamp
from learn2compress.storage.location import Location, open_location

RECORD_DIGEST_PROPERTY = "provenance_sha256"
Json = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a step is.

    Attributes:
        node: Its name.
        run: The run's id.
        pipeline: The pipeline's name.
        home: Address of the pipeline's folder, in which each run has its own.
        folder: Address of the folder for the record.
    """

    node: str
    run: str
    pipeline: str
    home: str
    folder: str

    @classmethod
    def of(cls, node: str, provenance_uri: str) -> "Place":
        """Reads it from the address of the step's record: ROOT/PIPELINE/RUN/NODE/…/provenance.

        Raises:
            ClusterError: The address has no such parts.
        """
        parts = provenance_uri.partition("?")[0].rstrip("/").split("/")
        at = max((i for i, part in enumerate(parts[:-1]) if part == node), default=0)
        if at < 2:
            raise ClusterError(f"the output of {node} must lie at ROOT/PIPELINE/RUN/{node}/…; got {provenance_uri}.")
        return cls(node, parts[at - 1], parts[at - 2], "/".join(parts[: at - 1]), "/".join(parts))

    @property
    def location(self) -> Location:
        """The run's folder, as far as the launcher has copied it here."""
        return open_location(to_local(f"{self.home}/{self.run}"))

    def relative(self, run: str, path: str) -> str:
        """Writes a path of some run's folder as seen from this run's."""
        return path if run == self.run else f"../{run}/{path}"


def write_step_record(
    place: Place,
    inputs: Mapping[str, Json],
    input_types: Mapping[str, str],
    outputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    started: float,
) -> dict[str, Json]:
    """Write the record.

    Args:
        place: Where the step is.
        inputs: The artifact of each input, as the launcher describes it: uri, metadata.
        input_types: The type of each.
        outputs: The tfx artifact of each output.
        parameters: As the executor had them, but for locations, which are those the user gave.
        started: When the step began, in seconds since 1970.

    Returns:
        What each output's metadata gets in addition.
    """
    location = place.location
    path = f"{location.relative(to_local(place.folder))}/{place.run}{SUFFIX}"
    described = [_describe(location, key, artifact, path) for key, artifact in sorted(outputs.items())]
    statement = record_of(
        place.node,
        [_input(location, place, key, inputs[key], input_types[key]) for key in sorted(inputs)],
        described,
        parameters,
        pipeline=place.pipeline,
        run=place.run,
        execution=place.run,
        path=path,
        builder=KUBEFLOW,
        started=timestamp(int(started * 1000)),
        finished=timestamp(int(time.time() * 1000)),
        invocation=f"{place.run}/{place.node}",
    )
    saved = Path(save_record(location, statement))
    sha256 = hashlib.sha256(saved.read_bytes()).hexdigest()
    return {
        output.key: {
            **exact_numbers(output.properties),
            DIGEST_PROPERTY: output.digest,
            RECORD_PROPERTY: path,
            RECORD_DIGEST_PROPERTY: sha256,
        }
        for output in described
    }


def _describe(location: Location, key: str, artifact: Any, path: str) -> Output:
    found = describe_output(location, artifact.uri, key, artifact.type_name)
    properties = without_local_paths(mlmd_json.properties_to_json(artifact.mlmd_artifact))
    properties |= {DIGEST_PROPERTY: found.digest, RECORD_PROPERTY: path}
    return Output(key, found.uri, found.type, found.digest, found.files, 0, properties)


def _input(location: Location, place: Place, key: str, artifact: Json, kind: str) -> Input:
    metadata = artifact.get("metadata", {})
    uri = artifact["uri"].partition("?")[0]
    run, _, inside = uri.removeprefix(f"{place.home}/").partition("/")
    if DIGEST_PROPERTY in metadata:
        digest, is_file = metadata[DIGEST_PROPERTY], False
    else:
        found = describe_output(location, to_local(uri), key, kind)
        digest, is_file = found.digest, found.is_file
    record, sha256 = metadata.get(RECORD_PROPERTY), metadata.get(RECORD_DIGEST_PROPERTY)
    if not uri.startswith(f"{place.home}/"):
        return Input(key, uri, kind, digest, 0, is_file)
    return Input(
        key, place.relative(run, inside), kind, digest, 0, is_file, record and place.relative(run, record), sha256
    )
