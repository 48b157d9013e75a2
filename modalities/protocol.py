# SPDX-License-Identifier: Apache-2.0
"""Defines what a modality provides, in small groups in the order in which an example meets them.

    source ─► Records ─► Views ─┬─► TeacherInput ─► teacher
                                └─► StudentInput ─► student ─► DeviceFormat ─► .tflite ─► Presentation

A *raw* example is what a source yields (`RawExample.content`: the decoded pixels of an image; the string of a text). A
*stored* example is what `Examples` holds after the conversion to the task's form. Training, views, the teacher and the
evaluator exchange batches of stored examples.

`Records`, `DeviceFormat` and `Presentation` import no TensorFlow, except in `Records.decode_tensor`; `Views`,
`TeacherInput` and `StudentInput` do. A modality imports each group only on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from learn2compress.schemas.config import DataConfig, TeacherImportConfig
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.manifests import AnyViewRecipe, Task
from learn2compress.schemas.scaling import Scaling

if TYPE_CHECKING:
    import tensorflow as tf

    from learn2compress.modalities.opened import OpenedClassifier
    from learn2compress.tflite.parsed_file import ParsedFile


class Records(Protocol):
    """Converts the examples of a task to their stored form and back.

    Attributes:
        feature: Name of the record's feature that holds the stored example.
        example_bytes: Size of a stored example in bytes, without packing; an estimate if sizes differ.
    """

    feature: str
    example_bytes: int

    def read_file(self, path: Path) -> Any:
        """Reads a raw example from a file.

        Raises:
            ValueError: The file holds no example; the message is the reason only.
        """

    def fit(self, raw: Any) -> Any:
        """Converts a raw example to the task's form."""

    def digest(self, example: Any) -> bytes:
        """Computes a SHA-256 of a raw or a stored example; equal examples have equal digests.

        That of the raw example determines id and shard; examples of equal stored digests are copies.
        """

    def split_key(self, raw: Any) -> bytes:
        """Computes the SHA-256 that determines the split if the source does not; near-duplicates have equal ones."""

    def encode(self, stored: Any) -> bytes:
        """Writes a stored example as the bytes of its feature."""

    def pack(self, raw: Any, stored: Any, file: bytes | None) -> bytes:
        """Writes a stored example in fewer bytes than `encode` if that is possible.

        Args:
            raw: Raw example.
            stored: Stored example.
            file: Bytes of the file from which the raw example was decoded, or None.
        """

    def decode(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Reads a batch, [examples, …], back from the bytes of its features, as `encode` or `pack` wrote them.

        Raises:
            DataError: A packed example is read with another decoder than that of its writer.
        """

    def decode_tensor(self, encoded: tf.Tensor) -> tf.Tensor:
        """Reads a batch in a TensorFlow graph, from [examples] string."""

    def statistics(self, raw: Any, stored: Any) -> dict[str, int | float]:
        """Measures the features for StatisticsGen, SchemaGen and ExampleValidator; see `Modality.statistics`."""


class Views(Protocol):
    """Makes the augmented views of training examples on which teacher and students run."""

    def width(self, recipe: AnyViewRecipe) -> int:
        """Returns the number of int16 parameters of a view, which are stored with the teacher's logits."""

    def mixes(self, recipe: AnyViewRecipe) -> bool:
        """Returns whether some views are made of two examples: each one, and its partner behind it in the shard."""

    def on_trial(self, config: TeacherImportConfig) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns a transformation of batches that views may contain only if the teacher keeps its accuracy on it.

        Returns:
            The transformation; None if the configuration decides, or if the modality has no such transformation.
        """

    def recipe(self, config: TeacherImportConfig, seed: int, passed: bool) -> AnyViewRecipe:
        """Makes the recipe of the views.

        Args:
            config: Section `teacher`.
            seed: Seed of the views.
            passed: Whether the teacher kept its accuracy on the transformation of `on_trial`.
        """

    def draw(self, ids: np.ndarray, recipe: AnyViewRecipe) -> np.ndarray:
        """Draws the parameters, [examples, views, width] int16, from ids and recipe; view 0 is the example itself."""

    def apply(self, batch: tf.Tensor, parameters: tf.Tensor, partners: tf.Tensor | None = None) -> tf.Tensor:
        """Makes a view of each example from its parameters, [examples, width]; also works in a graph.

        Args:
            batch: The stored examples.
            parameters: Their parameters of one view, see `draw`.
            partners: The partner of each example; required if the recipe `mixes`.
        """

    def labels(self, labels: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the labels of the views that `apply` makes, [examples]: -1 for a view that has none."""


@dataclass(frozen=True)
class InputFiles:
    """Files beside a teacher by which examples become its input, and the length of this input if the model leaves it
    open; images need none of them.

    Attributes:
        tokenizer: Tokenizer of texts, a tokenizer.json.
        vocabulary: Words of the ids.
        tokens: Number of ids.
    """

    tokenizer: Path | None = None
    vocabulary: Path | None = None
    tokens: int | None = None

    @classmethod
    def named_by(cls, config: TeacherImportConfig, task: Task | None = None) -> InputFiles:
        """Returns the files that the section `teacher` names, for examples of a task if it is known."""
        tokenizer, vocabulary = (Path(name) if name else None for name in (config.tokenizer, config.vocabulary))
        is_text = task is not None and task.modality == "text"
        return cls(tokenizer, vocabulary, task.input_shape[0] if task is not None and is_text else None)


class TeacherInput(Protocol):
    """Describes the input of a teacher, as read from the model's signature."""

    @property
    def batch(self) -> int | None:
        """Fixed batch size of the input; None if any size is accepted."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of an accepted stored example, with None for each size that the model leaves open."""

    @property
    def dtype(self) -> tf.DType:
        """Type of the input tensor."""

    def check_scaling(self, scaling: Scaling) -> None:
        """Checks a scaling.

        Raises:
            TeacherError: The input does not accept scaled examples.
        """

    def check_examples(self, shape: tuple[int, ...], scaling: Scaling, resize: bool) -> None:
        """Checks the shape of stored examples.

        Raises:
            TeacherError: The input does not accept examples of this shape.
        """

    def batch_size(self, shape: tuple[int, ...]) -> int:
        """Returns how many stored examples of a shape fit in memory for one inference."""

    def as_tensor(self, batch: np.ndarray) -> tf.Tensor:
        """Converts a batch of stored examples to a tensor."""

    def prepare(self, batch: tf.Tensor, scaling: Scaling, resize: bool) -> tf.Tensor:
        """Converts a batch of stored examples to the input of the model, as one tensor."""

    def arguments(self, prepared: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names the tensors of the model's inputs in a prepared batch."""

    def other_scalings(self, shape: tuple[int, ...], scaling: Scaling) -> Iterator[Scaling]:
        """Lists the scalings to try if the teacher's accuracy is low with the configured one."""

    def probes(self, count: int, shape: tuple[int, ...] | None, scaling: Scaling) -> np.ndarray:
        """Draws varied stored examples, for which a classifier's outputs differ.

        Args:
            count: Number of examples.
            shape: Shape of the data's examples, for sizes that the model leaves open; None if it is unknown.
            scaling: Scaling of the teacher.

        Raises:
            TeacherError: The scaling does not suit such examples.
        """

    def failure(self, probes: np.ndarray, reason: str) -> TeacherError:
        """Makes the error of a model that fails on probes.

        Args:
            probes: The stored examples.
            reason: First line of the model's own error.
        """


class StudentInput(Protocol):
    """Describes the input of a student's Keras model, and the input of its file in an app.

    Attributes:
        name: Name of the input tensor.
        normalization: Scaling of a student's input, (stored - mean) / std; the identity without normalization.
        few_operations: Whether a training step takes the time of its operations rather than of their arithmetic.
    """

    name: str
    normalization: Scaling
    few_operations: bool

    def spec(self, shape: tuple[int, ...]) -> tf.TensorSpec:
        """Describes a batch of stored examples of a shape."""

    def fit(self, batch: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
        """Converts a batch of stored examples to the shape that a student takes; unchanged if it is the same."""

    def normalize(self, batch: tf.Tensor) -> tf.Tensor:
        """Converts a batch of stored examples to a student's input."""

    def of_student(self, student: Any) -> StudentInput:
        """Returns the input of one student of a family, a Keras model, if it differs; else the same."""

    def app_input(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Makes the Keras input of a float file, as an app fills it, and the student's input computed from it."""

    def extremes(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Makes stored examples that span the range of an integer file's input; empty if no range is measured."""

    def representative(self, shape: tuple[int, ...], examples: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the extremes and stored examples as normalized batches of one, by which ranges are calibrated."""


class DeviceFormat(Protocol):
    """Opens and describes a .tflite file for apps and for the evaluator."""

    def open_classifier(self, source: ParsedFile | bytes | str | Path, **options: Any) -> OpenedClassifier:
        """Opens a file for inference on batches of stored examples, with the options of `tflite.interpreter`."""

    def fit(self, batch: np.ndarray, classifier: OpenedClassifier) -> np.ndarray:
        """Converts a batch of stored examples to the shape that a file takes; unchanged if it is the same."""

    def check_input(self, classifier: OpenedClassifier, shape: tuple[int, ...]) -> None:
        """Checks the input of a file.

        Raises:
            ModelFileError: The file does not accept examples of this shape.
        """

    def probe(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a batch of one simple stored example, for testing whether a file runs."""

    def class_words(self, source: ParsedFile | bytes | str | Path) -> dict[str, list[str]]:
        """Finds the words that speak for each class, the strongest first; empty if none are known."""

    def write_metadata(
        self,
        parsed: ParsedFile,
        *,
        name: str,
        made: str,
        labels: Sequence[str],
        output_name: str,
        normalization: Scaling,
        dictionary: bytes | None = None,
    ) -> None:
        """Adds the input's description, the labels and the normalization to a file, in place.

        Args:
            parsed: Parsed file.
            name: Name of the model.
            made: How the file was made, for its description.
            labels: Names of the classes in the order of the outputs.
            output_name: Name of the output in an app.
            normalization: Normalization of the file's input.
            dictionary: Dictionary of the students, as stored with them; None for other modalities.
        """


class Presentation(Protocol):
    """Presents examples and their form to people: in the report, in the lineage, in the bundle.

    Attributes:
        classifier: Name of a model of this modality, such as "image classifier".
        described: Form of the task's examples in words, such as "an image of 32x32 pixels".
        size: Form in a few characters, such as 32x32x3.
        input_format: Form in words for a bill of materials.
        snippets: Names of the bundle's programs that run the chosen file.
        golden_extras: Stored examples of hard cases, for which the bundle has golden vectors besides those of the data.
    """

    classifier: str
    described: str
    size: str
    input_format: str
    snippets: tuple[str, ...]

    @property
    def golden_extras(self) -> tuple[Any, ...]: ...

    def preview(self, stored: Any) -> str:
        """Makes a small preview of an example: a picture as a data URI, or one line of text."""

    def golden_file(self, stored: Any) -> tuple[str, bytes]:
        """Encodes an example losslessly as a file for an app; returns its suffix and its bytes."""

    def snippet_template(self, name: str) -> str:
        """Reads the Jinja template of one of `snippets`."""

    def snippet_facts(self, parsed: ParsedFile, classifier: OpenedClassifier) -> Mapping[str, Any]:
        """Collects the values for the templates about a file's input."""


class Modality(Protocol):
    """A kind of example, with all its groups.

    Attributes:
        name: Name in `Task.modality`.
        task_name: Name of the task for a bill of materials, such as "image classification".
        statistics: Names of the features that `Records.statistics` measures.
    """

    name: str
    task_name: str
    statistics: tuple[str, ...]

    def resolve_shape(
        self, config: DataConfig, own: tuple[int, ...] | None, default: tuple[int | None, ...] | None
    ) -> tuple[int, ...]:
        """Determines `Task.input_shape`.

        Args:
            config: Section `data`.
            own: Shape of the data's examples if all have the same shape, or None.
            default: Input shape of the teacher if it was read, or None.

        Raises:
            DataError: None of them determines the shape.
        """

    def with_shape(self, config: DataConfig, shape: tuple[int, ...]) -> DataConfig:
        """Returns the configuration with a determined shape, which is a parameter of the node that reads the data."""

    def records(self, task: Task) -> Records:
        """Returns the conversion of the task's examples to their stored form."""

    def views(self, task: Task) -> Views:
        """Returns the views of the task's training examples."""

    def teacher_input(self, path: Path, specs: Mapping[str, tf.TensorSpec], files: InputFiles) -> TeacherInput:
        """Reads the input of a model from its signature.

        Args:
            path: Path of the model, for error messages.
            specs: Shape, including the batch, and type of each input tensor by name.
            files: Files beside the model that the input needs.

        Raises:
            TeacherError: The input does not accept examples of this modality.
        """

    @property
    def student_input(self) -> StudentInput:
        """Description of the input of students and of their files."""

    @property
    def device_format(self) -> DeviceFormat:
        """Format of the .tflite files."""

    def presentation(self, task: Task) -> Presentation:
        """Returns the presentation of the task's examples."""
