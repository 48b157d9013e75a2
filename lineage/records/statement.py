# SPDX-License-Identifier: Apache-2.0
"""Builds the statement of an execution, the content of its provenance record (schemas/provenance.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from learn2compress.schemas.provenance import (
    BUILD_TYPE,
    FILE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    TREE,
    UNSEALED,
    Input,
    Output,
    ResourceDescriptor,
    Statement,
)


def build_statement(
    *,
    path: str,
    outputs: Sequence[Output],
    inputs: Sequence[Input],
    parameters: Mapping[str, Any],
    internal: Mapping[str, Any],
    packages: Mapping[str, str],
    builder: str,
    invocation: str,
    started: str | None,
    finished: str | None,
    cached: bool,
    code: Sequence[ResourceDescriptor] = (),
) -> Statement:
    """Build a record.

    Args:
        path: Path of the record, relative to the pipeline root.
        outputs: Output artifacts.
        inputs: Input artifacts.
        parameters: Parameters of the node.
        internal: Node, pipeline, run and further internal parameters.
        packages: Versions of the installed packages.
        builder: URN of the builder.
        invocation: Identifier of the execution.
        started: Start in ISO 8601, UTC.
        finished: End in ISO 8601, UTC.
        cached: Whether the outputs are from the cache.
        code: Source code that was executed, as further dependencies.

    Returns:
        The record.
    """
    subjects = []
    for output in outputs:
        about: dict[str, Any] = {"output": output.key, "index": output.index, "type": output.type}
        about["properties"] = dict(output.properties)
        if output.metadata is not None:
            about["ml_metadata"] = dict(output.metadata)
        if output.is_file:
            about["bytes"] = output.files[""].bytes
        subjects.append(
            {
                "name": output.name,
                "uri": output.uri,
                "digest": {FILE if output.is_file else TREE: output.digest},
                "annotations": about,
            }
        )
        subjects += [
            {"name": f"{output.name}/{name}", "digest": {FILE: file.sha256}, "annotations": {"bytes": file.bytes}}
            for name, file in sorted(output.files.items())
            if name
        ]
    return Statement.model_validate(
        {
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": dict(parameters),
                    "internalParameters": dict(internal),
                    "resolvedDependencies": [
                        *(_dependency(found) for found in inputs),
                        *(found.model_dump(mode="json", by_alias=True, exclude_unset=True) for found in code),
                    ],
                },
                "runDetails": {
                    "builder": {"id": builder, "version": dict(packages)},
                    "metadata": {
                        "invocationId": invocation,
                        "startedOn": started,
                        "finishedOn": finished,
                        "learn2compress_cached": cached,
                    },
                },
                "learn2compress_record": {"format": 1, "path": path, "seal": UNSEALED},
            },
        }
    )


def _dependency(found: Input) -> dict[str, Any]:
    about: dict[str, Any] = {"input": found.key, "index": found.index, "type": found.type}
    if found.record is not None:
        about["record"] = found.record
        about["record_sha256"] = found.record_sha256
    if found.metadata is not None:
        about["ml_metadata"] = dict(found.metadata)
    return {
        "name": found.key if found.index == 0 else f"{found.key}[{found.index}]",
        "uri": found.uri,
        "digest": {FILE if found.is_file else TREE: found.digest},
        "annotations": about,
    }
