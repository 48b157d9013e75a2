# SPDX-License-Identifier: Apache-2.0
"""The provenance record: a file with the outputs, inputs and parameters of one execution of a node.

A record is an in-toto Statement v1 (https://in-toto.io/Statement/v1) with an SLSA Provenance v1 predicate
(https://slsa.dev/provenance/v1), so that other tools can read it:

    subject                 each output artifact: a folder by the digest of its tree, and each file in it by its SHA-256
    resolvedDependencies    each input artifact by the digest of its tree, with the record that made it; the code
    externalParameters      the node's parameters
    internalParameters      node, pipeline, run, seed, code, platform, and the execution in ML Metadata
    builder.version         versions of the installed packages
    runDetails.metadata     start, end, and whether the outputs are from the cache

The digest of a folder is named `sha256Tree`; its rule is that of `schemas.digests.tree_sha256` and can be followed in a
shell. The subject of a file is named after its output and its path in it, such as `models/large-int8.tflite`. URIs
within the pipeline root are relative to it, so that they are still valid after the folder was moved or copied to a
bucket; other URIs are not changed.

The record has a seal: `learn2compress_record.seal` is the SHA-256 of the file with the 64 digits of the seal replaced
by zeros, so that any changed byte is detected. It is not a signature, since a changed record can be sealed again: the
protection against tampering is the digest of this record in the next one, or a key (see lineage/records/signing.py).

Unknown fields are kept.
"""

import hashlib
import json
from collections.abc import Mapping
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
"""Lock of the command that works in an output folder; not part of any record."""
FOLDER = "provenance"
TREE = "sha256Tree"
FILE = "sha256"
UNSEALED = "0" * 64
EMPTY = hashlib.sha256().hexdigest()
"""Tree digest of a folder without files, which does not identify its origin."""


def _check_values(values: dict[str, Any]) -> dict[str, Any]:
    for key in [key for key in _KINDS if key in values]:
        value, kinds = values[key], _KINDS[key]
        if not isinstance(value, kinds) or (isinstance(value, int) and abs(value) >= 2**63):
            raise ValueError(f"{key} must be {kinds[0].__name__}; got {str(value)[:40]!r}")
    for key, value in values.get("code", {}).items():
        if not isinstance(value, _CODE_KINDS.get(key, (str, bool, type(None)))):
            raise ValueError(f"{key} of the code must be text; got {str(value)[:40]!r}")
    return values


_CODE_KINDS: Final[dict[str, tuple[type, ...]]] = {"dirty": (bool, type(None)), "commit": (str, type(None))}


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("output", "input", "type", "node", "run", "pipeline"), (str,)), "index": (int,), "bytes": (int,),
    **dict.fromkeys(("record", "record_sha256", "platform"), (str, type(None))), "seed": (int, type(None)),
    "properties": (dict,), "code": (dict,), "ml_metadata": (dict, type(None)),
}  # fmt: skip
Values = Annotated[dict[str, Any], AfterValidator(_check_values)]


class _Open(BaseModel):
    """Base class: immutable, and unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, alias_generator=to_camel)


class ResourceDescriptor(_Open):
    """A file, a folder or a piece of code (in-toto v1)."""

    name: str = ""
    uri: str | None = None
    digest: dict[str, str] = {}
    annotations: Values = {}


class BuildDefinition(_Open):
    """Definition of the execution: its parameters and dependencies."""

    build_type: str
    external_parameters: dict[str, Any]
    internal_parameters: Values
    resolved_dependencies: list[ResourceDescriptor] = []


class Builder(_Open):
    """The builder, `urn:learn2compress:local` or `urn:learn2compress:kubeflow`, with the versions of packages."""

    id: str = Field(min_length=1)
    version: dict[str, str] = {}


class BuildMetadata(_Open):
    """Identifier and times of the execution."""

    invocation_id: str = ""
    started_on: str | None = None
    finished_on: str | None = None
    cached: bool = Field(False, alias="learn2compress_cached")


class RunDetails(_Open):
    """Builder and metadata of the execution."""

    builder: Builder
    metadata: BuildMetadata


class RecordNote(_Open):
    """The record's own path, relative to the pipeline root, and its seal."""

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
    """Digest and size of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Output:
    """An output artifact of an execution, newly made or from the cache.

    Attributes:
        key: Name of the output in the node.
        uri: URI of the artifact, relative to the pipeline root if it is inside.
        type: Name of the artifact type.
        digest: `sha256Tree` of a folder, `sha256` of a single file.
        files: Files by their path in the folder; the path of a single file is "".
        index: Index of the artifact if the output has several.
        properties: Declared and custom properties of the artifact.
        metadata: Further fields of the artifact in ML Metadata.
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
        """Name of the artifact's subject."""
        return self.key if self.index == 0 else f"{self.key}[{self.index}]"

    @property
    def is_file(self) -> bool:
        """Whether the artifact is a single file."""
        return list(self.files) == [""]


@dataclass(frozen=True)
class Input:
    """An input artifact of an execution.

    Attributes:
        key: Name of the input in the node.
        uri: URI of the artifact, relative to the pipeline root if it is inside.
        type: Name of the artifact type.
        digest: `sha256Tree` of a folder, `sha256` of a single file.
        index: Index of the artifact if the input has several.
        is_file: Whether the artifact is a single file.
        record: Path of the record that made it, relative to the pipeline root; None if it is not known.
        record_sha256: Digest of the file of that record.
        metadata: Further fields of the artifact in ML Metadata.
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
        """Path of the record, relative to the pipeline root."""
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
        """Identifier of the execution, independent of the store."""
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
        """Versions of the installed packages."""
        return self.predicate.run_details.builder.version

    @property
    def cached(self) -> bool:
        """Whether the outputs are those of an earlier execution."""
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
        """Output artifacts, with their files, from the subjects."""
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
        """Input artifacts, from the dependencies."""
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
        """Write the record with its seal; equal records have equal bytes."""
        tree = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        tree["predicate"]["learn2compress_record"]["seal"] = UNSEALED
        text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        before, zeros, after = text.partition(f'"seal": "{UNSEALED}"')
        seal = hashlib.sha256(text.encode()).hexdigest()
        return (before + zeros.replace(UNSEALED, seal) + after).encode()


def parse_statement(raw: bytes, name: str) -> Statement:
    """Read a record.

    Args:
        raw: Bytes of the file.
        name: Name of the file in error messages.

    Raises:
        LineageError: The bytes are not a provenance record of this package, or are truncated.
    """
    try:
        return Statement.model_validate_json(raw)
    except ValidationError as error:
        raise LineageError(f"{name} must be a provenance record; {first_fault(error)}.") from error


def is_sealed(raw: bytes, statement: Statement) -> bool:
    """Tell whether a record's bytes match its seal."""
    seal = statement.predicate.record.seal.encode()
    if raw.count(seal) != 1:
        return False
    return hashlib.sha256(raw.replace(seal, UNSEALED.encode())).hexdigest() == seal.decode()


def validate_statement(statement: Statement) -> None:
    """Check a record against the definitions of in-toto and SLSA with their library.

    Raises:
        LineageError: The record does not satisfy them.
    """
    # The import takes a quarter of a second, and only writing and strict checking need it.
    from google.protobuf.json_format import ParseDict, ParseError
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1.statement import Statement as InTotoStatement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

    tree = statement.model_dump(mode="json", by_alias=True, exclude_unset=True)
    try:
        # Fields outside the definitions are kept, as they require of readers, and not checked.
        message = ParseDict(tree, StatementMessage(), ignore_unknown_fields=True)
        InTotoStatement.copy_from_pb(message).validate()
        ParseDict(tree["predicate"], provenance_pb2.Provenance(), ignore_unknown_fields=True)
    except (ParseError, ValueError) as error:
        raise LineageError(f"{statement.path} must be an in-toto statement with SLSA provenance; {error}.") from error


def timestamp(milliseconds: int) -> str:
    """Write milliseconds since 1970 as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
