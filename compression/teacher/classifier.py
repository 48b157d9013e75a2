# SPDX-License-Identifier: Apache-2.0
"""The user's pre-trained classifier as one thing: examples in, logits out, whatever saved it.

The differences that a teacher may have are settled here once, so that distillation, pruning, quantization and
evaluation see none of them: the scaling of pixels, probabilities instead of logits, a fixed batch, an order
of classes of its own, a single unit for two classes. Whether it fits the data is judged in fit.py.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from learn2compress.compression.teacher.batching import in_batches
from learn2compress.compression.teacher.constants import with_constants
from learn2compress.compression.teacher.formats import TeacherFormat, describe_file
from learn2compress.compression.teacher.models import OpenedModel, before_softmax, open_model
from learn2compress.compression.teacher.probes import check_finite, run_probes, tell_teacher_output
from learn2compress.modalities import InputFiles, Modality
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import Scaling

# log(0) has no use as a logit. Float32 softmax still tells classes apart far below Keras' usual 1e-7, and
# what it tells is what a student learns from.
PROBABILITY_FLOOR = 1e-12
# Of a single unit the probability of no is 1 - p, which float32 does not tell from 1 any closer.
_UNIT_FLOOR = 1e-7


@dataclass(frozen=True, eq=False)
class LoadedTeacher:
    """A teacher, ready for inference.

    classes: the number of logits, after `class_order`.
    outputs: the number of the model's own outputs; 1 for the single unit of a yes-or-no model, of two classes.
    output: what the model itself returns; `logits` returns logits in either case.
    parameters, macs: None where they cannot be had; macs are multiply-accumulates of one image.
    trainable: whether the teacher can be trained along with its students.
    keras_model: one input, one output, without scaling and class order; None for a SavedModel.
    class_order: for each class of the data, the index of the model's output that stands for it.
    resize: images of another size are resized to the model's (bilinear, antialiased).
    """

    path: Path
    format: TeacherFormat
    size_bytes: int
    outputs: int
    classes: int
    output: Literal["logits", "probabilities"]
    parameters: int | None
    macs: int | None
    scaling: Scaling
    class_order: tuple[int, ...] | None
    resize: bool
    opened: OpenedModel = field(repr=False)
    # Shared by all copies under other scalings: tracing a deep model takes seconds.
    _compiled: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def keras_model(self) -> Any | None:
        return self.opened.keras_model

    @property
    def trainable(self) -> bool:
        return self.opened.keras_model is not None

    def with_scaling(self, scaling: Scaling) -> "LoadedTeacher":
        """Return the same model under another scaling of its pixels.

        Raises:
            TeacherError: the model does not take pixels so scaled.
        """
        self.opened.input.check_scaling(scaling)
        return dataclasses.replace(self, scaling=scaling)

    def tf_logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Compute logits, within a graph or outside.

        Args:
            images: [batch, height, width, channels], uint8, or floats in 0..255.
            training: True to train the teacher itself: batch statistics and dropout as in training.

        Returns:
            [batch, classes] float32. Of a teacher that returns probabilities, their logarithms; in training, what
            its softmax is taken of, where the model ends in one: of a probability of 0, which is the one to learn
            from, the logarithm has no gradient.
        """
        if not training or self.output == "logits":
            return self.as_logits(self.apply(lambda inputs: self.opened.call(inputs, training), images))
        with before_softmax(self.opened.keras_model) as cut:
            values = self.apply(lambda inputs: self.opened.call(inputs, True), images)
        return self._in_order(values) if cut else self.as_logits(values)

    def logits(self, images: np.ndarray, must_be_finite: bool = True) -> np.ndarray:
        """Compute logits of any number of images, a piece at a time, with the weights of the first call.

        Args:
            images: [batch, height, width, channels], uint8, or floats in 0..255.

        Returns:
            [batch, classes] float32.

        Raises:
            TeacherError: the images do not have the teacher's shape, or its outputs hold NaN or infinity.
        """
        values = self.in_pieces("answers", lambda inputs: self.opened.call(inputs, False), images)
        if must_be_finite:
            check_finite(self.path, values)
        return self.as_logits(tf.constant(values)).numpy()

    def check_examples(self, shape: tuple[int, ...]) -> None:
        """Check that examples of a shape can be shown to the teacher.

        Raises:
            TeacherError: they differ from what it takes; with the remedy.
        """
        self.opened.input.check_examples(shape, self.scaling, self.resize)

    def _prepare(self, batch: tf.Tensor) -> tf.Tensor:
        return self.opened.input.prepare(batch, self.scaling, self.resize)

    def as_logits(self, values: tf.Tensor) -> tf.Tensor:
        """Turn what the model itself returns, [batch, outputs], into logits of the data's classes, in their order."""
        if self.outputs == 1:
            if self.output == "probabilities":
                sure = tf.clip_by_value(values, _UNIT_FLOOR, 1 - _UNIT_FLOOR)
                values = tf.math.log(sure) - tf.math.log(1 - sure)
            return self._in_order(tf.concat([tf.zeros_like(values), values], axis=-1))
        if self.output == "probabilities":
            values = tf.math.log(tf.clip_by_value(values, PROBABILITY_FLOOR, 1.0))
        return self._in_order(values)

    def _in_order(self, values: tf.Tensor) -> tf.Tensor:
        values = tf.ensure_shape(values, [None, max(2, self.outputs)])
        return values if self.class_order is None else tf.gather(values, self.class_order, axis=-1)

    def apply(self, call: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        """Call a function of the model's own inputs, such as a part of it, on images as the data has them.

        Returns:
            [batch, …] float32.
        """
        return in_batches(call, self._prepare(images), self.opened.input.batch)

    def in_pieces(self, key: str, call: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> np.ndarray:
        """Call a function of the model's own inputs on any number of images, in pieces that fit in memory.

        Args:
            key: stands for `call`, which is compiled once under this name and the shape of its inputs.
        """
        images = np.asarray(images)
        self.check_examples(images.shape[1:])
        if len(images) == 0:
            # Some kernels fail on an empty batch; the shape of an answer is that to any image.
            empty = (
                np.zeros((1, *images.shape[1:]), images.dtype) if images.dtype != object else np.array([b""], object)
            )
            return self.in_pieces(key, call, empty)[:0]
        step = self.opened.input.batch_size(images.shape[1:])
        pieces = []
        for start in range(0, len(images), step):
            inputs = self._prepare(self.opened.input.as_tensor(images[start : start + step]))
            pieces.append(self._compile(key, call, tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype))(inputs))
        return np.concatenate(pieces)

    def _compile(self, key: str, call: Callable[[tf.Tensor], tf.Tensor], inputs: tf.TensorSpec) -> Any:
        if (key, inputs) not in self._compiled:
            # Not autographed: what is called is Keras' or TensorFlow's own, or written for graphs.
            function = tf.function(lambda images: in_batches(call, images, self.opened.input.batch), autograph=False)
            self._compiled[key, inputs] = with_constants(function.get_concrete_function(inputs))
        return self._compiled[key, inputs]


def load_teacher(
    path: str | Path,
    *,
    scaling: Scaling | str = "none",
    signature: str | None = None,
    output_name: str | None = None,
    class_order: list[int] | tuple[int, ...] | None = None,
    skip_class: list[int] | tuple[int, ...] | None = None,
    resize: bool = False,
    example_shape: tuple[int, ...] | None = None,
    modality: Modality | None = None,
    files: InputFiles | None = None,
    class_names: Sequence[str] | None = None,
    trust: bool = False,
) -> LoadedTeacher:
    """Load a pre-trained classifier and look at what it returns.

    Args:
        path: a SavedModel folder, a .keras or an .h5 file, written by Keras 3, Keras 2 or TensorFlow.
        scaling: what the model expects of pixels.
        signature: which of a SavedModel's signatures; by default serving_default, or the only one.
        output_name: which of several outputs.
        class_order: for each class of the data, the index of the model's output that stands for it. It may
            leave outputs out.
        skip_class: indices of outputs that stand for no class of the data, such as a background class; the others
            keep their order.
        resize: whether images of another size are resized to the model's.
        example_shape: of the data, used where the model leaves its own open: of images (height, width, channels).
        modality: of the examples; default: images.
        files: files beside the model by which examples become its input.
        class_names: names of the data's classes, by which those that the model itself returns are put in order.
        trust: whether a SavedModel may use files, the network or Python.

    Raises:
        TeacherError: the file cannot be loaded, it could do more than compute, or it is no classifier of such examples
            with one output per class.
        ConfigError: there is no such scaling.
    """
    description = describe_file(path)
    scaling = Scaling.named(scaling) if isinstance(scaling, str) else scaling
    opened = open_model(description, signature, output_name, modality, files, trust)
    opened.input.check_scaling(scaling)
    values, facts = run_probes(description.path, opened, scaling, example_shape)
    outputs = max(2, values.shape[1])
    order = _check_class_order(description.path, class_order, outputs)
    if order is None and skip_class is None and class_names is not None:
        order = _order_of_names(opened, scaling, example_shape, class_names, outputs)
    if skip_class is not None:
        order = _without(description.path, skip_class, outputs, order)
    open_shape = example_shape is None and None in opened.input.shape
    return LoadedTeacher(
        path=description.path,
        format=description.format,
        size_bytes=description.size_bytes,
        outputs=values.shape[1],
        classes=outputs if order is None else len(order),
        output=tell_teacher_output(description.path, facts.end, values),
        parameters=opened.parameters,
        macs=None if open_shape else facts.macs,
        scaling=scaling,
        class_order=order,
        resize=resize,
        opened=opened,
    )


def _check_class_order(
    path: Path, class_order: list[int] | tuple[int, ...] | None, outputs: int
) -> tuple[int, ...] | None:
    if class_order is None:
        return None
    order = tuple(class_order)
    if len(order) < 2 or len(set(order)) != len(order) or not all(0 <= index < outputs for index in order):
        raise TeacherError(
            f"teacher.class_order must list different outputs of teacher {path}, from 0 to {outputs - 1}, "
            f"one for each class; got {list(order)}. Correct the list."
        )
    return order


def _order_of_names(
    opened: OpenedModel,
    scaling: Scaling,
    shape: tuple[int, ...] | None,
    class_names: Sequence[str],
    outputs: int,
) -> tuple[int, ...] | None:
    """Find the order of classes that a model states in an output of strings, [batch, outputs]; None if it states none
    that has all of the data's classes.
    """
    if opened.names is None:
        return None
    probe = opened.input.prepare(tf.constant(opened.input.probes(1, shape, scaling)), scaling, False)
    stated = [name.decode("utf-8", "replace") for name in np.ravel(opened.names(probe).numpy())]
    if len(stated) != outputs or not set(class_names) <= set(stated) or len(set(stated)) != len(stated):
        return None
    order = tuple(stated.index(name) for name in class_names)
    return None if order == tuple(range(outputs)) else order


def _without(
    path: Path, skip: list[int] | tuple[int, ...], outputs: int, order: tuple[int, ...] | None
) -> tuple[int, ...]:
    if order is not None:
        raise TeacherError(
            f"teacher.skip_class and teacher.class_order must not both be given; got {list(skip)} and {list(order)} "
            f"for teacher {path}. Leave the outputs out of teacher.class_order."
        )
    kept = tuple(index for index in range(outputs) if index not in skip)
    if len(kept) < 2 or not all(0 <= index < outputs for index in skip):
        raise TeacherError(
            f"teacher.skip_class must list outputs of teacher {path}, from 0 to {outputs - 1}, and leave at least "
            f"two; got {list(skip)}. Correct the list."
        )
    return kept
