# SPDX-License-Identifier: Apache-2.0
"""The results of the lineage commands, as printed with `--json` and described in schemas/lineage.schema.json.

Digests are SHA-256 in 64 hexadecimal digits; paths of records and URIs of artifacts are relative to the location unless
they are absolute; times are ISO 8601 in UTC; accuracies are fractions in [0, 1].
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["whole", "unknown", "tampered", "incomplete"]
EXIT_STATUS: dict[Status, int] = {"whole": 0, "unknown": 3, "tampered": 4, "incomplete": 5}


class QueryResult(BaseModel):
    """Base class of results and their parts: immutable, without additional fields."""

    # Schemas are built on first use, since a command needs only some of them.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Problem(QueryResult):
    """A problem with a file or a record. A note concerns something that the result does not depend on."""

    kind: Literal["tampered", "incomplete", "note"]
    where: str
    reason: str


class ArtifactView(QueryResult):
    """An input or output artifact of a step."""

    key: str
    uri: str
    type: str
    digest: str
    record: str | None = None  # record that made it, for an input
    files: int | None = None
    bytes: int | None = None
    properties: dict[str, Any] = Field(default_factory=dict)


class Step(QueryResult):
    """An execution of a node."""

    node: str
    record: str
    run: str
    pipeline: str
    execution: str
    started: str | None
    finished: str | None
    seconds: float | None
    cached: bool
    seed: int | None
    parameters: dict[str, Any]
    code: dict[str, Any]
    packages: dict[str, str]
    platform: str | None
    builder: str
    inputs: list[ArtifactView]
    outputs: list[ArtifactView]


class TeacherView(QueryResult):
    """The teacher; `manifest` is the artifact's manifest, if it still exists."""

    record: str
    uri: str
    sha256: str
    properties: dict[str, Any]
    manifest: dict[str, Any] | None


class DataView(QueryResult):
    """The examples; `manifest` is the artifact's manifest without its lists of files, if it still exists."""

    record: str
    uri: str
    digest: str
    properties: dict[str, Any]
    manifest: dict[str, Any] | None


class Measurement(QueryResult):
    """The figures of a file in evaluation.json, measured on its bytes."""

    record: str
    finished: str | None
    host: dict[str, Any]
    figures: dict[str, Any]


class ChoiceView(QueryResult):
    """The verdict on a file in a choice among candidates."""

    record: str
    finished: str | None
    candidate: str
    status: str
    reason: str
    chosen: str | None
    objective: str | None
    limits: dict[str, Any]


class Sibling(QueryResult):
    """Another file of the same artifact."""

    name: str
    file: str
    sha256: str
    bytes: int
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    latency_ms: float | None = None
    status: str | None = None
    reason: str | None = None


class Chain(QueryResult):
    """One origin of the bytes; steps are ordered from the execution that made the file to the sources."""

    made_by: str
    output: str
    uri: str
    run: str
    pipeline: str
    finished: str | None
    teacher: TeacherView | None
    trained_teacher: TeacherView | None  # the jointly trained teacher, if there is one
    data: DataView | None
    calibration: dict[str, Any] | None
    model: dict[str, Any] | None  # entry of the file in its manifest
    measurements: list[Measurement]  # newest first
    choices: list[ChoiceView]  # newest first
    siblings: list[Sibling]
    copies: list[str]  # recorded copies of the same bytes
    served: list[str]  # records of executions that took the file from the cache
    steps: list[Step]


class LineageReport(QueryResult):
    """`lineage FILE`"""

    version: Literal[1] = 1
    command: Literal["lineage"] = "lineage"
    status: Status
    file: str
    sha256: str
    bytes: int
    location: str
    problems: list[Problem]
    chains: list[Chain]  # one for each execution that made the bytes, newest first
    more_chains: int = 0  # number of chains that were left out


class VerifyReport(QueryResult):
    """`verify PATH`"""

    version: Literal[1] = 1
    command: Literal["verify"] = "verify"
    status: Status
    location: str
    records: int
    artifacts: int
    files: int
    bytes: int
    signatures: int | None = None  # number of valid signatures, if a key was given
    signed: int = 0  # number of records that have signatures, whether or not these were checked
    signers: list[str] = []  # ids of the keys that they name
    problems: list[Problem]
    copies: list[str]  # copies of recorded files outside the artifacts
    unrecorded: list[str]  # files that no record lists
    made_anew: list[str] = []  # files of commands that no record lists: the metadata store, the index and the lock


class ImpactedExecution(QueryResult):
    """An execution whose inputs derive from the cause."""

    record: str
    node: str
    run: str
    finished: str | None
    cached: bool
    distance: int  # number of steps from the cause
    outputs: list[str]  # URIs of its outputs


class ImpactedModel(QueryResult):
    """A .tflite file that derives from the cause."""

    file: str
    sha256: str
    bytes: int
    run: str


class Cause(QueryResult):
    """What a digest or file was found as."""

    kind: Literal["file", "artifact", "folder", "parameter", "example"]
    name: str
    record: str
    split: str | None = None  # split of an example


class ImpactReport(QueryResult):
    """`impact DIGEST|FILE`"""

    version: Literal[1] = 1
    command: Literal["impact"] = "impact"
    status: Status
    location: str
    subject: str
    digest: str
    causes: list[Cause]
    runs: list[str]
    executions: list[ImpactedExecution]  # nearest first
    models: list[ImpactedModel]
    problems: list[Problem]


class Difference(QueryResult):
    """A value that differs between two histories; None where it is missing."""

    node: str
    what: Literal["step", "parameter", "package", "code", "seed", "input", "output", "platform", "property", "figure"]
    name: str
    a: Any = None
    b: Any = None


class DiffReport(QueryResult):
    """`diff A B`"""

    version: Literal[1] = 1
    command: Literal["diff"] = "diff"
    status: Status
    location: str
    a: str
    b: str
    sha256_a: str
    sha256_b: str
    same_bytes: bool
    differences: list[Difference]
    problems: list[Problem]


class RunView(QueryResult):
    """A run, summarized from its records."""

    run: str
    pipeline: str
    root: str
    started: str | None
    finished: str | None
    seconds: float | None  # total of the executions that were not cached
    executions: int
    cached: int
    nodes: list[str]
    chosen: str | None
    sha256: str | None
    objective: str | None
    validation_accuracy: float | None
    test_accuracy: float | None


class HistoryReport(QueryResult):
    """`history [LOCATION]`"""

    version: Literal[1] = 1
    command: Literal["history"] = "history"
    status: Status
    location: str
    runs: list[RunView]  # newest first
    problems: list[Problem]


class RebuildReport(QueryResult):
    """`rebuild-metadata LOCATION --to FILE`"""

    version: Literal[1] = 1
    command: Literal["rebuild-metadata"] = "rebuild-metadata"
    status: Status
    location: str
    database: str
    artifacts: int
    executions: int
    events: int
    contexts: int
    problems: list[Problem]


class ReplayedFigure(QueryResult):
    """A recorded figure and its value after the replay."""

    model: str
    figure: str
    recorded: float | None
    replayed: float | None
    within: bool


class ReplayReport(QueryResult):
    """`replay FILE`"""

    version: Literal[1] = 1
    command: Literal["replay"] = "replay"
    status: Status
    location: str
    output: str
    tolerance: float
    same_bytes: bool
    within_tolerance: bool
    first_different_step: str | None  # the earliest step whose outputs have other bytes
    differing_steps: list[str]
    environment: list[Difference]  # packages, code and platform that differ from the record
    figures: list[ReplayedFigure]
    problems: list[Problem]


def status_of(problems: list[Problem]) -> Status:
    """Return the status that a list of problems amounts to; tampered takes precedence over incomplete."""
    kinds = {problem.kind for problem in problems}
    if "tampered" in kinds:
        return "tampered"
    return "incomplete" if "incomplete" in kinds else "whole"
