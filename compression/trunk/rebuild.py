# SPDX-License-Identifier: Apache-2.0
"""Rebuilds a teacher's functional graph in tf_keras, layer by layer, with its weights, and checks equal outputs.

tfmot needs tf_keras models. Nested models are flattened, layers that change nothing in inference are left out, and
shared layers stay shared. What cannot be rebuilt is refused by the name of the layer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.graphs.flattening import flatten_models
from learn2compress.compression.trunk.translation import Untranslated, translate, untranslated
from learn2compress.schemas.errors import StudentModuleError, TeacherError

_PROBES = 4
TOLERANCE = 1e-4
"""Largest difference of the outputs, relative to their largest magnitude."""
_INSTEAD = "Set students.from: built_in and distill.init: features instead."


def rebuild(model: Any, path: str | Path, input_shape: tuple[int, int, int]) -> keras.Model:
    """Rebuild a Keras model as one functional model of tf_keras without nested models.

    Args:
        model: Functional or sequential model of Keras 3 or tf_keras with one input and one output; None: a SavedModel.
        path: Path of the model, for error messages.
        input_shape: (height, width, channels) of the new model's input.

    Returns:
        A model from the teacher's own input [batch, height, width, channels] float32 to its output.

    Raises:
        TeacherError: The model is not a functional graph, a layer cannot be rebuilt, or the outputs differ.
    """
    if model is None:
        raise TeacherError(
            f"students.from: teacher needs a Keras model, whose layers can be read; teacher {path} is a SavedModel. "
            "Use the .keras or .h5 file that it was exported from, or set students.from: built_in."
        )
    image = keras.Input(input_shape, name="image")
    copies = _Copies(Path(path))
    outputs = copies.replay(model, [image])
    raw = keras.Model(image, outputs)
    copies.copy_weights()
    try:
        flat = flatten_models({"teacher": raw}, input_shape, "trunk")
    except StudentModuleError as error:
        raise TeacherError(f"teacher {path} cannot be rebuilt in tf_keras: {error} {_INSTEAD}") from error
    _check_equal(model, flat, path, input_shape)
    return flat


class _Copies:
    """New layers by their original layer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layers: dict[int, tuple[Any, Any, Any]] = {}
        self.names: dict[str, int] = {}

    def replay(self, model: Any, inputs: list[Any]) -> list[Any]:
        """Call new layers on other inputs, in the order of a model's graph; return the outputs."""
        model = _functional(model, self.path)
        values = {id(old): new for old, new in zip(tf.nest.flatten(model.inputs), inputs, strict=True)}
        for layer, arguments, keywords, outputs in _calls(model):
            replaced, options = _replace((arguments, keywords), values)
            results = self._call(layer, replaced, options)
            values.update(zip(map(id, outputs), tf.nest.flatten(results), strict=True))
        return [values[id(output)] for output in tf.nest.flatten(model.outputs)]

    def copy_weights(self) -> None:
        """Set the weights of each new layer to those of the original layer."""
        for layer, _, new in self.layers.values():
            if new is None:
                continue
            weights = [np.asarray(weight) for weight in layer.weights if "seed_generator" not in _path_of(weight)]
            try:
                new.set_weights(weights)
            except ValueError as error:
                raise untranslated(self.path, layer, " ".join(str(error).split())[:160]) from error

    def _call(self, layer: Any, arguments: tuple, keywords: dict[str, Any]) -> Any:
        if _is_model(layer):
            results = self.replay(layer, tf.nest.flatten(arguments))
            return results if len(results) > 1 else results[0]
        keywords = {
            key: value for key, value in keywords.items() if key not in ("training", "mask") and value is not None
        }
        try:
            if id(layer) not in self.layers:
                tensors = [value for value in tf.nest.flatten(arguments) if hasattr(value, "shape")]
                library = "keras" if _module_of(layer) == "keras" else "tf_keras"
                apply, new = translate(layer, self._unique(layer.name), tensors, library)
                self.layers[id(layer)] = (layer, apply, new)
            return self.layers[id(layer)][1](*arguments, **keywords)
        except Untranslated as error:
            raise untranslated(self.path, layer, str(error)) from error
        except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
            raise untranslated(self.path, layer, " ".join(str(error).split())[:160].rstrip(".")) from error

    def _unique(self, name: str) -> str:
        name = name.replace("/", "_")  # a slash would become part of the paths in a saved model
        number = self.names[name] = self.names.get(name, 0) + 1
        return name if number == 1 else f"{name}_{number}"


def _functional(model: Any, path: Path) -> Any:
    """Return the functional graph of a model; a Sequential of Keras 3 holds one."""
    inner = getattr(model, "_functional", None)
    if inner is not None:
        model = inner
    if not hasattr(model, "_nodes_by_depth") or not getattr(model, "inputs", None):
        raise TeacherError(
            f"students.from: teacher needs a functional or sequential Keras model; {model.name!r} of teacher {path} is "
            f"the subclassed model {type(model).__name__}, whose graph cannot be read. {_INSTEAD}"
        )
    return model


def _calls(model: Any) -> Iterator[tuple[Any, tuple, dict[str, Any], list[Any]]]:
    """List the calls of a graph in order: layer, arguments, keyword arguments, output tensors."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            if hasattr(node, "operation"):
                yield node.operation, node.arguments.args, node.arguments.kwargs, tf.nest.flatten(node.outputs)
            else:
                yield node.layer, node.call_args, node.call_kwargs, tf.nest.flatten(node.outputs)


def _replace(structure: Any, values: dict[int, Any]) -> Any:
    if isinstance(structure, list | tuple):
        return type(structure)(_replace(part, values) for part in structure)
    if isinstance(structure, dict):
        return {key: _replace(part, values) for key, part in structure.items()}
    return values.get(id(structure), structure)


def _is_model(layer: Any) -> bool:
    return any(kind.__name__ in ("Functional", "Sequential", "Model") for kind in type(layer).__mro__)


def _module_of(layer: Any) -> str:
    kinds = [kind.__module__.split(".")[0] for kind in type(layer).__mro__]
    return "keras" if "keras" in kinds else "tf_keras"


def _path_of(weight: Any) -> str:
    return str(getattr(weight, "path", weight.name))


def _check_equal(model: Any, rebuilt: keras.Model, path: str | Path, shape: tuple[int, int, int]) -> None:
    """Compare the outputs on random images of all contrasts."""
    own = tuple(side or wanted for side, wanted in zip(tuple(model.inputs[0].shape)[1:], shape, strict=True))
    if own != shape:
        return  # rebuilt at another size, which the model itself does not take
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (_PROBES, *shape)).astype(np.float32) * rng.uniform(0.2, 1, (_PROBES, 1, 1, 1))
    images = tf.constant(images, tf.float32)
    wanted = np.asarray(model(images, training=False))
    got = rebuilt(images, training=False).numpy()
    error = float(np.max(np.abs(got - wanted))) / max(1.0, float(np.max(np.abs(wanted))))
    if not error <= TOLERANCE:
        raise TeacherError(
            f"the network rebuilt from teacher {path} must give the same outputs; they differ by {error:.2g}, more "
            f"than {TOLERANCE:g}. {_INSTEAD}"
        )
