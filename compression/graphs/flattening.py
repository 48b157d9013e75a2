# SPDX-License-Identifier: Apache-2.0
"""Joins several Keras models into one without nested models, in which shared layers occur once.

tfmot refuses nested models, and a joint training step needs a single model with one output per student. Each layer is
rebuilt from its own configuration under a unique name, and gets the weights of the original layer. A SeparableConv2D
becomes the two convolutions that it is made of: tfmot would divide it, too, and give the parts names of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.schemas.errors import StudentModuleError


def flatten_models(models: Mapping[str, keras.Model], input_shape: tuple[int, int, int], name: str) -> keras.Model:
    """Join models into one without nested models.

    Args:
        models: Functional models with one image input [batch, height, width, channels] and any outputs; they may share
            layers.
        input_shape: (height, width, channels) of an image.
        name: Name of the joint model.

    Returns:
        A model with copies of all layers; its outputs are those of the models, in order.

    Raises:
        StudentModuleError: A nested model is not a functional one, or a layer cannot be rebuilt.
    """
    image = keras.Input(input_shape, name="image")
    copies = _Copies()
    outputs = [output for key, model in models.items() for output in copies.replay(model, [image], key)]
    joint = keras.Model(image, outputs, name=name)
    copies.copy_weights()
    return joint


def arguments_of(node: Any, values: Mapping[str, Any]) -> tuple[tuple, dict]:
    """Return the arguments that a layer was called with in a model, with the model's tensors replaced.

    Args:
        node: The Keras node that records the call of the layer.
        values: Replacements by `str(id(tensor))` of the model's tensors.

    Returns:
        Positional and keyword arguments.
    """
    return node.map_arguments({key: _ReusableValue(value) for key, value in values.items()})


class _ReusableValue:
    """A value in the form in which `map_arguments` reads it, with `pop`, but that can be read any number of times."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def pop(self) -> Any:
        return self.value


class _Copies:
    """Copies of layers by their original layer, and the tensors that were computed with them."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[keras.layers.Layer, keras.layers.Layer]] = {}
        self.depthwise: dict[int, keras.layers.DepthwiseConv2D] = {}  # by the separable layer that it is a part of
        self.names = {"image"}
        self.computed: dict[tuple, Any] = {}

    def replay(self, model: keras.Model, inputs: Sequence, within: str, training: bool | None = None) -> list:
        """Call copies of a model's layers on other inputs; return the outputs."""
        values = {str(id(old)): new for old, new in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                results = self._call(node.layer, *arguments_of(node, values), within, training)
                values.update(zip(node.flat_output_ids, tf.nest.flatten(results), strict=True))
        return [values[str(id(output))] for output in model.outputs]

    def copy_weights(self) -> None:
        """Set the weights of each copy to those of the original layer."""
        for layer, copy in self.layers.values():
            weights = layer.get_weights()
            if id(layer) in self.depthwise:
                self.depthwise[id(layer)].set_weights([weights.pop(0)])
            try:
                copy.set_weights(weights)
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
        # Layers that several students share are computed once.
        parts = [id(x) if hasattr(x, "_keras_history") else repr(x) for x in tf.nest.flatten((arguments, keywords))]
        key = (id(copy), *parts)
        if key not in self.computed:
            if id(layer) in self.depthwise:
                arguments = (self.depthwise[id(layer)](*arguments),)
            result = copy(*arguments, **keywords)
            if type(layer) is keras.layers.Rescaling and np.any(np.asarray(layer.offset) != 0):
                # Scale and offset become two layers: within a single one, the intermediate value would have no
                # quantization range, and stay in float.
                result = keras.layers.Rescaling(1.0, layer.offset, name=self._unique(f"{copy.name}_offset", within))(
                    result
                )
            self.computed[key] = result
        return self.computed[key]

    def _copy(self, layer: keras.layers.Layer, within: str) -> keras.layers.Layer:
        if id(layer) not in self.layers:
            if type(layer) is keras.layers.SeparableConv2D:
                name = self._unique(layer.name, within)
                depthwise, copy = divide_separable(layer, self._unique(f"{name}_depthwise", within), name)
                self.depthwise[id(layer)] = depthwise
                self.layers[id(layer)] = (layer, copy)
                return copy
            try:
                changed: dict[str, Any] = {"name": self._unique(layer.name, within)}
                if type(layer) is keras.layers.Rescaling:
                    changed["offset"] = 0.0  # a separate layer, see above
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


def divide_separable(
    layer: keras.layers.SeparableConv2D, depthwise_name: str, pointwise_name: str
) -> tuple[keras.layers.DepthwiseConv2D, keras.layers.Conv2D]:
    """Make the two convolutions of a separable one, without its weights.

    Args:
        layer: The separable convolution.
        depthwise_name: Name of the first.
        pointwise_name: Name of the second.
    """
    config = layer.get_config()
    shared = {key: config[key] for key in ("data_format", "trainable", "dtype")}
    depthwise = keras.layers.DepthwiseConv2D(
        **shared,
        **{key: config[key] for key in ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")},
        **{key: config[key] for key in config if key.startswith("depthwise_")},
        use_bias=False,
        name=depthwise_name,
    )
    pointwise = keras.layers.Conv2D(
        **shared,
        **{key: config[key] for key in ("filters", "use_bias", "activation")},
        **{key: config[key] for key in config if key.startswith("bias_")},
        **{f"kernel_{key.removeprefix('pointwise_')}": config[key] for key in config if key.startswith("pointwise_")},
        kernel_size=1,
        activity_regularizer=config["activity_regularizer"],
        name=pointwise_name,
    )
    return depthwise, pointwise


def _uncopied(layer: keras.layers.Layer, error: Exception) -> StudentModuleError:
    reason = " ".join(str(error).split())[:200]
    return StudentModuleError(
        f"layer {layer.name!r} ({type(layer).__name__}) must be fully described by its get_config; rebuilding it "
        f"failed: {reason} Give the class a get_config that returns all its arguments."
    )
