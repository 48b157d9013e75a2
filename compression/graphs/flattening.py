# SPDX-License-Identifier: Apache-2.0
"""Several Keras models as one, of plain layers: nested models are put in line, what models share is there once.

tfmot refuses a model within a model, and a joint step needs one model with an output a student. Each layer is made
again from its own configuration under a name that is unique, and gets the weights of the one it stands for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.schemas.errors import StudentModuleError


def flatten_models(models: Mapping[str, keras.Model], input_shape: tuple[int, int, int], name: str) -> keras.Model:
    """Joins models into one without nested models.

    Args:
        models: Functional models of one image input and any outputs; they may share layers.
        input_shape: (height, width, channels).
        name: Of the joint model.

    Returns:
        A model of its own, its outputs those of the models, one after another.

    Raises:
        StudentModuleError: A nested model is no functional one, or a layer cannot be made again.
    """
    image = keras.Input(input_shape, name="image")
    copies = _Copies()
    outputs = [output for key, model in models.items() for output in copies.replay(model, [image], key)]
    joint = keras.Model(image, outputs, name=name)
    copies.copy_weights()
    return joint


def arguments_of(node: Any, values: Mapping[str, Any]) -> tuple[tuple, dict]:
    """What a layer was called with in a model, other tensors in the place of the model's.

    Args:
        node: Of the layer, as Keras keeps it.
        values: By the identities of the model's tensors, as text.
    """
    return node.map_arguments({key: _Kept(value) for key, value in values.items()})


class _Kept:
    """A value as Keras takes it from its table; there it would be gone after as many uses as were counted."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def pop(self) -> Any:
        return self.value


class _Copies:
    """Layers made again, by the layer that they stand for, and what was computed with them."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[keras.layers.Layer, keras.layers.Layer]] = {}
        self.names = {"image"}
        self.computed: dict[tuple, Any] = {}

    def replay(self, model: keras.Model, inputs: Sequence, within: str, training: bool | None = None) -> list:
        """Calls copies of a model's layers on other inputs; returns its outputs."""
        values = {str(id(old)): new for old, new in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                results = self._call(node.layer, *arguments_of(node, values), within, training)
                values.update(zip(node.flat_output_ids, tf.nest.flatten(results), strict=True))
        return [values[str(id(output))] for output in model.outputs]

    def copy_weights(self) -> None:
        """Gives each copy the weights of the layer that it stands for."""
        for layer, copy in self.layers.values():
            try:
                copy.set_weights(layer.get_weights())
            except ValueError as error:
                raise _uncopied(layer, error) from error

    def _call(
        self,
        layer: keras.layers.Layer,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        within: str,
        training: bool | None,
    ) -> Any:
        if isinstance(layer, keras.Model):
            if not getattr(layer, "_is_graph_network", False):
                raise StudentModuleError(
                    f"layer {layer.name!r} must be a functional model or a plain layer; got the subclassed model "
                    f"{type(layer).__name__}. Build it with keras.Model(inputs, outputs), or as a keras.layers.Layer."
                )
            inner = keywords.get("training", training)
            results = self.replay(layer, tf.nest.flatten(arguments), layer.name, inner)
            return results if len(results) > 1 else results[0]
        copy = self._copy(layer, within)
        if training is not None and copy._expects_training_arg:
            keywords = {"training": training, **keywords}
        # What two students share is computed once.
        parts = [id(x) if hasattr(x, "_keras_history") else repr(x) for x in tf.nest.flatten((arguments, keywords))]
        key = (id(copy), *parts)
        if key not in self.computed:
            result = copy(*arguments, **keywords)
            if type(layer) is keras.layers.Rescaling and np.any(np.asarray(layer.offset) != 0):
                # Two steps of arithmetic: as one layer, what is between them would have no range, and stay in float.
                result = keras.layers.Rescaling(1.0, layer.offset, name=self._unique(f"{copy.name}_offset", within))(
                    result
                )
            self.computed[key] = result
        return self.computed[key]

    def _copy(self, layer: keras.layers.Layer, within: str) -> keras.layers.Layer:
        if id(layer) not in self.layers:
            try:
                changed: dict[str, Any] = {"name": self._unique(layer.name, within)}
                if type(layer) is keras.layers.Rescaling:
                    changed["offset"] = 0.0  # a layer of its own, see above
                copy = type(layer).from_config({**layer.get_config(), **changed})
            except (TypeError, ValueError, NotImplementedError, KeyError) as error:
                raise _uncopied(layer, error) from error
            self.layers[id(layer)] = (layer, copy)
        return self.layers[id(layer)][1]

    def _unique(self, wanted: str, within: str) -> str:
        name, number = wanted, 1
        while name in self.names:
            name, number = f"{within}_{wanted}" + (f"_{number}" if number > 1 else ""), number + 1
        self.names.add(name)
        return name


def _uncopied(layer: keras.layers.Layer, error: Exception) -> StudentModuleError:
    reason = " ".join(str(error).split())[:200]
    return StudentModuleError(
        f"layer {layer.name!r} ({type(layer).__name__}) must be one that its get_config describes in full; making it "
        f"again failed: {reason} Give the class a get_config that returns all its arguments."
    )
