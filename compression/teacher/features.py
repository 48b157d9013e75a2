# SPDX-License-Identifier: Apache-2.0
"""Extracts the penultimate features of a teacher, which are the input of the layer that computes its logits.

Students that are trained with few labels first learn to predict these features, which requires no labels (FitNets,
Romero et al., arXiv:1412.6550, with the penultimate layer as hint). Features require access to layers, and thus a Keras
model.
"""

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.teacher.formats import no_features
from learn2compress.compression.teacher.models import keras_library
from learn2compress.compression.teacher.probes import check_finite
from learn2compress.schemas.errors import TeacherError

_REMEDY = "Set teacher.feature_layer to the name of a layer"


@dataclass(frozen=True, eq=False)
class TeacherFeatures:
    """A teacher that computes its features together with its logits.

    Attributes:
        teacher: The loaded teacher.
        layer: Name of the layer whose output (side "output") or input (side "input") are the features.
        side: "output" if the user named the layer, "input" if it was found automatically.
        width: Number of features per image.
        model: Keras model with two outputs, the features and the output of the teacher.
    """

    teacher: LoadedTeacher
    layer: str
    side: Literal["input", "output"]
    width: int
    model: Any

    def features_and_logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute features and logits for any number of images, in batches, with one forward pass per image.

        Args:
            images: [batch, height, width, channels], uint8, or float32 in 0..255.

        Returns:
            Features, [batch, width] float32, where feature maps are averaged over their positions; logits,
            [batch, classes] float32.

        Raises:
            TeacherError: The images do not have the teacher's shape, or a feature or logit is NaN or infinite.
        """
        values = self.teacher.in_pieces(f"{self.side} of {self.layer}", self._call, images)
        check_finite(self.teacher.path, values)
        return values[:, : self.width], self.teacher.as_logits(tf.constant(values[:, self.width :])).numpy()

    def _call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Concatenate features and outputs, [batch, width + outputs] float32."""
        features, output = self.model(inputs, training=False)
        return tf.concat([tf.cast(_pooled(features), tf.float32), tf.cast(output, tf.float32)], axis=-1)


def find_feature_layer(teacher: LoadedTeacher, name: str | None = None) -> TeacherFeatures:
    """Find the layer of a teacher that provides the features.

    Args:
        teacher: The loaded teacher.
        name: Name of the layer whose output is used; None uses the input of the layer that computes the logits.

    Raises:
        TeacherError: The teacher is a SavedModel, has no such layer, or the layer cannot be found automatically.
    """
    model = teacher.keras_model
    if model is None:
        raise no_features(teacher.path)
    side: Literal["input", "output"] = "input" if name is None else "output"
    library = keras_library(teacher.format)
    if name is not None and name not in (names := [layer.name for layer in model.layers]):
        raise TeacherError(
            f"teacher.feature_layer must be a layer of teacher {teacher.path}; got '{name}', where the "
            f"last ones are {', '.join(names[-8:])}. Choose one of its layers."
        )
    if isinstance(model, library.Sequential):
        name, cut = _cut_chain(teacher, library, model, name)
    else:
        name, cut = _cut_graph(teacher, library, model, name)
    width = cut.outputs[0].shape[-1]
    if width is None or len(cut.outputs[0].shape) < 2:
        raise TeacherError(
            f"features of teacher {teacher.path} must have a known width; got {tuple(cut.outputs[0].shape)} at "
            f"layer '{name}'. {_REMEDY} with one."
        )
    return TeacherFeatures(teacher, name, side, int(width), cut)


def last_layer(teacher: LoadedTeacher, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Read the layer that computes a teacher's logits from its features.

    Args:
        teacher: The loaded teacher.
        name: Name of the layer whose input are the features.

    Returns:
        Kernel [features, classes] and bias [classes] in the order of the data's classes; None if it is not a dense
        layer.
    """
    model: Any = teacher.keras_model
    if model is None:
        return None
    layer = next((one for one in model.layers if one.name == name), None)
    if layer is None or type(layer).__name__ != "Dense" or layer.kernel.shape[-1] != teacher.outputs:
        return None
    kernel = np.asarray(layer.kernel, np.float32)
    bias = np.asarray(layer.bias, np.float32) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
    if teacher.outputs == 1:  # a single unit for two classes: the logits are 0 and its value
        kernel, bias = np.concatenate([0 * kernel, kernel], axis=1), np.concatenate([0 * bias, bias])
    order = list(range(kernel.shape[1])) if teacher.class_order is None else list(teacher.class_order)
    return kernel[:, order], bias[order]


def _cut_chain(teacher: LoadedTeacher, library: ModuleType, model: Any, name: str | None) -> tuple[str, Any]:
    """Cut a Sequential model by its list of layers, since their tensors may come from an earlier build of the model."""
    layers = list(model.layers)
    if name is not None:
        kept = layers[: [layer.name for layer in layers].index(name) + 1]
    else:
        last = next((layer for layer in reversed(layers) if not _has_no_kernel(library, layer)), None)
        if last is None or isinstance(last, library.Model):
            raise _no_end(teacher, model)
        name, kept = last.name, layers[: layers.index(last)]
        if not kept:
            raise TeacherError(
                f"teacher {teacher.path} must have layers before '{name}' for its features to be used; got none. "
                "Set distill.init: none."
            )
    image = model.inputs[0]
    start = library.Input(image.shape[1:], batch_size=image.shape[0], dtype=image.dtype)
    features = functools.reduce(lambda values, layer: layer(values), kept, start)
    output = functools.reduce(lambda values, layer: layer(values), layers[len(kept) :], features)
    return name, library.Model(start, [features, output])


def _cut_graph(teacher: LoadedTeacher, library: ModuleType, model: Any, name: str | None) -> tuple[str, Any]:
    """Cut a functional model; Keras gives the tensors only of layers that are used once."""
    # Only the configuration shows how often a layer is used.
    shared = {entry["name"] for entry in model.get_config()["layers"] if len(entry["inbound_nodes"]) > 1}
    if name is not None:
        layer = model.get_layer(name)
        if isinstance(layer, library.Model):
            # Its `output` belongs to its own graph, which is not connected to the input of the teacher.
            raise TeacherError(
                f"teacher.feature_layer must be a plain layer of teacher {teacher.path}; got the nested "
                f"model '{name}'. Name the layer that follows it, or leave teacher.feature_layer out."
            )
        if name in shared:
            raise TeacherError(
                f"layer '{name}' of teacher {teacher.path} must be used once for its features to be used; "
                f"got several calls. {_REMEDY} that is called once."
            )
        return name, _with_output(library, model, _single(teacher, layer, "output"))
    plain = [layer for layer in model.layers if layer.name not in shared]
    producers = {id(layer.output): layer for layer in plain if not isinstance(layer.output, list | tuple | dict)}
    layer = producers.get(id(model.outputs[0]))
    while layer is not None and _has_no_kernel(library, layer):
        layer = producers.get(id(_single(teacher, layer, "input")))
    if layer is None or isinstance(layer, library.Model):
        raise _no_end(teacher, model)
    return layer.name, _with_output(library, model, _single(teacher, layer, "input"))


def _with_output(library: ModuleType, model: Any, features: Any) -> Any:
    return library.Model(model.inputs[0], [features, model.outputs[0]])


def _has_no_kernel(library: ModuleType, layer: Any) -> bool:
    """Return whether a layer only reshapes, pools or activates, unlike the layer that computes the logits."""
    return not hasattr(layer, "kernel") and not isinstance(layer, library.Model)


def _no_end(teacher: LoadedTeacher, model: Any) -> TeacherError:
    last = model.layers[-1]
    return TeacherError(
        f"teacher {teacher.path} must end in a Dense or convolution layer that is called once for its features to "
        f"be found; got '{last.name}' ({type(last).__name__}) at its end. {_REMEDY}."
    )


def _single(teacher: LoadedTeacher, layer: Any, side: str) -> Any:
    tensor = getattr(layer, side)
    if isinstance(tensor, list | tuple | dict):
        raise TeacherError(
            f"layer '{layer.name}' of teacher {teacher.path} must have one {side} for features to be used; "
            f"got {len(tensor)}. {_REMEDY} that has one output."
        )
    return tensor


def _pooled(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank - 1))) if values.shape.rank > 2 else values
