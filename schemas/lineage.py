# SPDX-License-Identifier: Apache-2.0
"""What the lineage commands answer with: the form of their `--json`, described in schemas/lineage.schema.json.

Digests are SHA-256 in 64 hexadecimal digits; paths of records and URIs of artifacts are relative to the location,
unless they are absolute; times are ISO 8601 in UTC; accuracies are fractions in [0, 1].
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["whole", "unknown", "tampered", "incomplete"]
EXIT_STATUS: dict[Status, int] = {"whole": 0, "unknown": 3, "tampered": 4, "incomplete": 5}


class Answer(BaseModel):
    """Immutable, and as it is documented."""

    # Built when first used: a command needs only some of them.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Problem(Answer):
    """What is wrong, and where: a file or a record. A note concerns something that the answer does not rest on."""

    kind: Literal["tampered", "incomplete", "note"]
    where: str
    reason: str


class ArtifactView(Answer):
    """An artifact that a step read or made."""

    key: str
    uri: str
    type: str
    digest: str
    record: str | None = None  # which made it, of one that was read
    files: int | None = None
    bytes: int | None = None
    properties: dict[str, Any] = Field(default_factory=dict)


class Step(Answer):
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


class TeacherView(Answer):
    """The model that taught; `manifest` is the artifact's own, if it is still there."""

    record: str
    uri: str
    sha256: str
    properties: dict[str, Any]
    manifest: dict[str, Any] | None


class DataView(Answer):
    """The examples; `manifest` is the artifact's own, without its lists of files, if it is still there."""

    record: str
    uri: str
    digest: str
    properties: dict[str, Any]
    manifest: dict[str, Any] | None


class Measurement(Answer):
    """What was measured of the very bytes, as evaluation.json has it."""

    record: str
    finished: str | None
    host: dict[str, Any]
    figures: dict[str, Any]


class ChoiceView(Answer):
    """What became of the file in a choice among its siblings."""

    record: str
    finished: str | None
    candidate: str
    status: str
    reason: str
    chosen: str | None
    objective: str | None
    limits: dict[str, Any]


class Sibling(Answer):
    """Another file that was made along with it."""

    name: str
    file: str
    sha256: str
    bytes: int
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    latency_ms: float | None = None
    status: str | None = None
    reason: str | None = None


class Chain(Answer):
    """How the bytes came about, once; steps go from the one that made them to the sources."""

    made_by: str
    output: str
    uri: str
    run: str
    pipeline: str
    finished: str | None
    teacher: TeacherView | None
    trained_teacher: TeacherView | None  # as it was trained along with the students, if it was
    data: DataView | None
    calibration: dict[str, Any] | None
    model: dict[str, Any] | None  # the file's entry in its manifest
    measurements: list[Measurement]  # newest first
    choices: list[ChoiceView]  # newest first
    siblings: list[Sibling]
    copies: list[str]  # where records say the same bytes were copied to
    served: list[str]  # records of runs that took them from the cache
    steps: list[Step]


class LineageReport(Answer):
    """`lineage FILE`"""

    version: Literal[1] = 1
    command: Literal["lineage"] = "lineage"
    status: Status
    file: str
    sha256: str
    bytes: int
    location: str
    problems: list[Problem]
    chains: list[Chain]  # one for each time the bytes were made, newest first
    more_chains: int = 0  # that were left out


class VerifyReport(Answer):
    """`verify PATH`"""

    version: Literal[1] = 1
    command: Literal["verify"] = "verify"
    status: Status
    location: str
    records: int
    artifacts: int
    files: int
    bytes: int
    signatures: int | None = None  # that were checked, if a key was given
    problems: list[Problem]
    copies: list[str]  # files outside the artifacts whose bytes a record knows
    unrecorded: list[str]  # files that no record speaks of


class ImpactedExecution(Answer):
    """An execution that read something that derives from the cause."""

    record: str
    node: str
    run: str
    finished: str | None
    cached: bool
    distance: int  # steps from the cause
    outputs: list[str]  # URIs of what it made


class ImpactedModel(Answer):
    """A .tflite file that derives from the cause."""

    file: str
    sha256: str
    bytes: int
    run: str


class Cause(Answer):
    """What the digest or file was found to be."""

    kind: Literal["file", "artifact", "folder", "parameter", "example"]
    name: str
    record: str
    split: str | None = None  # of an example


class ImpactReport(Answer):
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


class Difference(Answer):
    """A value that two histories do not share; None where one lacks it."""

    node: str
    what: Literal["step", "parameter", "package", "code", "seed", "input", "output", "platform", "property", "figure"]
    name: str
    a: Any = None
    b: Any = None


class DiffReport(Answer):
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


class RunView(Answer):
    """A run, as its records tell it."""

    run: str
    pipeline: str
    root: str
    started: str | None
    finished: str | None
    seconds: float | None  # of the executions that were not cached
    executions: int
    cached: int
    nodes: list[str]
    chosen: str | None
    sha256: str | None
    objective: str | None
    validation_accuracy: float | None
    test_accuracy: float | None


class HistoryReport(Answer):
    """`history [LOCATION]`"""

    version: Literal[1] = 1
    command: Literal["history"] = "history"
    status: Status
    location: str
    runs: list[RunView]  # newest first
    problems: list[Problem]


class RebuildReport(Answer):
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


class ReplayedFigure(Answer):
    """A figure, recorded and now."""

    model: str
    figure: str
    recorded: float | None
    replayed: float | None
    within: bool


class ReplayReport(Answer):
    """`replay FILE`"""

    version: Literal[1] = 1
    command: Literal["replay"] = "replay"
    status: Status
    location: str
    output: str
    tolerance: float
    same_bytes: bool
    within_tolerance: bool
    first_different_step: str | None  # the earliest step whose outputs are not the same bytes
    differing_steps: list[str]
    environment: list[Difference]  # packages, code and platform that are not those of the record
    figures: list[ReplayedFigure]
    problems: list[Problem]


def status_of(problems: list[Problem]) -> Status:
    """What the problems amount to; tampering counts for more than a gap."""
    kinds = {problem.kind for problem in problems}
    if "tampered" in kinds:
        return "tampered"
    return "incomplete" if "incomplete" in kinds else "whole"
