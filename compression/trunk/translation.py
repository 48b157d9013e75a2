# SPDX-License-Identifier: Apache-2.0
"""Translates a layer of Keras 3 or of tf_keras to layers of tf_keras that compute the same in inference.

Layers that change nothing in inference (dropout, augmentation, noise) are left out. Activations that tf_keras or tfmot
lacks become layers of their own: ReLU6, and hard-swish and hard-sigmoid as products with a ReLU6, which are the
operators that 8-bit arithmetic has.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tf_keras as keras

from learn2compress.schemas.errors import TeacherError

_layers = keras.layers

IDENTITIES = frozenset({
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "StochasticDepth", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation",
    "RandomCrop", "RandomContrast", "RandomBrightness", "RandomHue", "RandomSaturation", "RandomSharpness",
    "RandomColorJitter", "RandomColorDegeneration", "RandomErasing", "RandomGrayscale", "RandomShear", "RandomHeight",
    "RandomWidth", "RandomPosterization", "RandomInvert", "RandomGaussianBlur", "RandomPerspective",
    "RandomElasticTransform", "RandAugment", "AugMix", "AutoContrast", "Identity",
})  # fmt: skip
"""Names of layers that return their input in inference."""
# Binary operations of Keras 3, as `x + y` makes them, and the layers that compute the same of two tensors.
_OPERATIONS = {"Add": "Add", "Multiply": "Multiply", "Subtract": "Subtract", "Maximum": "Maximum", "Minimum": "Minimum"}
_WITH_NUMBER: dict[str, Callable[[float], tuple[float, float]]] = {
    "Add": lambda number: (1.0, number),
    "Subtract": lambda number: (1.0, -number),
    "Multiply": lambda number: (number, 0.0),
    "TrueDivide": lambda number: (1 / number, 0.0),
    "Divide": lambda number: (1 / number, 0.0),
}
_COMMUTING = ("Add", "Multiply")
_LEFT_OUT = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {"silu": "swish", "hard_silu": "hard_swish"}
_SPLIT_ACTIVATIONS = ("relu6", "hard_swish", "hard_sigmoid", "swish")

Apply = Callable[..., Any]


class Untranslated(Exception):
    """A layer that has no counterpart; the message is the reason only."""


def activation_name(value: Any) -> str:
    """Name an activation as tf_keras does, from a configuration's text or mapping, or from a function."""
    if isinstance(value, dict):
        value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name", "")
    name = value if isinstance(value, str) else getattr(value, "__name__", "linear")
    return _RENAMED.get(name, name)


def translate(layer: Any, name: str, tensors: list[Any], library: str) -> tuple[Apply, Any]:
    """Translate a layer or operation, except for the input of the network.

    Args:
        layer: Layer or operation of Keras 3 or tf_keras.
        name: Name of the new layer.
        tensors: New input tensors.
        library: "keras" or "tf_keras", the library of the layer.

    Returns:
        A function from the call's arguments to the output, and the new layer that takes the weights; None without one.

    Raises:
        Untranslated: There is no counterpart.
    """
    kind = type(layer).__name__
    if kind in IDENTITIES:
        return (lambda values, *_, **__: values), None
    if kind == "Resizing":
        return _same_size(layer, tensors[0])
    if kind == "Normalization":
        return _as_rescaling(layer, name)
    if library == "keras" and not hasattr(layer, "get_weights"):
        return _operation(kind, name, tensors), None
    config = layer.get_config()
    old = library == "keras"
    if kind in ("Activation", "ReLU"):
        found = _activation_layer(kind, config, name, old)
        if found is not None:
            return found, None
    new_class = _class_named(kind, layer)
    activation, config = _without_activation(new_class, _reduced(config, new_class))
    new = new_class.from_config({**config, "name": name})
    if activation is None:
        return new, new
    after = activation_layers(activation, f"{name}_{activation}", old)
    return (lambda *arguments, **keywords: after(new(*arguments, **keywords))), new


def activation_layers(activation: str, name: str, keras3: bool) -> Apply:
    """Make an activation of layers that have an 8-bit form.

    Args:
        activation: Name, as in `activation_name`.
        name: Prefix of the layers' names.
        keras3: Whether a hard sigmoid is that of Keras 3, relu6(x + 3) / 6, as opposed to that of Keras 2.
    """
    if activation == "relu6":
        return _layers.ReLU(6.0, name=name)
    if activation == "swish":
        return lambda x: _layers.Multiply(name=f"{name}_product")(
            [x, _layers.Activation("sigmoid", name=f"{name}_gate")(x)]
        )
    if activation == "hard_sigmoid":
        return _hard_sigmoid(name, keras3)
    if activation == "hard_swish":
        gate = _hard_sigmoid(f"{name}_gate", True)
        return lambda x: _layers.Multiply(name=f"{name}_product")([x, gate(x)])
    return _layers.Activation(activation, name=name)


def _hard_sigmoid(name: str, keras3: bool) -> Apply:
    scale, offset = (1 / 6, 0.5) if keras3 else (0.2, 0.5)

    def apply(x: Any) -> Any:
        # clip(scale x + offset, 0, 1) as relu6(6 (scale x + offset)) / 6, whose range is fixed.
        shifted = _layers.Rescaling(6 * scale, 6 * offset, name=f"{name}_shift")(x)
        return _layers.Rescaling(1 / 6, name=f"{name}_scale")(_layers.ReLU(6.0, name=f"{name}_relu6")(shifted))

    return apply


def _activation_layer(kind: str, config: dict[str, Any], name: str, old: bool) -> Apply | None:
    """Make the layers of an Activation or of a ReLU of Keras 3; None for one that is translated as any layer."""
    if kind == "Activation":
        return activation_layers(activation_name(config["activation"]), name, old)
    if config.get("max_value") is not None and not config.get("negative_slope") and not config.get("threshold"):
        return _layers.ReLU(float(config["max_value"]), name=name)
    return None


def _operation(kind: str, name: str, tensors: list[Any]) -> Apply:
    if kind in ("Relu6", "Relu", "Silu", "HardSilu", "HardSigmoid", "Sigmoid", "Tanh", "Gelu"):
        named = {"Silu": "swish", "HardSilu": "hard_swish", "HardSigmoid": "hard_sigmoid"}.get(kind, kind.lower())
        return activation_layers(named, name, True)
    if len(tensors) == 1 and kind in _WITH_NUMBER:
        return lambda *arguments, **_: _with_number(kind, name, arguments)
    if kind not in _OPERATIONS or len(tensors) != 2:
        raise Untranslated(f"the operation {kind} has no counterpart in tf_keras")
    layer = getattr(_layers, _OPERATIONS[kind])(name=name)
    return lambda *arguments, **_: layer(list(arguments))


def _with_number(kind: str, name: str, arguments: tuple) -> Any:
    """Apply an operation of a tensor and a number, such as `x + 3`, as a Rescaling."""
    tensor, number = arguments if hasattr(arguments[0], "shape") else arguments[::-1]
    if kind not in _COMMUTING and tensor is not arguments[0]:
        raise Untranslated(f"the operation {kind} of a number and a tensor has no counterpart in tf_keras")
    scale, offset = _WITH_NUMBER[kind](float(number))
    return _layers.Rescaling(scale, offset, name=name)(tensor)


def _same_size(layer: Any, tensor: Any) -> tuple[Apply, Any]:
    sides = (layer.height, layer.width)
    if tuple(tensor.shape[1:3]) != sides:
        raise Untranslated(f"it resizes images of {tensor.shape[1]}x{tensor.shape[2]} to {sides[0]}x{sides[1]}")
    return (lambda values, *_, **__: values), None


def _as_rescaling(layer: Any, name: str) -> tuple[Apply, Any]:
    """Replace (x - mean) / deviation of a Normalization by a Rescaling with a factor and an offset for each channel."""
    mean, variance = (np.asarray(getattr(layer, part), np.float64).reshape(-1) for part in ("mean", "variance"))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    if getattr(layer, "invert", False):
        scale, offset = deviation, mean
    else:
        scale, offset = 1 / deviation, -mean / deviation
    new = _layers.Rescaling(scale.tolist(), offset.tolist(), name=name)
    return new, None


def _class_named(kind: str, layer: Any) -> type[keras.layers.Layer]:
    found = getattr(_layers, kind, None)
    if found is None and kind == "LayerScale":
        from tf_keras.src.applications import convnext

        found = convnext.LayerScale
    if found is None and type(layer).__module__.startswith("tf_keras"):
        found = type(layer)  # such as the operations of Keras 2
    if found is None or kind == "Lambda":
        raise Untranslated(f"{kind} has no counterpart in tf_keras")
    return found


def _reduced(config: dict[str, Any], new_class: type) -> dict[str, Any]:
    """Keep the fields of a configuration that the class knows, without those that only matter for training."""
    if new_class.__name__ in ("TFOpLambda", "SlicingOpLambda"):
        return config
    known: set[str] = set()
    for base in inspect.getmro(new_class):
        known |= set(inspect.signature(vars(base).get("__init__", object.__init__)).parameters)
    kept = {key: value for key, value in config.items() if key in known and not key.endswith(_LEFT_OUT)}
    for dropped in ("dtype", "name", "batch_input_shape", "autocast"):
        kept.pop(dropped, None)
    return {key: _plain(value) for key, value in kept.items()}


def _plain(value: Any) -> Any:
    """Convert a value that Keras 3 writes as a mapping, such as an array."""
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":
        return np.array(value["config"]["value"]).tolist()
    return value


def _without_activation(new_class: type, config: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Separate an activation that becomes layers of its own from the configuration of the layer before it."""
    if "activation" not in config:
        return None, config
    name = activation_name(config["activation"])
    if name in _SPLIT_ACTIVATIONS and new_class not in (keras.layers.ReLU,):
        return name, {**config, "activation": "linear"}
    return None, {**config, "activation": name}


def untranslated(path: Any, layer: Any, reason: str) -> TeacherError:
    """Make the error for a layer that cannot be rebuilt."""
    return TeacherError(
        f"students.from: teacher needs a network that can be rebuilt in tf_keras; layer {layer.name!r} "
        f"({type(layer).__name__}) of teacher {path} cannot: {reason}. Set students.from: built_in and distill.init: "
        "features instead."
    )
