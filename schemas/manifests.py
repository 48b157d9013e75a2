# SPDX-License-Identifier: Apache-2.0
"""The manifests that travel inside the artifacts: what a folder holds, by name and by digest.

Every artifact of ours is a folder with a `manifest.json`; files are named relative to it, with their SHA-256, so that a
manifest can be checked wherever the folder has been moved to. Shapes are [height, width, channels]; sizes are bytes;
accuracies are fractions in [0, 1].
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError, Learn2CompressError, first_fault
from learn2compress.schemas.scaling import Scaling

MANIFEST = "manifest.json"
Split = Literal["train", "validation", "test"]
ModalityName = Literal["image"]
DEFAULT_MODALITY: ModalityName = "image"  # of manifests that name none


class Record(BaseModel):
    """Immutable; a field it does not know is kept out loud, not silently dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class File(Record):
    """A file by name (relative to the manifest) and content."""

    path: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, folder: Path, path: str) -> "File":
        """Describes folder/path as it is on disk now."""
        return cls(path=path, sha256=file_sha256(folder / path), bytes=(folder / path).stat().st_size)


class Task(Record):
    """What is classified: the kind and the shape of an example, and the names of the classes, in label order.

    The modality says what the shape means (modalities/): of an image, it is [height, width, channels].
    """

    # Left out of a manifest where it is the default, so that manifests of images have the bytes that they always had.
    modality: ModalityName = Field(DEFAULT_MODALITY, exclude_if=lambda name: name == DEFAULT_MODALITY)
    input_shape: tuple[int, ...]
    classes: list[str]

    @model_validator(mode="after")
    def _has_the_shape_of_its_modality(self) -> "Task":
        if self.modality == "image" and len(self.input_shape) != 3:
            raise ValueError(f"input_shape must be [height, width, channels]; got {list(self.input_shape)}")
        return self


class BadFile(Record):
    """An example that could not be read."""

    source: str
    reason: str


class Unlabeled(Record):
    """Images without labels, in Split-unlabeled beside the splits: records as theirs, the label -1.

    No split: no statistics are taken of them, and nothing is measured on them.
    """

    count: int
    shards: list[str]


class DataManifest(Record):
    """Of `Examples`, at `manifest.json` beside the Split-* folders.

    A record is a tf.Example: `label` (int64), `id` (first 16 hex digits of the content's SHA-256), `source` (where it
    came from), and what the modality stores, of an image: `image` (height·width·channels raw uint8 bytes),
    `original_height`, `original_width`, `brightness`; its id is of shape and pixels. Within a split, records lie in the
    order of their ids, spread over shards by id: that order is random with respect to content and the same whatever the
    number of workers.
    """

    task: Task
    digest: str  # of the source files, see schemas/digests.py
    counts: dict[Split, int]
    per_class: dict[Split, list[int]]
    shards: dict[Split, list[str]]  # file names under Split-<split>/
    duplicates: dict[str, int]  # "train/test": how many images of one are in the other
    duplicate_examples: list[tuple[str, str]]  # some of them, by source
    skipped: list[BadFile]  # the first hundred
    skipped_count: int
    unlabeled: Unlabeled | None = None
    notes: list[str] = []  # what of the data is not used, or may not be meant so


class ViewRecipe(Record):
    """Which K views of a training image the teacher has seen; view 0 is the image itself.

    A view is a shift by (dy, dx) pixels, with reflection at the border, and possibly a mirroring left to right. The
    parameters of each view are stored with its logits, so that a student sees exactly the teacher's view.
    """

    count: int
    shift_pixels: tuple[int, int]  # largest |dy|, |dx|
    flip: bool
    seed: int


class TeacherManifest(Record):
    """Of a `Teacher`: the model file or folder, as it was given, and what was found out about it."""

    task: Task
    model: str  # file or folder, relative
    format: str
    sha256: str  # of the file, or the tree digest of the folder
    bytes: int
    output: Literal["logits", "probabilities"]
    output_name: str | None = None
    signature: str | None = None
    resize: bool = False
    scaling: Scaling
    class_order: list[int] | None = None
    parameters: int | None
    macs: int | None
    trainable: bool
    accuracy: dict[Split, float]  # validation and test
    notes: list[str] = []  # what may be wrong with how it is understood, or with its figures


class TeacherFeaturesManifest(Record):
    """Of the folder `features` of a `TeacherLogits`: a shard for each one of the examples, the same records in order.

    A record is a tf.Example: `id`, `features` (float32 bytes, views x width), `views` (as of the logits).
    """

    layer: str
    side: Literal["input", "output"]  # of the layer: which of the two the features are
    width: int
    shards: dict[Literal["train", "unlabeled"], list[str]]
    images: dict[Literal["train", "unlabeled"], int]
    forward_passes: int  # of the teacher for these alone, counted in images: one that gave logits too is not among them


class TeacherLogitsManifest(Record):
    """Of `TeacherLogits`: for each shard of the examples, a shard of the same name with the same records in order.

    A record is a tf.Example: `id`, `logits` (float16 bytes, views x classes), `views` (int16 bytes, views x 3: dy, dx,
    mirrored). Validation and test have one view, the image itself.
    """

    teacher_sha256: str
    data_digest: str
    examples_sha256: str = ""  # of the manifest of the examples; none where an older version wrote this
    recipe: ViewRecipe
    classes: int
    shards: dict[Split, list[str]]  # none of train where the teacher is to be trained along and is asked afterwards
    images: dict[Split, int]
    forward_passes: int  # of the teacher over training views, counted in images
    check_passes: int  # over held-out images: its accuracy, its fit, mirroring
    flip_accuracy: float | None = None  # of the teacher on mirrored validation images
    seconds: float
    features: TeacherFeaturesManifest | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Drops what older versions wrote: whether the logits of a fixed teacher lie elsewhere."""
        return {k: v for k, v in values.items() if k != "as_imported"} if isinstance(values, dict) else values

    def require_features(self) -> TeacherFeaturesManifest:
        """Returns the manifest of the features.

        Raises:
            DataError: The teacher's features were not taken.
        """
        if self.features is None:
            raise DataError(
                "the teacher's logits must have its features beside them; got none. "
                "Set distill.init: features and run again."
            )
        return self.features


class TrainedTeacherManifest(Record):
    """Manifest of a `TrainedTeacher`: what the students' training made of the teacher.

    Older versions wrote one of a fixed teacher as well, without `teacher`.
    """

    mode: Literal["fixed", "joint"]
    imported_sha256: str
    teacher: TeacherManifest | None = None
    learning_rate: float | None = None
    mutual_weight: float | None = None
    epochs: int = 0
    best_epoch: int | None = None  # whose weights these are: the best on the validation split
    forward_passes: int = 0  # in the loop, counted in images


class LayerQuantization(Record):
    """How a layer is brought to 8 bits."""

    layer: str
    type: str  # its class
    method: Literal["quantization-aware", "output-only", "post-training", "float"]
    why: str = ""  # where it is not quantization-aware


def quantized_how(layers: Sequence[LayerQuantization]) -> str:
    """Describes in words how a student with these layers is quantized."""
    methods = {layer.method for layer in layers}
    if "float" in methods:
        return "after training, with some layers in float"
    if "post-training" in methods:
        return "after training"
    return f"quantization-aware training{', for some layers of the output only' * ('output-only' in methods)}"


class Student(Record):
    """One member of a family."""

    name: str
    model: File  # tf_keras .h5; input: normalized pixels; output: logits
    parameters: int
    macs: int
    predicted_int8_bytes: int | None = None  # none: a user's own architecture, of which nothing is predicted
    validation_accuracy: float  # of the Keras model; only to follow the training
    sparsity: float = 0.0  # of the pruned kernels
    preflight: list[LayerQuantization] = []  # how each layer will come to 8 bits, found out before training


class Drop(Record):
    """What a change to one place of the students did to them, all else as it was."""

    share: float  # of the weights that were made zero, or of the channels that were removed
    accuracy_drop: float  # mean over the students that have the place; below zero: it got better
    divergence: float  # mean Kullback-Leibler divergence of the answers from what they were, in nats


class LayerSensitivity(Record):
    """Of one layer alone."""

    layer: str
    type: str
    weights: int  # in its kernel
    students: list[str]  # which have it
    zeros: list[Drop]  # its smallest weights made zero; none: it is left dense
    int8: Drop | None  # its weights and its output rounded to 8 bits
    sparsity: float | None = None  # the share of zeros that it was given


class ChannelSensitivity(Record):
    """Of the channels that several layers have in common: depthwise layers, residual sums."""

    group: str  # the first block that makes them
    blocks: list[str]  # all that do
    channels: int
    students: list[str]
    removed: list[Drop]  # the least important channels gone
    kept: int | None = None  # channels that it was left


class Sensitivity(Record):
    """How much each layer matters, each tried alone on a few images."""

    split: Literal["validation"] = "validation"
    images: int
    layers: list[LayerSensitivity]
    channels: list[ChannelSensitivity] = []  # before any were removed


class Initialization(Record):
    """What the students began as, if not at random."""

    kind: Literal["features", "students"]
    source_sha256: str  # of the teacher whose features they learned, or of the StudentSet (tree digest)
    new_logits: bool  # whether the layers of the logits began at random all the same
    feature_layer: str | None = None
    epochs: int = 0  # of learning features
    labeled_images: int = 0
    unlabeled_images: int = 0
    forward_passes: int = 0  # of the teacher for this alone, counted in images: each view once, whatever the epochs


class StudentSetManifest(Record):
    """Of a `StudentSet`: students smallest first, and the family they were cut from while they share parameters."""

    task: Task
    stage: Literal["distilled", "pruned"]
    normalization: Scaling
    teacher_sha256: str
    students: list[Student]
    family: File | None  # tf_keras .h5 with one output a student, in their order
    family_spec: dict[str, Any] | None  # as compression.family wrote it; none: the students are a user's own
    module: File | None = None  # the text of the user's own architecture, which defines its custom layers too
    curves: File  # curves.json: a list of Epoch
    events: list[File] = []  # the same for TensorBoard
    seed: int
    notes: list[str] = []
    sensitivity: Sensitivity | None = None
    initialization: Initialization | None = None


class Epoch(Record):
    """One line of a training curve."""

    stage: Literal["features", "distilled", "thinned", "pruned", "quantized"]
    epoch: int
    loss: dict[str, float]  # by student, train
    accuracy: dict[str, float]  # by student, validation
    learning_rate: float
    seconds: float
    teacher_loss: float | None = None  # where it is trained along: its own, train
    teacher_accuracy: float | None = None  # likewise, validation


class Calibration(Record):
    """The representative data set: from train only."""

    images: int
    split: Literal["train"] = "train"
    digest: str  # SHA-256 over the sorted ids


class LayerError(Record):
    """What 8 bits do to one operator of a file, all others being in float: see quantization/layer_error.py."""

    layer: str  # of the student
    op: str
    cause: Literal["weights", "range"]  # rounding of its kernel, or of what it gives
    sqnr_db: float | None  # of what it gives; none: nothing is lost
    rmse_over_scale: float
    logits_sqnr_db: float | None  # of the logits; what layers are ranked by
    changed: float  # share of images whose class changes


class QuantizationError(Record):
    """Of a student's int8 file, on some training images."""

    student: str
    model: str  # the file's name
    images: int
    logits_sqnr_db: float | None  # all layers in 8 bits
    changed: float
    layers: list[LayerError]  # worst first


class FloatFallback(Record):
    """Layers of a file that were kept in float, what they cost, and what they brought on the validation split."""

    model: str  # the full int8 file's name
    layers: list[str]
    bytes_added: int
    images: int
    float32_accuracy: float
    int8_accuracy: float
    accuracy: float


class OnDeviceModel(Record):
    """One .tflite file."""

    name: str  # student-variant
    student: str
    variant: str
    file: File
    layers: list[LayerQuantization] = []
    calibration: Calibration | None = None
    full_int8: bool = False  # proved from the file
    baseline: bool = False  # a plain conversion of the teacher, not a candidate
    rescue: FloatFallback | None = None  # int8, with some layers in float


class OnDeviceModelSetManifest(Record):
    """Of an `OnDeviceModelSet`."""

    task: Task
    normalization: Scaling
    teacher_sha256: str
    models: list[OnDeviceModel]
    curves: File
    events: list[File] = []
    seed: int
    quantization_error: list[QuantizationError] = []
    notes: list[str] = []  # what could not be made, and why


M = TypeVar("M", bound=BaseModel)


def write_manifest(folder: str | Path, manifest: BaseModel, name: str = MANIFEST) -> Path:
    """Writes a manifest, with sorted keys so that equal manifests are equal bytes."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def manifest_sha256(folder: str | Path) -> str:
    """Computes the digest of an artifact's manifest, which stands for the artifact's contents."""
    return file_sha256(Path(folder) / MANIFEST)


def read_manifest(folder: str | Path, kind: type[M], name: str = MANIFEST) -> M:
    """Reads a manifest.

    Raises:
        Learn2CompressError: It is missing or is not a `kind`.
    """
    path = Path(folder) / name
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Learn2CompressError(f"{path} must be a readable {kind.__name__}; {error}.") from error
    except ValidationError as error:
        raise Learn2CompressError(f"{path} must be a {kind.__name__}; {first_fault(error)}.") from error
