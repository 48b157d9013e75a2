# SPDX-License-Identifier: Apache-2.0
"""What a kind of example must provide, in small groups that follow an example's way through the pipeline.

    source ─► Records ─► Views ─┬─► TeacherInput ─► teacher
                                └─► StudentInput ─► student ─► DeviceFormat ─► .tflite ─► Presentation

A *raw* example is what a source yields (`RawExample.content`: of an image, its decoded pixels; of a text, a string). A
*stored* example is what lies in `Examples` after it was brought to the task's form; a batch of stored examples is what
training, views, the teacher and the evaluator exchange.

`Records`, `DeviceFormat` and `Presentation` import no TensorFlow, except in `Records.decode_tensor`; `Views`,
`TeacherInput` and `StudentInput` do. A modality imports each group only on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from learn2compress.schemas.config import DataConfig, TeacherImportConfig
from learn2compress.schemas.manifests import Task, ViewRecipe
from learn2compress.schemas.scaling import Scaling

if TYPE_CHECKING:
    import tensorflow as tf

    from learn2compress.tflite.interpreter import Classifier
    from learn2compress.tflite.parsed_file import ParsedFile


class Records(Protocol):
    """How the examples of a task are stored.

    Attributes:
        feature: Name of the record's feature that holds the stored example.
        example_bytes: Size of a stored example; an estimate, where they differ.
    """

    feature: str
    example_bytes: int

    def read_file(self, path: Path) -> Any:
        """Reads a raw example from a file of its own. Raises ValueError, with the reason alone, if it is none."""

    def fit(self, raw: Any) -> Any:
        """Brings a raw example to the task's form."""

    def digest(self, stored: Any) -> bytes:
        """Computes the SHA-256 that decides on id, split and shard; equal examples have equal digests."""

    def encode(self, stored: Any) -> bytes:
        """Writes a stored example as the bytes of its feature."""

    def decode(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Reads a batch, [examples, …], back from the bytes of its features."""

    def decode_tensor(self, encoded: tf.Tensor) -> tf.Tensor:
        """Does the same in a TensorFlow graph, from [examples] string."""

    def statistics(self, raw: Any, stored: Any) -> dict[str, int | float]:
        """Measures what StatisticsGen, SchemaGen and ExampleValidator look at; see `Modality.statistics`."""


class Views(Protocol):
    """The augmented views of a training example on which teacher and students meet.

    Attributes:
        width: Number of int16 parameters of a view, which are stored beside the teacher's logits.
    """

    width: int

    def on_trial(self, config: TeacherImportConfig) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns a transformation of batches that views may hold only if the teacher stays as accurate on it, if any.

        It is None where the configuration decides, or where the modality has no such transformation.
        """

    def recipe(self, config: TeacherImportConfig, seed: int, passed: bool) -> ViewRecipe:
        """Settles the views; `passed` says whether the teacher stayed accurate on the transformation on trial."""

    def draw(self, ids: np.ndarray, recipe: ViewRecipe) -> np.ndarray:
        """Draws the parameters, [examples, views, width] int16, from ids and recipe alone; view 0 changes nothing."""

    def apply(self, batch: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Makes a view of each example from its parameters, [examples, width]; works in a graph, too."""


class TeacherInput(Protocol):
    """What a teacher's one input takes, as read from the model's signature."""

    @property
    def batch(self) -> int | None:
        """Number of examples that it takes at once; None where any number will do."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of a stored example that it takes, None for each size that the model leaves open."""

    @property
    def dtype(self) -> tf.DType:
        """Type of the tensor that it takes."""

    def check_scaling(self, scaling: Scaling) -> None:
        """Refuses a scaling that the input cannot take (TeacherError)."""

    def check_examples(self, shape: tuple[int, ...], scaling: Scaling, resize: bool) -> None:
        """Refuses stored examples of a shape that the input cannot take (TeacherError)."""

    def as_tensor(self, batch: np.ndarray) -> tf.Tensor:
        """Makes the tensor of a batch of stored examples."""

    def prepare(self, batch: tf.Tensor, scaling: Scaling, resize: bool) -> tf.Tensor:
        """Turns a batch of stored examples into the tensor that the model takes."""

    def other_scalings(self, shape: tuple[int, ...], scaling: Scaling) -> Iterator[Scaling]:
        """Lists the scalings worth trying where the teacher does not score under the configured one."""

    def probes(self, count: int, shape: tuple[int, ...] | None, scaling: Scaling) -> np.ndarray:
        """Draws stored examples that stir up different outputs, of the data's shape where the model leaves it open.

        Raises:
            TeacherError: The scaling does not suit them.
        """


class StudentInput(Protocol):
    """What a student's Keras model takes, and what its file takes from an app.

    Attributes:
        name: Of the input tensor.
        normalization: What a student takes is (stored - mean) / std; the identity where nothing is normalized.
    """

    name: str
    normalization: Scaling

    def spec(self, shape: tuple[int, ...]) -> tf.TensorSpec:
        """Describes a batch of stored examples of a shape."""

    def normalize(self, batch: tf.Tensor) -> tf.Tensor:
        """Turns a batch of stored examples into what a student takes."""

    def app_input(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Makes the Keras input of a float file, as an app fills it, and what a student takes of it."""

    def extremes(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Makes stored examples that span the range of an integer file's input; none where nothing is measured."""

    def representative(self, shape: tuple[int, ...], examples: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the extremes and stored examples as normalized batches of one, which set an integer file's ranges."""


class DeviceFormat(Protocol):
    """The .tflite file as an app and the evaluator see it."""

    def open_classifier(self, source: ParsedFile | bytes | str | Path, **options: Any) -> Classifier:
        """Opens a file for inference on batches of stored examples; the options are those of `tflite.interpreter`."""

    def check_input(self, classifier: Classifier, shape: tuple[int, ...]) -> None:
        """Refuses a file that takes other examples than those of a shape (ModelFileError)."""

    def probe(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a batch of one plain stored example, to see whether a file runs."""

    def write_metadata(
        self,
        parsed: ParsedFile,
        *,
        name: str,
        made: str,
        labels: Sequence[str],
        output_name: str,
        normalization: Scaling,
    ) -> None:
        """Adds the input's description, the labels and the normalization to a file, in place.

        Args:
            parsed: The file.
            name: Of the model.
            made: How it was made, for its description.
            labels: The classes, in the order of the outputs.
            output_name: What an app calls the output.
            normalization: What the file's input means.
        """


class Presentation(Protocol):
    """How people see examples and their form: in the report, in the lineage, in the bundle.

    Attributes:
        classifier: Name of such a model, as in "image classifier".
        described: An example of the task's form, as in "an image of 32x32 pixels".
        size: The form in a few characters, such as 32x32x3.
        input_format: The same in words, for a bill of materials.
        snippets: Names of the bundle's programs that run the chosen file.
    """

    classifier: str
    described: str
    size: str
    input_format: str
    snippets: tuple[str, ...]

    def preview(self, stored: np.ndarray) -> str:
        """Draws an example small, as a data URI."""

    def golden_file(self, stored: np.ndarray) -> tuple[str, bytes]:
        """Writes an example as the file that an app would read: its suffix and its bytes, without loss."""

    def snippet_template(self, name: str) -> str:
        """Reads the Jinja template of one of `snippets`."""

    def snippet_facts(self, parsed: ParsedFile, classifier: Classifier) -> Mapping[str, Any]:
        """Collects what the templates say of a file's input."""


class Modality(Protocol):
    """A kind of example.

    Attributes:
        name: In `Task.modality`.
        task_name: Of what is done with the examples, for a bill of materials.
        statistics: Names of the features that `Records.statistics` measures.
    """

    name: str
    task_name: str
    statistics: tuple[str, ...]

    def resolve_shape(
        self, config: DataConfig, own: tuple[int, ...] | None, default: tuple[int | None, ...] | None
    ) -> tuple[int, ...]:
        """Settles `Task.input_shape`.

        Args:
            config: What the user says.
            own: Shape of the data's examples, where all have the same.
            default: What the teacher takes, where it was looked at.

        Raises:
            DataError: Nobody says.
        """

    def with_shape(self, config: DataConfig, shape: tuple[int, ...]) -> DataConfig:
        """Writes a settled shape into the configuration, as a parameter of the node that reads the data."""

    def records(self, task: Task) -> Records:
        """How the task's examples are stored."""

    def views(self, task: Task) -> Views:
        """The views of the task's training examples."""

    def teacher_input(self, path: Path, shape: tuple[int | None, ...] | None, dtype: tf.DType) -> TeacherInput:
        """Reads a model's input off its signature.

        Args:
            path: The model, for errors.
            shape: Of the input tensor with its batch; None where the rank is unknown.
            dtype: Of the input tensor.

        Raises:
            TeacherError: It is no input for such examples.
        """

    @property
    def student_input(self) -> StudentInput:
        """What students and their files take."""

    @property
    def device_format(self) -> DeviceFormat:
        """What the .tflite files are."""

    def presentation(self, task: Task) -> Presentation:
        """How people see the task's examples."""
