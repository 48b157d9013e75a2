# SPDX-License-Identifier: Apache-2.0
"""Converts ML Metadata's messages to plain JSON values and back.

Provenance records store these values, so that the graph in ML Metadata can be rebuilt from the records alone. A
property's value becomes a JSON value of the same kind: a float keeps its decimal point (5.0), which distinguishes it
from an int.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict, ParseDict
from ml_metadata.proto import metadata_store_pb2 as mlmd

Json: TypeAlias = dict[str, Any]
Node: TypeAlias = "mlmd.Artifact | mlmd.Execution | mlmd.Context"
NodeType: TypeAlias = "mlmd.ArtifactType | mlmd.ExecutionType | mlmd.ContextType"


def value_to_json(value: mlmd.Value) -> Any:
    """Convert a property's value to JSON."""
    kind = value.WhichOneof("value")
    if kind == "struct_value":
        return {"struct": MessageToDict(value.struct_value)}
    if kind == "proto_value":
        return {"proto": {"type": value.proto_value.type_url, "hex": value.proto_value.value.hex()}}
    if kind == "double_value" and not math.isfinite(value.double_value):
        return {"double": str(value.double_value)}
    return getattr(value, kind) if kind else None


def value_from_json(plain: Any) -> mlmd.Value:
    """Convert a property's value from JSON."""
    value = mlmd.Value()
    if isinstance(plain, bool):
        value.bool_value = plain
    elif isinstance(plain, int):
        value.int_value = plain
    elif isinstance(plain, float):
        value.double_value = plain
    elif isinstance(plain, str):
        value.string_value = plain
    elif isinstance(plain, dict) and "struct" in plain:
        ParseDict(plain["struct"], value.struct_value)
    elif isinstance(plain, dict) and "proto" in plain:
        value.proto_value.type_url = plain["proto"]["type"]
        value.proto_value.value = bytes.fromhex(plain["proto"]["hex"])
    elif isinstance(plain, dict) and "double" in plain:
        value.double_value = float(plain["double"])
    return value


def properties_to_json(node: Node) -> Json:
    """Convert a node's declared and custom properties to JSON; `declared_of` lists the declared ones."""
    both = {**node.properties, **node.custom_properties}
    return {key: value_to_json(both[key]) for key in sorted(both)}


def fill_properties(node: Node, properties: Mapping[str, Any], declared: list[str]) -> None:
    """Set a node's properties."""
    for key, plain in properties.items():
        target = node.properties if key in declared else node.custom_properties
        target[key].CopyFrom(value_from_json(plain))


def declared_of(node: Node) -> list[str]:
    """Return the names of a node's declared properties."""
    return sorted(node.properties)


def type_to_json(kind: NodeType) -> Json:
    """Convert a type to JSON: its id, its name, and its other fields."""
    plain: Json = {"id": kind.id, "name": kind.name}
    for key in ("version", "description", "external_id"):
        if getattr(kind, key):
            plain[key] = getattr(kind, key)
    if kind.properties:
        plain["properties"] = {key: mlmd.PropertyType.Name(kind.properties[key]) for key in sorted(kind.properties)}
    if kind.HasField("base_type"):
        plain["base_type"] = kind.DESCRIPTOR.fields_by_name["base_type"].enum_type.values_by_number[kind.base_type].name
    return plain


def type_from_json(plain: Json, message: type[NodeType]) -> NodeType:
    """Convert a type from JSON."""
    kind = message(name=plain["name"])
    for key in ("version", "description", "external_id"):
        if key in plain:
            setattr(kind, key, plain[key])
    for key, name in plain.get("properties", {}).items():
        kind.properties[key] = mlmd.PropertyType.Value(name)
    if "base_type" in plain:
        values = kind.DESCRIPTOR.fields_by_name["base_type"].enum_type.values_by_name
        kind.base_type = values[plain["base_type"]].number
    return kind


def artifact_to_json(artifact: mlmd.Artifact, kind: mlmd.ArtifactType) -> Json:
    """Convert an artifact's identity in its store to JSON; URI and properties are stored elsewhere in a record."""
    return {
        **_identity(artifact),
        "state": mlmd.Artifact.State.Name(artifact.state),
        "declared": declared_of(artifact),
        "type": type_to_json(kind),
    }


def execution_to_json(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> Json:
    """Convert an execution's identity in its store to JSON; its properties are the record's parameters."""
    return {
        **_identity(execution),
        "state": mlmd.Execution.State.Name(execution.last_known_state),
        "declared": declared_of(execution),
        "type": type_to_json(kind),
    }


def context_to_json(context: mlmd.Context, kind: mlmd.ContextType, parents: list[str]) -> Json:
    """Convert a context to JSON.

    Args:
        context: The context.
        kind: Type of the context.
        parents: Type and name of each parent context, such as `pipeline:tiny`.
    """
    plain = {**_identity(context), "type": type_to_json(kind)}
    if context.properties or context.custom_properties:
        plain |= {"properties": properties_to_json(context), "declared": declared_of(context)}
    if parents:
        plain["parents"] = parents
    return plain


def event_to_json(event: mlmd.Event) -> Json:
    """Convert an event to JSON, without the ids of the artifact and execution that it connects."""
    return {
        "type": mlmd.Event.Type.Name(event.type),
        "steps": [getattr(step, step.WhichOneof("value")) for step in event.path.steps],
        "time": event.milliseconds_since_epoch,
    }


def event_from_json(plain: Json, artifact: int, execution: int) -> mlmd.Event:
    """Convert an event from JSON."""
    event = mlmd.Event(
        artifact_id=artifact,
        execution_id=execution,
        type=mlmd.Event.Type.Value(plain["type"]),
        milliseconds_since_epoch=plain["time"],
    )
    for step in plain["steps"]:
        added = event.path.steps.add()
        if isinstance(step, int):
            added.index = step
        else:
            added.key = step
    return event


def _identity(node: Node) -> Json:
    plain: Json = {
        "id": node.id,
        "created": node.create_time_since_epoch,
        "updated": node.last_update_time_since_epoch,
    }
    for key in ("name", "external_id"):
        if getattr(node, key):
            plain[key] = getattr(node, key)
    return plain
