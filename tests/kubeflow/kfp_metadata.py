# SPDX-License-Identifier: Apache-2.0
"""A gRPC service of ML Metadata on a socket, and what Kubeflow's driver and launcher put into one.

The service is ML Metadata's own library behind gRPC: it handles the bytes of each call. What is
put in, and in which calls, follows `client.go` and `converter.go` in backend/src/v2/metadata of kubeflow/pipelines.
"""

from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2
from ml_metadata import MetadataStore
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as messages
from ml_metadata.proto import metadata_store_service_pb2_grpc as service

Json = dict[str, Any]
CODES = {code.value[0]: code for code in grpc.StatusCode}


@contextmanager
def serving(database: Path) -> Iterator[tuple[str, MetadataStore]]:
    """Serves a SQLite file; gives HOST:PORT, and a client."""
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    store = library.CreateMetadataStore(config.SerializeToString(), mlmd.MigrationOptions().SerializeToString())
    servicer = type("Servicer", (service.MetadataStoreServiceServicer,), {})
    for method in messages.DESCRIPTOR.services_by_name["MetadataStoreService"].methods:
        if hasattr(library, method.name):
            setattr(servicer, method.name, _forward(store, method))
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))  # SQLite is used by one thread
    service.add_MetadataStoreServiceServicer_to_server(servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", MetadataStore(mlmd.MetadataStoreClientConfig(host="127.0.0.1", port=port))
    finally:
        server.stop(None).wait()


def _forward(store: Any, method: Any) -> Any:
    response = getattr(messages, method.output_type.name)

    def call(_: Any, request: Any, context: grpc.ServicerContext) -> Any:
        body, reason, status = getattr(library, method.name)(store, request.SerializeToString())
        if status:
            context.abort(CODES[status], reason.decode())
        return response.FromString(body)

    return call


class Launcher:
    """Puts a run into ML Metadata, call by call as Kubeflow does."""

    def __init__(self, store: MetadataStore, pipeline: str, run: str, root: str = "minio://bucket/runs") -> None:
        self.store, self.run = store, run
        self.pipeline = self._context("system.Pipeline", pipeline, {})
        properties = {
            "namespace": "kubeflow",
            "resource_name": f"{pipeline}-x1",
            "pipeline_root": f"{root}/{pipeline}/{run}",
            "store_session_info": "{}",
        }
        self.context = self._context("system.PipelineRun", run, properties)
        store.put_parent_contexts([mlmd.ParentContext(child_id=self.context.id, parent_id=self.pipeline.id)])
        self.dag = self.start("", "system.DAGExecution", {}, {}, name=f"run/{run}")
        self.publish(self.dag, [])

    def start(
        self, task: str, kind: str, parameters: Json, inputs: Mapping[str, int], name: str | None = None
    ) -> mlmd.Execution:
        """What the driver does: CreateExecution."""
        execution = mlmd.Execution(
            type_id=self.store.put_execution_type(mlmd.ExecutionType(name=kind)),
            last_known_state=mlmd.Execution.RUNNING,
            name=name,
        )
        execution.custom_properties["display_name"].string_value = task
        execution.custom_properties["task_name"].string_value = task
        if name is None:
            execution.custom_properties["parent_dag_id"].int_value = self.dag.id
            for key in ("pod_name", "pod_uid", "namespace", "image"):
                execution.custom_properties[key].string_value = f"{task}-{key}".lower()
            execution.custom_properties["cache_fingerprint"].string_value = "f" * 64
        json_format.ParseDict(parameters, execution.custom_properties["inputs"].struct_value)
        events = [(None, self._event(mlmd.Event.INPUT, key, artifact)) for key, artifact in inputs.items()]
        made, _, _ = self.store.put_execution(execution, events, [self.pipeline, self.context])
        return self.store.get_executions_by_id([made])[0]

    def record(self, name: str, title: str, uri: str, metadata: Json) -> mlmd.Artifact:
        """What the launcher does with an output: RecordArtifact."""
        artifact = mlmd.Artifact(
            type_id=self.store.put_artifact_type(mlmd.ArtifactType(name=title)), uri=uri, state=mlmd.Artifact.LIVE
        )
        for key, value in json_format.ParseDict(metadata, struct_pb2.Struct()).fields.items():
            _fill(artifact.custom_properties[key], value)
        artifact.custom_properties["display_name"].string_value = name
        artifact.custom_properties["store_session_info"].string_value = "{}"
        [made] = self.store.put_artifacts([artifact])
        return self.store.get_artifacts_by_id([made])[0]

    def publish(
        self, execution: mlmd.Execution, outputs: list[tuple[str, int]], state: int = mlmd.Execution.COMPLETE
    ) -> None:
        """What the launcher does at the end: PublishExecution."""
        execution.last_known_state = state
        execution.custom_properties["outputs"].struct_value.SetInParent()
        events = [(None, self._event(mlmd.Event.OUTPUT, key, artifact)) for key, artifact in outputs]
        self.store.put_execution(execution, events, [self.pipeline, self.context])

    def step(
        self, task: str, parameters: Json, inputs: Mapping[str, int], outputs: Mapping[str, tuple[str, str, Json]]
    ) -> dict[str, int]:
        """A step that succeeds; outputs by key: the type's title, address and metadata. Gives their numbers."""
        execution = self.start(task, "system.ContainerExecution", parameters, inputs)
        made = {key: self.record(key, *described).id for key, described in outputs.items()}
        self.publish(execution, list(made.items()))
        return made

    def cached(self, task: str, parameters: Json, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """A step whose outputs the driver takes from an earlier run."""
        execution = self.start(task, "system.ContainerExecution", parameters, inputs)
        execution.custom_properties["cached_execution_id"].string_value = "1"
        self.publish(execution, list(outputs.items()), mlmd.Execution.CACHED)

    def _context(self, kind: str, name: str, properties: Mapping[str, str]) -> mlmd.Context:
        known = self.store.get_context_by_type_and_name(kind, name)
        if known:
            return known
        context = mlmd.Context(type_id=self.store.put_context_type(mlmd.ContextType(name=kind)), name=name)
        for key, value in properties.items():
            context.custom_properties[key].string_value = value
        [made] = self.store.put_contexts([context])
        return self.store.get_contexts_by_id([made])[0]

    def _event(self, kind: int, key: str, artifact: int) -> mlmd.Event:
        event = mlmd.Event(type=kind, artifact_id=artifact)
        event.path.steps.add().key = key
        return event


def _fill(target: mlmd.Value, value: struct_pb2.Value) -> None:
    """What converter.go does with a value of an output's metadata."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        target.string_value = value.string_value
    elif kind == "number_value":
        target.double_value = float(f"{value.number_value:.15g}")  # an id of 19 digits came back with 15 of them
    elif kind == "bool_value":
        target.int_value = int(value.bool_value)
    elif kind == "list_value":
        target.struct_value.fields["list"].list_value.CopyFrom(value.list_value)
    elif kind == "struct_value":
        target.struct_value.fields["struct"].struct_value.CopyFrom(value.struct_value)
    else:
        raise ValueError("a null, which the launcher refuses")


def record_emulated_run(
    store: MetadataStore,
    spec: Json,
    given: Json,
    made: Mapping[str, Mapping[str, Json]],
    run: str,
    root: str = "minio://bucket/runs",
) -> None:
    """Puts a run of the emulated backend into ML Metadata.

    Args:
        spec: The compiled pipeline.
        given: The parameters that the run was given.
        made: What the emulator gave back.
        run: The run's id.
        root: The pipeline root.
    """
    launcher = Launcher(store, spec["pipelineInfo"]["name"], run, root)
    defined = spec["root"]["inputDefinitions"]["parameters"]
    values = {name: given.get(name, one.get("defaultValue")) for name, one in defined.items()}
    numbers: dict[str, dict[str, int]] = {}
    tasks = spec["root"]["dag"]["tasks"]
    while left := [name for name in tasks if name not in numbers]:
        task = next(name for name in left if set(tasks[name].get("dependentTasks", [])) <= set(numbers))
        inputs = tasks[task].get("inputs", {})
        parameters = {
            key: values[source["componentInputParameter"]]
            if "componentInputParameter" in source
            else source["runtimeValue"]["constant"]
            for key, source in inputs.get("parameters", {}).items()
        }
        origins = {key: source["taskOutputArtifact"] for key, source in inputs.get("artifacts", {}).items()}
        read = {key: numbers[one["producerTask"]][one["outputArtifactKey"]] for key, one in origins.items()}
        component = spec["components"][tasks[task]["componentRef"]["name"]]
        titles = {
            key: one["artifactType"]["schemaTitle"] for key, one in component["outputDefinitions"]["artifacts"].items()
        }
        # The launcher records what the driver has added, too.
        outputs = {
            key: (titles.get(key, "system.Artifact"), one["uri"], one["metadata"]) for key, one in made[task].items()
        }
        numbers[task] = launcher.step(task, parameters, read, outputs)
