# SPDX-License-Identifier: Apache-2.0
"""What was measured of each file, and what was chosen: the records behind report.json and report.html.

Everything here was measured from the bytes that would ship. The validation split chooses; the test split is for the
final figures. Accuracies, confidences and calibration errors are fractions in [0, 1]; latencies are milliseconds.
"""

from typing import Any, Literal

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
THUMBNAILS = "thumbnails.json"  # pictures of the flips as data URIs by example id, in ModelEvaluation
SELECTION = "selection.json"  # a Choice, in Selection


class Interval(Record):
    """A 95 % confidence interval (Wilson's score interval for a proportion)."""

    low: float
    high: float


class Flip(Record):
    """An image on which the student and the teacher differ, one of them being right."""

    id: str
    source: str
    label: int
    teacher: int
    student: int


class ClassFigures(Record):
    """Of one class."""

    precision: float
    recall: float
    f1: float
    images: int


class SplitFigures(Record):
    """Of one file on one split."""

    images: int
    top1: float
    top1_interval: Interval
    topk: float
    k: int
    per_class: list[ClassFigures]
    confusion: list[list[int]]  # [label][prediction]; adds up to `images`
    agreement: float | None  # share of images on which file and teacher agree
    lost: int | None  # teacher right, file wrong
    won: int | None  # file right, teacher wrong
    flips: list[Flip]  # some of both, lost ones first
    calibration_error: float  # expected calibration error, 15 bins (1706.04599)


class Latency(Record):
    """Of one image, after warm-up. A phone's figures may lack some of it."""

    threads: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    runs: int | None
    statistic: Literal["median", "mean"] = "median"  # what p50_ms holds: some tools print nothing but a mean
    peak_memory_bytes: int | None = None  # of the process, where the device's tool reports it


class Host(Record):
    """Where latency was measured: a desktop's figures are not a phone's."""

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
    failed: str | None = None  # why nothing could be measured
    read_as: list[str] = []  # of a file of another maker: how its input and its outputs are read
    warnings: list[str] = []  # what may be wrong with its figures
    parameters: int | None = None
    macs: int | None = None
    arena_bytes: int | None = None  # see tflite/interpreter.py for the method
    ops: dict[str, int] = {}
    sparsity: float | None = None  # share of zeros in the kernels
    full_int8: bool = False
    float_tensors: list[str] = []
    latency: list[Latency] = []
    figures: dict[Split, SplitFigures] = {}
    layers: list[LayerQuantization] = []
    calibration: Calibration | None = None
    rescue: FloatFallback | None = None

    @property
    def arithmetic(self) -> str:
        """In what the file computes, in words."""
        if self.full_int8:
            return "8-bit integers from input to output, verified from the file"
        if self.rescue is None:
            return self.variant
        count = len(self.rescue.layers)
        return f"{self.variant.split('-')[0]}, {count} layer{'s' * (count > 1)} in float"


class TeacherFigures(Record):
    """The reference: the teacher on the same images."""

    sha256: str
    bytes: int
    parameters: int | None
    macs: int | None
    accuracy: dict[Split, float]


class Evaluation(Record):
    """Of a `ModelEvaluation`, in evaluation.json."""

    task: Task
    host: Host
    teacher: TeacherFigures | None
    images: dict[Split, int]
    candidates: list[Candidate]


class Limits(Record):
    """What the choice must satisfy; see SelectConfig. Accuracies are the validation split's."""

    max_size: int | None = None
    max_latency_ms: float | None = None
    max_macs: int | None = None
    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None


class Verdict(Record):
    """What became of a candidate, and why."""

    candidate: str
    status: Literal["chosen", "front", "dominated", "over limit", "failed", "baseline"]
    reason: str


class Choice(Record):
    """Of a `Selection`, in selection.json."""

    limits: Limits
    objective: Literal["accuracy", "size", "latency", "knee"]
    chosen: str | None  # none: nothing satisfies the limits
    sha256: str | None
    front: list[str]  # smallest first
    verdicts: list[Verdict]


class Report(Record):
    """OUT/report.json. schemas/report.schema.json is its JSON Schema."""

    version: Literal[1] = 1
    created: str  # ISO 8601, UTC
    config: dict[str, Any]
    data: dict[str, Any]  # DataManifest, without its file lists
    teacher: TeacherManifest
    students: StudentSetManifest
    evaluation: Evaluation
    choice: Choice
    curves: list[Epoch]
    teacher_forward_passes: int  # over training images: of the views, and in the loop
    trained_teacher: TrainedTeacherManifest | None = None  # where the teacher was trained along
    quantization_error: list[QuantizationError] = []  # by student
    notes: list[str] = []  # files that could not be made, and why
