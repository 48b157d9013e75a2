# SPDX-License-Identifier: Apache-2.0
"""The provenance record: what one execution of a node made, from what, and how, in a file of its own.

A record is an in-toto Statement v1 (https://in-toto.io/Statement/v1) whose predicate is SLSA Provenance v1
(https://slsa.dev/provenance/v1), so that tools other than ours can read it:

    subject                 each output artifact: a folder by the digest of its tree, and each file in it by its SHA-256
    resolvedDependencies    each input artifact by the digest of its tree, with the record that made it; the code
    externalParameters      the node's parameters
    internalParameters      node, pipeline, run, seed, code, platform, and what ML Metadata says of the execution
    builder.version         versions of the packages that ran
    runDetails.metadata     start, end, and whether the outputs were taken from the cache

A folder's digest goes by the name `sha256Tree`; its rule, which any shell can follow, is that of
`schemas.digests.tree_sha256`. A file's subject is named by its output and its place in it, as in
`models/large-int8.tflite`. URIs within the pipeline root are relative to it, so that a folder that was moved, or copied
to a bucket, is still described; others stay as they are.

The record also seals itself: `learn2compress_record.seal` is the SHA-256 of the file with the seal's own 64 digits
replaced by zeros. Any changed byte shows. It is no signature, for whoever changes a record can seal it again: what
holds against intent is that the next record names this one by digest, or a key (see lineage/records/signing.py).

Fields that we do not know are kept, whoever wrote them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from learn2compress.schemas.errors import LineageError, first_fault

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:learn2compress:node:v1"
SUFFIX = ".intoto.json"
LOCK_FILE = ".lock"
"""Held by the command that works in an output folder; of no interest to a record."""
FOLDER = "provenance"
TREE = "sha256Tree"
FILE = "sha256"
UNSEALED = "0" * 64
EMPTY = hashlib.sha256().hexdigest()
"""The tree digest of a folder without files, which says nothing about where it came from."""


def _check_values(values: dict[str, Any]) -> dict[str, Any]:
    for key in [key for key in _KINDS if key in values]:
        value, kinds = values[key], _KINDS[key]
        if not isinstance(value, kinds) or (isinstance(value, int) and abs(value) >= 2**63):
            raise ValueError(f"{key} must be {kinds[0].__name__}; got {str(value)[:40]!r}")
    return values


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("output", "input", "type", "node", "run", "pipeline"), (str,)), "index": (int,), "bytes": (int,),
    **dict.fromkeys(("record", "record_sha256", "platform"), (str, type(None))), "seed": (int, type(None)),
    "properties": (dict,), "code": (dict,), "ml_metadata": (dict, type(None)),
}  # fmt: skip
Values = Annotated[dict[str, Any], AfterValidator(_check_values)]


class _Open(BaseModel):
    """Immutable, and keeping what it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, alias_generator=to_camel)


class ResourceDescriptor(_Open):
    """A file, a folder or a piece of code (in-toto v1)."""

    name: str = ""
    uri: str | None = None
    digest: dict[str, str] = {}
    annotations: Values = {}


class BuildDefinition(_Open):
    """What was to be done."""

    build_type: str
    external_parameters: dict[str, Any]
    internal_parameters: Values
    resolved_dependencies: list[ResourceDescriptor] = []


class Builder(_Open):
    """Who did it: `urn:learn2compress:local` or `urn:learn2compress:kubeflow`, with the packages' versions."""

    id: str = Field(min_length=1)
    version: dict[str, str] = {}


class BuildMetadata(_Open):
    """When."""

    invocation_id: str = ""
    started_on: str | None = None
    finished_on: str | None = None
    cached: bool = Field(False, alias="learn2compress_cached")


class RunDetails(_Open):
    """How it was done."""

    builder: Builder
    metadata: BuildMetadata


class RecordNote(_Open):
    """About the record itself: where it lies, relative to the pipeline root, and its seal."""

    format: int
    path: str = Field(min_length=1)
    seal: str = Field(pattern=r"^[0-9a-f]{64}$")


class Predicate(_Open):
    """SLSA Provenance v1, and a note."""

    build_definition: BuildDefinition
    run_details: RunDetails
    record: RecordNote = Field(alias="learn2compress_record")


@dataclass(frozen=True)
class FileDigest:
    """A file's content."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Output:
    """An artifact that an execution made, or was given from the cache.

    Attributes:
        key: The output's name in the node; `index` counts where it holds several.
        uri: Relative to the pipeline root, if it is inside.
        type: Name of the artifact type.
        digest: `sha256Tree` of a folder, `sha256` of a single file.
        files: By their path in the folder; the single file's path is "".
        properties: The artifact's figures and marks, declared ones and custom ones.
        metadata: What else ML Metadata says of it.
    """

    key: str
    uri: str
    type: str
    digest: str
    files: Mapping[str, FileDigest]
    index: int = 0
    properties: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Its subject's name."""
        return self.key if self.index == 0 else f"{self.key}[{self.index}]"

    @property
    def is_file(self) -> bool:
        """Whether it is a single file."""
        return list(self.files) == [""]


@dataclass(frozen=True)
class Input:
    """An artifact that an execution read.

    Attributes:
        record: Path of the record that made it, relative to the pipeline root; none if it is not known.
        record_sha256: Of that record's file.
    """

    key: str
    uri: str
    type: str
    digest: str
    index: int = 0
    is_file: bool = False
    record: str | None = None
    record_sha256: str | None = None
    metadata: Mapping[str, Any] | None = None


class Statement(_Open):
    """A provenance record."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(STATEMENT_TYPE, alias="_type")
    subject: list[ResourceDescriptor] = Field(min_length=1)
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = PREDICATE_TYPE
    predicate: Predicate

    @property
    def path(self) -> str:
        """Where it lies, relative to the pipeline root."""
        return self.predicate.record.path

    @property
    def node(self) -> str:
        """Name of the node."""
        return str(self.internal.get("node", ""))

    @property
    def run(self) -> str:
        """Identifier of the run."""
        return str(self.internal.get("run", ""))

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return str(self.internal.get("pipeline", ""))

    @property
    def invocation(self) -> str:
        """Names the execution, whatever the store."""
        return self.predicate.run_details.metadata.invocation_id

    @property
    def internal(self) -> dict[str, Any]:
        """Node, pipeline, run, execution, seed, code, platform, ml_metadata."""
        return self.predicate.build_definition.internal_parameters

    @property
    def parameters(self) -> dict[str, Any]:
        """The node's parameters."""
        return self.predicate.build_definition.external_parameters

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the packages that ran."""
        return self.predicate.run_details.builder.version

    @property
    def cached(self) -> bool:
        """Whether the outputs were made by an earlier execution."""
        return self.predicate.run_details.metadata.cached

    @property
    def started(self) -> str | None:
        """ISO 8601, UTC."""
        return self.predicate.run_details.metadata.started_on

    @property
    def finished(self) -> str | None:
        """ISO 8601, UTC."""
        return self.predicate.run_details.metadata.finished_on

    @property
    def outputs(self) -> list[Output]:
        """The artifacts among the subjects, with their files."""
        files: dict[str, dict[str, FileDigest]] = {}
        for subject in self.subject:
            artifact, slash, path = subject.name.partition("/")
            if FILE in subject.digest and (slash or TREE not in subject.digest):
                size = subject.annotations.get("bytes", 0)
                files.setdefault(artifact, {})[path] = FileDigest(subject.digest[FILE], int(size))
        return [
            Output(
                key=str(subject.annotations["output"]),
                index=int(subject.annotations.get("index", 0)),
                uri=subject.uri or "",
                type=str(subject.annotations.get("type", "")),
                digest=subject.digest.get(TREE) or subject.digest.get(FILE, ""),
                files=files.get(subject.name, {}),
                properties=subject.annotations.get("properties", {}),
                metadata=subject.annotations.get("ml_metadata"),
            )
            for subject in self.subject
            if "output" in subject.annotations
        ]

    @property
    def inputs(self) -> list[Input]:
        """The artifacts among the dependencies."""
        return [
            Input(
                key=str(found.annotations["input"]),
                index=int(found.annotations.get("index", 0)),
                uri=found.uri or "",
                type=str(found.annotations.get("type", "")),
                digest=found.digest.get(TREE) or found.digest.get(FILE, ""),
                is_file=TREE not in found.digest,
                record=found.annotations.get("record"),
                record_sha256=found.annotations.get("record_sha256"),
                metadata=found.annotations.get("ml_metadata"),
            )
            for found in self.predicate.build_definition.resolved_dependencies
            if "input" in found.annotations
        ]

    def to_bytes(self) -> bytes:
        """Write the record, sealed: equal records are equal bytes."""
        tree = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        tree["predicate"]["learn2compress_record"]["seal"] = UNSEALED
        text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        before, zeros, after = text.partition(f'"seal": "{UNSEALED}"')
        seal = hashlib.sha256(text.encode()).hexdigest()
        return (before + zeros.replace(UNSEALED, seal) + after).encode()


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
    """Put a record together.

    Args:
        path: Where it will lie, relative to the pipeline root.
        internal: Node, pipeline, run and the like.
        code: Further dependencies: the source that ran.
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


def parse_statement(raw: bytes, name: str) -> Statement:
    """Read a record.

    Args:
        raw: The file.
        name: What to call it in a message.

    Raises:
        LineageError: It is no provenance record of ours, or it is cut short.
    """
    try:
        return Statement.model_validate_json(raw)
    except ValidationError as error:
        raise LineageError(f"{name} must be a provenance record; {first_fault(error)}.") from error


def is_sealed(raw: bytes, statement: Statement) -> bool:
    """Tell whether a record's bytes are those that were sealed."""
    seal = statement.predicate.record.seal.encode()
    if raw.count(seal) != 1:
        return False
    return hashlib.sha256(raw.replace(seal, UNSEALED.encode())).hexdigest() == seal.decode()


def validate_statement(statement: Statement) -> None:
    """Check a record against in-toto's and SLSA's own definitions, by their library.

    Raises:
        LineageError: It does not satisfy them.
    """
    # A quarter of a second to import, and only writing and strict checking want it.
    from google.protobuf.json_format import ParseDict, ParseError
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1.statement import Statement as InTotoStatement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

    tree = statement.model_dump(mode="json", by_alias=True, exclude_unset=True)
    try:
        # What the definitions do not name is kept, as they ask of readers, and not checked.
        message = ParseDict(tree, StatementMessage(), ignore_unknown_fields=True)
        InTotoStatement.copy_from_pb(message).validate()
        ParseDict(tree["predicate"], provenance_pb2.Provenance(), ignore_unknown_fields=True)
    except (ParseError, ValueError) as error:
        raise LineageError(f"{statement.path} must be an in-toto statement with SLSA provenance; {error}.") from error


def timestamp(milliseconds: int) -> str:
    """Write milliseconds since 1970 as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
