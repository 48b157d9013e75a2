# SPDX-License-Identifier: Apache-2.0
"""Reads our steps from a cluster's ML Metadata, in Kubeflow Pipelines' own layout.

    context     system.Pipeline             the pipeline's name
    context     system.PipelineRun          the run's id; its `pipeline_root` is ROOT/PIPELINE/RUN
    execution   system.ContainerExecution   a step, in both contexts; its node is `task_name`, its parameters are the
                                            fields of `inputs`, as the run was given them
    execution   system.DAGExecution         the run as a whole, which has no information of its own
    artifact    the type's title            the step's metadata as custom properties; a number is a double, a value
                                            with fields is a field named `struct` in a struct
    event       INPUT, OUTPUT               the only step of the path is the key of the input or output

Source: backend/src/v2/metadata/client.go and converter.go of kubeflow/pipelines. A step is ours if its outputs name
their provenance record. A step whose result comes from an earlier run (CACHED) has the artifacts of that run and no
record of its own, and is left out.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from ml_metadata import MetadataStore, errors
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.kubeflow.records.step_record import RECORD_DIGEST_PROPERTY
from learn2compress.kubeflow.spec.run_parameters import OPTIONAL, UNSET
from learn2compress.lineage.mlmd.store import describe_address, open_store
from learn2compress.lineage.records.mlmd_messages import properties_to_json
from learn2compress.lineage.records.provenance import DIGEST_PROPERTY, RECORD_PROPERTY
from learn2compress.schemas.errors import ConfigError, LineageError
from learn2compress.schemas.provenance import timestamp
from learn2compress.storage.addresses import fsspec_url

STEP_TYPE = "system.ContainerExecution"
RUN_TYPE = "system.PipelineRun"
PIPELINE_TYPE = "system.Pipeline"
# Properties that the launcher adds to an artifact's metadata, and the record's digest, which the record cannot hold.
_NOT_THE_STEPS = ("display_name", "store_session_info", RECORD_DIGEST_PROPERTY)
_BATCH = 100
_SECONDS = 30.0


@dataclass(frozen=True)
class ClusterArtifact:
    """An artifact, as an input or output of a step.

    Attributes:
        key: The input's or output's name.
        uri: Its address, as fsspec knows it.
        type: Name of its type.
        digest: Digest of its tree of files.
        record: Path of the record of the step that made it, relative to the folder of the step's run.
        record_sha256: SHA-256 of the file of the record.
        properties: Metadata that the step wrote.
    """

    key: str
    uri: str
    type: str
    digest: str
    record: str
    record_sha256: str
    properties: dict[str, Any]


@dataclass(frozen=True)
class ClusterStep:
    """A step that succeeded.

    Attributes:
        node: Its name.
        run: The run's id.
        pipeline: The pipeline's name.
        folder: Address of the run's folder.
        parameters: Values that were passed to the run; the step itself determines digests and the code's version.
        started: ISO 8601, UTC.
        finished: ISO 8601, UTC.
    """

    node: str
    run: str
    pipeline: str
    folder: str
    parameters: dict[str, Any]
    inputs: list[ClusterArtifact]
    outputs: list[ClusterArtifact]
    started: str
    finished: str

    @property
    def record(self) -> str:
        """Path of its record, relative to the run's folder."""
        return self.outputs[0].record

    @property
    def record_sha256(self) -> str:
        """SHA-256 of the file of its record."""
        return self.outputs[0].record_sha256


def read_steps(address: str) -> list[ClusterStep]:
    """Read our steps from a cluster's ML Metadata.

    Args:
        address: HOST:PORT of its gRPC service.

    Returns:
        Oldest first.

    Raises:
        ConfigError: The address is not HOST:PORT.
        LineageError: The service cannot be reached, or holds no step of ours.
    """
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--metadata-grpc must be HOST:PORT; got {address}. A cluster's service listens on 8080.")
    connection = mlmd.MetadataStoreClientConfig(host=host, port=int(port), client_timeout_sec=_SECONDS)
    store, name = open_store(connection), describe_address(connection)
    try:
        steps = list(_steps(store))
    except errors.StatusError as error:
        raise LineageError(f"{name} must respond to queries; {error}. Try again.") from error
    if not steps:
        raise LineageError(
            f"{name} must hold steps of learn2compress; it holds none. Check the address; newer clusters have no ML "
            "Metadata, and their runs are traced by the records alone (--at)."
        )
    return sorted(steps, key=lambda step: (step.started, step.run, step.node))


def _steps(store: MetadataStore) -> Iterator[ClusterStep]:
    kinds = {kind.id: kind.name for kind in store.get_artifact_types()}
    try:
        runs = store.get_contexts_by_type(RUN_TYPE)
    except errors.NotFoundError:
        return
    for run in runs:
        pipeline = next((one.name for one in store.get_parent_contexts_by_context(run.id)), "")
        folder = fsspec_url(run.custom_properties["pipeline_root"].string_value.partition("?")[0].rstrip("/"))
        found = [
            one
            for one in store.get_executions_by_context(run.id)
            if one.type == STEP_TYPE and one.last_known_state == mlmd.Execution.COMPLETE
        ]
        artifacts = _artifacts(store, [one.id for one in found], kinds)
        for execution in found:
            inputs, outputs = artifacts[execution.id, mlmd.Event.INPUT], artifacts[execution.id, mlmd.Event.OUTPUT]
            if not outputs:
                continue
            yield ClusterStep(
                node=execution.custom_properties["task_name"].string_value,
                run=run.name,
                pipeline=pipeline,
                folder=folder,
                parameters=_parameters(execution),
                inputs=inputs,
                outputs=outputs,
                started=timestamp(execution.create_time_since_epoch),
                finished=timestamp(execution.last_update_time_since_epoch),
            )


def _artifacts(
    store: MetadataStore, executions: list[int], kinds: Mapping[int, str]
) -> dict[tuple[int, int], list[ClusterArtifact]]:
    """The artifacts that name their record, by execution and type of event, sorted by key."""
    events: list[mlmd.Event] = []
    for start in range(0, len(executions), _BATCH):
        # For executions without any event, the service responds that nothing was found.
        with contextlib.suppress(errors.NotFoundError):
            events += store.get_events_by_execution_ids(executions[start : start + _BATCH])
    wanted = sorted({event.artifact_id for event in events})
    artifacts: dict[int, mlmd.Artifact] = {}
    for start in range(0, len(wanted), _BATCH):
        artifacts |= {one.id: one for one in store.get_artifacts_by_id(wanted[start : start + _BATCH])}
    found: dict[tuple[int, int], list[ClusterArtifact]] = defaultdict(list)
    for event in events:
        artifact = artifacts[event.artifact_id]
        properties = properties_to_json(artifact)
        if RECORD_PROPERTY not in properties or DIGEST_PROPERTY not in properties:
            continue
        found[event.execution_id, event.type].append(
            ClusterArtifact(
                key=event.path.steps[0].key,
                uri=fsspec_url(artifact.uri.partition("?")[0]),
                type=kinds[artifact.type_id].removeprefix("tfx."),
                digest=properties[DIGEST_PROPERTY],
                record=properties[RECORD_PROPERTY],
                record_sha256=properties.get(RECORD_DIGEST_PROPERTY, ""),
                properties={key: _plain(value) for key, value in properties.items() if key not in _NOT_THE_STEPS},
            )
        )
    for ordered in found.values():
        ordered.sort(key=lambda one: one.key)
    return found


def _parameters(execution: mlmd.Execution) -> dict[str, Any]:
    given = MessageToDict(execution.custom_properties["inputs"].struct_value)
    return {key: _plain(value) for key, value in given.items() if not (key in OPTIONAL and value == UNSET)}


def _plain(value: Any) -> Any:
    """Convert a value back to what the step wrote: every number is a double, and a struct is wrapped in another."""
    if isinstance(value, dict) and isinstance(value.get("struct"), dict) and set(value["struct"]) == {"struct"}:
        return value["struct"]
    return int(value) if isinstance(value, float) and value.is_integer() else value
