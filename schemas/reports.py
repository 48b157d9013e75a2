# SPDX-License-Identifier: Apache-2.0
"""The figures of each file and the choice: the records of report.json and report.html.

All figures are measured on the bytes of the files. The validation split decides the choice; the test split is for the
final figures. Accuracies, confidences and calibration errors are fractions in [0, 1]; latencies are milliseconds.
"""

from typing import Any, Literal

from pydantic import Field

from learn2compress.schemas.manifests import (
    Calibration,
    Epoch,
    FloatFallback,
    LayerQuantization,
    QuantizationError,
    Record,
    Split,
    StudentSetManifest,
    Task,
    TeacherManifest,
    TrainedTeacherManifest,
)

EVALUATION = "evaluation.json"  # an Evaluation, in ModelEvaluation
THUMBNAILS = "thumbnails.json"  # thumbnails of the flips as data URIs by example id, in ModelEvaluation
SELECTION = "selection.json"  # a Choice, in Selection


class Interval(Record):
    """A 95 % confidence interval (Wilson's score interval for a proportion)."""

    low: float
    high: float


class Flip(Record):
    """An image on which student and teacher differ, and one of them is correct."""

    id: str
    source: str
    label: int
    teacher: int
    student: int


class ClassFigures(Record):
    """Figures of one class."""

    precision: float
    recall: float
    f1: float
    images: int


class SplitFigures(Record):
    """Figures of one file on one split."""

    images: int
    top1: float
    top1_interval: Interval
    topk: float
    k: int
    per_class: list[ClassFigures]
    confusion: list[list[int]]  # [label][prediction]; adds up to `images`
    agreement: float | None  # fraction of images on which file and teacher agree
    lost: int | None  # negative flips: teacher correct, file wrong
    won: int | None  # positive flips: file correct, teacher wrong
    flips: list[Flip]  # some of both, negative flips first
    calibration_error: float  # expected calibration error, 15 bins (1706.04599)


class Latency(Record):
    """Latency for one image, after warm-up. Some figures may be missing for a phone."""

    threads: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    runs: int | None
    statistic: Literal["median", "mean"] = "median"  # statistic of p50_ms, since some tools only give a mean
    peak_memory_bytes: int | None = None  # of the process, if the device's tool reports it


class Host(Record):
    """The machine on which latency was measured: figures of a desktop do not apply to a phone."""

    name: str
    processor: str
    cores: int | None
    runtime: str  # e.g. ai-edge-litert 2.3.0
    source: Literal["host", "device"] = "host"


class Candidate(Record):
    """One .tflite file and its figures."""

    name: str
    student: str
    variant: str
    file: str
    sha256: str
    bytes: int
    gzip_bytes: int
    baseline: bool = False
    failed: str | None = None  # reason if nothing could be measured
    read_as: list[str] = []  # how the input and outputs of another maker's file are interpreted
    warnings: list[str] = []  # reasons to doubt its figures
    parameters: int | None = None
    macs: int | None = None
    arena_bytes: int | None = None  # see tflite/interpreter.py for the method
    ops: dict[str, int] = {}
    sparsity: float | None = None  # fraction of zeros in the kernels
    full_int8: bool = False
    float_tensors: list[str] = []
    latency: list[Latency] = []
    figures: dict[Split, SplitFigures] = {}
    layers: list[LayerQuantization] = []
    calibration: Calibration | None = None
    rescue: FloatFallback | None = None
    # Of a file of texts: the words that speak most for each class, by its name.
    class_words: dict[str, list[str]] = Field({}, exclude_if=lambda words: not words)

    @property
    def arithmetic(self) -> str:
        """Describes the arithmetic of the file in words."""
        if self.full_int8:
            return "8-bit integers from input to output, verified from the file"
        if self.rescue is None:
            return self.variant
        count = len(self.rescue.layers)
        return f"{self.variant.split('-')[0]}, {count} layer{'s' * (count > 1)} in float"


class TeacherFigures(Record):
    """Figures of the teacher on the same images, as the reference."""

    sha256: str
    bytes: int
    parameters: int | None
    macs: int | None
    accuracy: dict[Split, float]


class Evaluation(Record):
    """Content of evaluation.json of a `ModelEvaluation`."""

    task: Task
    host: Host
    teacher: TeacherFigures | None
    images: dict[Split, int]
    candidates: list[Candidate]


class Limits(Record):
    """Limits of the choice; see SelectConfig. Accuracies are those of the validation split."""

    max_size: int | None = None
    max_latency_ms: float | None = None
    max_macs: int | None = None
    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None


class Verdict(Record):
    """Verdict on a candidate, with its reason."""

    candidate: str
    status: Literal["chosen", "front", "dominated", "over limit", "failed", "baseline"]
    reason: str


class Choice(Record):
    """Content of selection.json of a `Selection`."""

    limits: Limits
    objective: Literal["accuracy", "accuracy_strict", "size", "latency", "knee"]
    chosen: str | None  # None: no candidate satisfies the limits
    sha256: str | None
    front: list[str]  # smallest first
    verdicts: list[Verdict]


class Report(Record):
    """Content of OUT/report.json, described by schemas/report.schema.json."""

    version: Literal[1] = 1
    created: str  # ISO 8601, UTC
    config: dict[str, Any]
    data: dict[str, Any]  # DataManifest, without its file lists
    teacher: TeacherManifest
    students: StudentSetManifest
    evaluation: Evaluation
    choice: Choice
    curves: list[Epoch]
    teacher_forward_passes: int  # on training images: for the views, and in the training loop
    trained_teacher: TrainedTeacherManifest | None = None  # if the teacher was jointly trained
    quantization_error: list[QuantizationError] = []  # by student
    notes: list[str] = []  # files that could not be made, with reasons, and other notes
