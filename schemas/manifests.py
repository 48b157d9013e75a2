# SPDX-License-Identifier: Apache-2.0
"""The manifests in the artifacts: the contents of a folder by name and digest.

Every artifact of this package is a folder with a `manifest.json`; files are named relative to it, with their SHA-256,
so that a manifest can be checked after the folder was moved. Shapes are those of the modality; sizes are in bytes;
accuracies are fractions in [0, 1].
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError, Learn2CompressError, first_fault
from learn2compress.schemas.files.inside import RelativePath
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.records.base import Record as Record
from learn2compress.schemas.records.views import AnyViewRecipe as AnyViewRecipe
from learn2compress.schemas.records.views import TextViewRecipe as TextViewRecipe
from learn2compress.schemas.records.views import ViewRecipe as ViewRecipe
from learn2compress.schemas.scaling import Scaling

MANIFEST = "manifest.json"
Split = Literal["train", "validation", "test"]
ModalityName = Literal["image", "text"]
DEFAULT_MODALITY: ModalityName = "image"  # the modality of manifests that name none


class File(Record):
    """A file, by its name relative to the manifest and its content."""

    path: RelativePath
    sha256: str
    bytes: int

    @classmethod
    def of(cls, folder: Path, path: str) -> "File":
        """Describes the present content of folder/path."""
        return cls(path=path, sha256=file_sha256(folder / path), bytes=(folder / path).stat().st_size)


class Task(Record):
    """The classification task: modality and shape of an example, and the names of the classes in label order.

    The modality determines the meaning of the shape (modalities/): for images, it is [height, width, channels]; for
    texts, it is [tokens], the number of ids that a student reads.
    """

    # Left out of a manifest if it is the default, so that the bytes of manifests of images do not change.
    modality: ModalityName = Field(DEFAULT_MODALITY, exclude_if=lambda name: name == DEFAULT_MODALITY)
    input_shape: tuple[int, ...]
    classes: list[str]

    @model_validator(mode="after")
    def _has_the_shape_of_its_modality(self) -> "Task":
        if self.modality == "image" and len(self.input_shape) != 3:
            raise ValueError(f"input_shape must be [height, width, channels]; got {list(self.input_shape)}")
        if self.modality == "text" and (len(self.input_shape) != 1 or self.input_shape[0] < 1):
            raise ValueError(f"input_shape must be [tokens], at least one; got {list(self.input_shape)}")
        return self


class BadFile(Record):
    """An example that could not be read."""

    source: str
    reason: str


class Unlabeled(Record):
    """Examples without labels, in Split-unlabeled beside the splits, with the same records and the label -1.

    This is not a split: no statistics are computed for these examples, and nothing is measured on them. In a
    `TeacherLogits`, these are the logits of such examples.
    """

    count: int
    shards: list[RelativePath]


class DataManifest(Record):
    """Manifest of `Examples`, at `manifest.json` beside the Split-* folders.

    A record is a tf.Example: `label` (int64), `id` (first 16 hex digits of a SHA-256), `source` (its origin), and the
    features of the modality; for images: `image` (height·width·channels raw uint8 bytes, or a JPEG or WebP file of
    another size, see modalities/image/packed_pixels.py), `original_height`, `original_width`, `brightness`; for texts:
    `text` (UTF-8), `words`, `characters`. The id is of the example as its source provides it, for images of shape and
    pixels before they are resized. Within a split, records are in the order of their ids, distributed over shards by
    id: this order is random with respect to content, and independent of the number of workers.
    """

    task: Task
    digest: str  # digest of the source files, see schemas/digests.py
    counts: dict[Split, int]
    per_class: dict[Split, list[int]]
    shards: dict[Split, list[RelativePath]]  # file names under Split-<split>/
    duplicates: dict[str, int]  # "train/test": number of images of one split that are in the other
    duplicate_examples: list[tuple[str, str]]  # some of the duplicates, by source
    skipped: list[BadFile]  # the first hundred
    skipped_count: int
    unlabeled: Unlabeled | None = None
    notes: list[str] = []  # what of the data is not used, or may not be meant so
    # Of texts: those of one split whose words are those of a text in another, in pairs as in `duplicates`, with it.
    near_duplicates: dict[str, int] = Field({}, exclude_if=lambda counts: not counts)
    storage: Literal["raw", "encoded"] = Field("raw", exclude_if=lambda storage: storage == "raw")  # see `data.storage`


class TeacherManifest(Record):
    """Manifest of a `Teacher`: the unchanged model file or folder, and its detected properties."""

    task: Task
    model: RelativePath  # path of the file or folder
    format: str
    sha256: str  # digest of the file, or tree digest of the folder
    bytes: int
    output: Literal["logits", "probabilities"]
    output_name: str | None = None
    signature: str | None = None
    resize: bool = False
    scaling: Scaling
    class_order: list[int] | None = None
    # Files beside the model by which texts become its ids, left out where there are none.
    tokenizer: File | None = Field(None, exclude_if=lambda file: file is None)
    vocabulary: File | None = Field(None, exclude_if=lambda file: file is None)
    parameters: int | None
    macs: int | None
    trainable: bool
    accuracy: dict[Split, float]  # validation and test
    notes: list[str] = []  # what may be wrong with how it is understood, or with its figures


class TeacherFeaturesManifest(Record):
    """Manifest of the folder `features` of a `TeacherLogits`: a shard for each shard of the examples.

    A record is a tf.Example, in the order of the examples: `id`, `features` (float32 bytes, views x width), `views` (as
    for the logits).
    """

    layer: str
    side: Literal["input", "output"]  # whether the features are the input or the output of the layer
    width: int
    shards: dict[Literal["train", "unlabeled"], list[RelativePath]]
    images: dict[Literal["train", "unlabeled"], int]
    forward_passes: int  # images in passes for features alone, without those in passes that also computed logits


class TeacherLogitsManifest(Record):
    """Manifest of `TeacherLogits`: a shard for each shard of the examples, of the same name and with the same order.

    A record is a tf.Example: `id`, `logits` (float16 bytes, views x classes), `views` (int16 bytes, views x parameters:
    of images dy, dx, mirrored, or others, see modalities/image/views). Validation and test have one view, the example
    itself.
    """

    teacher_sha256: str
    data_digest: str
    examples_sha256: str = ""  # digest of the examples' manifest; empty if written by an older version
    recipe: AnyViewRecipe
    classes: int
    shards: dict[Split, list[RelativePath]]  # without train for a teacher to be trained jointly
    images: dict[Split, int]
    forward_passes: int  # of the teacher on training views, in images
    check_passes: int  # of the teacher on held-out images, for its accuracy, input scaling and mirroring
    flip_accuracy: float | None = None  # accuracy of the teacher on mirrored validation images
    seconds: float
    features: TeacherFeaturesManifest | None = None
    # Logits on K views of the examples without labels, if students learn from them.
    unlabeled: Unlabeled | None = Field(None, exclude_if=lambda unlabeled: unlabeled is None)

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Drops a field of older versions: whether the logits of a fixed teacher are stored elsewhere."""
        return {k: v for k, v in values.items() if k != "as_imported"} if isinstance(values, dict) else values

    def require_features(self) -> TeacherFeaturesManifest:
        """Returns the manifest of the features.

        Raises:
            DataError: The teacher's features were not computed.
        """
        if self.features is None:
            raise DataError(
                "the artifact of the teacher's logits must contain its features; got none. "
                "Set distill.init: features and run again."
            )
        return self.features


class TrainedTeacherManifest(Record):
    """Manifest of a `TrainedTeacher`: the teacher after joint training with the students.

    Older versions wrote one of a fixed teacher as well, without `teacher`.
    """

    mode: Literal["fixed", "joint"]
    imported_sha256: str
    teacher: TeacherManifest | None = None
    learning_rate: float | None = None
    mutual_weight: float | None = None
    epochs: int = 0
    best_epoch: int | None = None  # epoch of the weights: the best one on the validation split
    forward_passes: int = 0  # in the training loop, in images


class LayerQuantization(Record):
    """Quantization method of a layer."""

    layer: str
    type: str  # class of the layer
    method: Literal["quantization-aware", "output-only", "post-training", "float"]
    why: str = ""  # reason if it is not quantization-aware


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
    predicted_int8_bytes: int | None = None  # None for a user-defined architecture, for which there is no prediction
    validation_accuracy: float  # of the Keras model, to monitor the training
    sparsity: float = 0.0  # of the pruned kernels
    preflight: list[LayerQuantization] = []  # quantization method of each layer, determined before training


class Drop(Record):
    """Effect of a perturbation of one place of the students alone."""

    share: float  # fraction of weights that were set to zero, or of channels that were removed
    accuracy_drop: float  # mean over the students that have the place; negative if the accuracy increased
    divergence: float  # mean Kullback-Leibler divergence of the outputs from the unperturbed ones, in nats


class LayerSensitivity(Record):
    """Sensitivity of one layer."""

    layer: str
    type: str
    weights: int  # number of weights in its kernel
    students: list[str]  # students that have it
    zeros: list[Drop]  # with its smallest weights set to zero; empty: it stays dense
    int8: Drop | None  # with its weights and its output rounded to 8 bits
    sparsity: float | None = None  # allocated fraction of zeros


class ChannelSensitivity(Record):
    """Sensitivity of a group of channels that several layers share through depthwise layers and residual sums."""

    group: str  # first block that produces the channels
    blocks: list[str]  # all blocks that produce them
    channels: int
    students: list[str]
    removed: list[Drop]  # without the least important channels
    kept: int | None = None  # number of channels that are kept


class Sensitivity(Record):
    """Sensitivity of each layer and channel group, each perturbed alone, on a few images."""

    split: Literal["validation"] = "validation"
    images: int
    layers: list[LayerSensitivity]
    channels: list[ChannelSensitivity] = []  # before channel pruning


class Initialization(Record):
    """Initialization of the students, if it is not random."""

    kind: Literal["features", "students", "teacher"]
    source_sha256: str  # digest of the teacher that they are cut out of or whose features they learned, or of the set
    new_logits: bool  # whether the layers of the logits were initialized at random nevertheless
    feature_layer: str | None = None
    epochs: int = 0  # of feature distillation
    labeled_images: int = 0
    unlabeled_images: int = 0
    forward_passes: int = 0  # of the teacher for features alone, in images: each view once for any number of epochs


class StudentSetManifest(Record):
    """Manifest of a `StudentSet`: students, smallest first, and the family that they are parts of, if there is one."""

    task: Task
    stage: Literal["distilled", "pruned"]
    normalization: Scaling
    teacher_sha256: str
    students: list[Student]
    family: File | None  # tf_keras .h5 with an output for each student, in their order
    family_spec: dict[str, Any] | None  # written by compression.family; None for a user-defined architecture
    module: File | None = None  # text of the user-defined architecture, including its custom layers
    trunk: dict[str, Any] | None = Field(None, exclude_if=lambda trunk: trunk is None)  # by compression.trunk
    curves: File | None = None  # curves.json: a list of Epoch; None in a report
    events: list[File] = []  # curves for TensorBoard
    seed: int
    notes: list[str] = []
    sensitivity: Sensitivity | None = None
    initialization: Initialization | None = None
    dictionary: File | None = None  # dictionary.json of students of texts, see modalities/text/dictionary.py

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of the students' images if it may differ from the task's; None: the task's."""
        return tuple(self.trunk["input_shape"]) if self.trunk else None


class Epoch(Record):
    """A point of a training curve."""

    stage: Literal["features", "distilled", "thinned", "pruned", "quantized"]  # thinned: after channel pruning
    epoch: int
    loss: dict[str, float]  # on train, by student
    accuracy: dict[str, float]  # on validation, by student
    learning_rate: float
    seconds: float
    teacher_loss: float | None = None  # loss of a jointly trained teacher on train
    teacher_accuracy: float | None = None  # accuracy of a jointly trained teacher on validation


class Calibration(Record):
    """The representative data set, which is from the training split only."""

    images: int
    split: Literal["train"] = "train"
    digest: str  # SHA-256 of the sorted ids


class LayerError(Record):
    """Quantization error of one operator of a file with all others in float: see quantization/layer_error.py."""

    layer: str  # layer of the student
    op: str
    cause: Literal["weights", "range"]  # rounding of its kernel, or of its output
    sqnr_db: float | None  # of its output; None: no error
    rmse_over_scale: float
    logits_sqnr_db: float | None  # of the logits, by which layers are ranked; None: no error
    changed: float  # fraction of images whose predicted class changes


class QuantizationError(Record):
    """Quantization error of a student's int8 file, on some training images."""

    student: str
    model: str  # name of the file
    images: int
    logits_sqnr_db: float | None  # with all layers in 8 bits
    changed: float
    layers: list[LayerError]  # largest error first


class FloatFallback(Record):
    """Layers of a mixed-precision file in float, their cost in bytes, and the accuracies on the validation split."""

    model: str  # name of the full int8 file
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
    full_int8: bool = False  # verified from the file
    baseline: bool = False  # a plain conversion of the teacher, not a candidate
    rescue: FloatFallback | None = None  # if it is mixed-precision: int8 with some layers in float


class OnDeviceModelSetManifest(Record):
    """Manifest of an `OnDeviceModelSet`."""

    task: Task
    normalization: Scaling
    teacher_sha256: str
    models: list[OnDeviceModel]
    curves: File
    events: list[File] = []
    seed: int
    quantization_error: list[QuantizationError] = []
    notes: list[str] = []  # files that could not be made, with reasons, and other notes


M = TypeVar("M", bound=BaseModel)


def write_manifest(folder: str | Path, manifest: BaseModel, name: str = MANIFEST) -> Path:
    """Writes a manifest, with sorted keys so that equal manifests have equal bytes.

    Args:
        folder: Artifact directory.
        manifest: Manifest to write.
        name: Name of the file.

    Returns:
        Path of the file.
    """
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
    return path


def manifest_sha256(folder: str | Path) -> str:
    """Computes the digest of an artifact's manifest, which identifies the artifact's contents."""
    return file_sha256(Path(folder) / MANIFEST)


def read_manifest(folder: str | Path, kind: type[M], name: str = MANIFEST) -> M:
    """Reads a manifest.

    Args:
        folder: Artifact directory.
        kind: Class of the manifest.
        name: Name of the file.

    Raises:
        Learn2CompressError: The file is missing or is not a manifest of this class.
    """
    path = Path(folder) / name
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Learn2CompressError(f"{path} must be a readable {kind.__name__}; {error}.") from error
    except ValidationError as error:
        raise Learn2CompressError(f"{path} must be a {kind.__name__}; {first_fault(error)}.") from error
