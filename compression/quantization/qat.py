# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training: the model is trained with the rounding of 8-bit arithmetic (1712.05877).

The scheme is tfmot's: weights symmetric and per output channel to int8, activations asymmetric and per tensor to 8
bits, batch normalization folded into the convolution before it. For a pruned model, the scheme that keeps its zeros
exactly is used (plain quantization-aware training moves them away from zero).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    default_8bit_prune_preserve_quantize_scheme as prune_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    prune_preserve_quantize_registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
)

from learn2compress.compression.graphs.layer_walk import steps_of
from learn2compress.schemas.errors import DataError, TrainingError
from learn2compress.schemas.manifests import LayerQuantization

_PART_PIXELS = 1 << 20  # of a part of a batch: its activations take some hundred megabytes


class OutputOnly(default_8bit_quantize_configs.Default8BitOutputQuantizeConfig):
    """Quantizes the output of a layer only, not its weights and inner values."""


class _KeepZerosWherePruned(prune_preserve_quantize_registry.Default8bitPrunePreserveQuantizeRegistry):
    """Registry that, unlike tfmot's own, accepts layers without zeros to keep if tfmot can quantize them otherwise."""

    def supports(self, layer: keras.layers.Layer) -> bool:
        """Tells whether tfmot can quantize a layer, with or without zeros to keep."""
        return default_8bit_quantize_registry.Default8BitQuantizeRegistry().supports(layer)

    def get_quantize_config(self, layer: keras.layers.Layer) -> tfmot.quantization.keras.QuantizeConfig:
        """Returns the configuration that keeps zeros, or else the default one."""
        if super().supports(layer):
            return super().get_quantize_config(layer)
        return default_8bit_quantize_registry.Default8BitQuantizeRegistry().get_quantize_config(layer)


class KeepZeros(prune_preserve.Default8BitPrunePreserveQuantizeScheme):
    """Scheme of quantization-aware training that keeps the zeros of kernels."""

    def get_quantize_registry(self) -> _KeepZerosWherePruned:
        """Returns the registry of the scheme."""
        return _KeepZerosWherePruned()


# Without this, AutoGraph analyzes the source of each layer, which takes most of the time.
@tf.autograph.experimental.do_not_convert
def quantization_aware(model: keras.Model, keep_zeros: bool, output_only: Collection[str] = ()) -> keras.Model:
    """Wraps a model for quantization-aware training.

    Args:
        model: Functional model of layers that tfmot supports, with one or more outputs.
        keep_zeros: Whether weights that are zero stay zero.
        output_only: Names of layers that tfmot does not support, whose outputs alone are quantized; determined by
            `preflight`.

    Returns:
        A separate model with the same weights, whose ranges are to be set by `calibrate`. Its input range is fixed to
        [-1, 1], the range of normalized pixels, see compression/family/model.py.

    Source: Jacob et al., 1712.05877.
    """

    def annotate(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.InputLayer):
            return layer
        config = OutputOnly() if layer.name in output_only else None
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    annotated = keras.models.clone_model(model, clone_function=annotate)
    kinds: set[type] = {type(layer) for layer in model.layers if not type(layer).__module__.startswith("tf_keras.")}
    with tfmot.quantization.keras.quantize_scope({kind.__name__: kind for kind in (OutputOnly, *kinds)}):
        if keep_zeros:
            scheme = KeepZeros()
            quantized = tfmot.quantization.keras.quantize_apply(annotated, scheme)
        else:
            quantized = tfmot.quantization.keras.quantize_apply(annotated)
    for layer in quantized.layers:
        if isinstance(layer, quantize_layer.QuantizeLayer):
            # The layer keeps the widest range so far, and normalized pixels are within this one.
            _assign_range(layer, "_min", -1.0)
            _assign_range(layer, "_max", 1.0)
    return quantized


@tf.autograph.experimental.do_not_convert
def calibrate(quantized: keras.Model, floating: keras.Model, batches: Iterable) -> None:
    """Sets the ranges of weights and activations from images before the training.

    tfmot initializes the range of every activation to [-6, 6] and updates it by a thousandth a step: after a short
    training the ranges would not fit the model, and logits would be clipped at 6.

    Args:
        quantized: Model from `quantization_aware`; its weights are not changed.
        floating: The model that it was made from.
        batches: Batches of normalized images [b, h, w, c] float32. A range is the mean of the extremes of the batches,
            to which tfmot's moving average would converge.

    Raises:
        DataError: There are no batches.
    """
    wrappers = [layer for layer in quantized.layers if _output_ranges(layer)]
    # A layer that is called in several places has a single range.
    calls: dict[str, list] = defaultdict(list)
    for step in steps_of(floating):
        calls[step.layer.name] += tf.nest.flatten(step.node.outputs)
    outputs = [calls[wrapper.layer.name] for wrapper in wrappers]
    model = keras.Model(floating.input, outputs)

    # The extremes are computed in the graph: all values of all layers at a time would take gigabytes.
    @partial(tf.function, autograph=False, reduce_retracing=True)
    def probe(images: tf.Tensor) -> tf.Tensor:
        return tf.stack([[_over(tf.reduce_min, values), _over(tf.reduce_max, values)] for values in model(images)])

    extremes = []
    for images in batches:
        parts = np.array([probe(part).numpy() for part in in_parts(images)], np.float64)  # [parts, layers, 2]
        extremes.append(np.stack([parts[..., 0].min(axis=0), parts[..., 1].max(axis=0)], axis=-1))
    if not extremes:
        raise DataError("the representative images must be at least one; got none. Raise quantize.calibration_images.")
    # [layers, 2]; zero must be representable, hence within each range.
    for wrapper, (low, high) in zip(wrappers, np.mean(extremes, axis=0), strict=True):
        _assign_range(wrapper, "_min", min(low, 0.0), _output_ranges(wrapper))
        _assign_range(wrapper, "_max", max(high, 0.0), _output_ranges(wrapper))
    settle_weight_ranges(quantized)


def in_parts(images: np.ndarray | tf.Tensor) -> Iterator[np.ndarray | tf.Tensor]:
    """Cuts a batch of large images, [b, h, w, c], into parts whose activations take a bounded memory."""
    pixels = int(np.prod(images.shape[1:3])) if len(images.shape) == 4 else 1
    size = max(1, _PART_PIXELS // pixels)
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _over(reduce: Callable[[Any], tf.Tensor], values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Reduces the values of all calls of a layer to a scalar."""
    return reduce(tf.stack([reduce(one) for one in values]))


def settle_weight_ranges(quantized: keras.Model) -> None:
    """Updates the ranges of all weights from their present values, which only training steps do by themselves."""
    for layer in quantized.layers:
        for weight, quantizer, ranges in getattr(layer, "_weight_vars", ()):
            quantizer(weight, True, ranges)


def without_rounding(quantized: keras.Model, floating: keras.Model) -> keras.Model:
    """Copies the weights of a quantization-aware model to a float model, which equals its int8 file before rounding.

    Args:
        quantized: Quantization-aware family.
        floating: Float student of the family.

    Returns:
        A copy of the student with the learned weights.

    Raises:
        TrainingError: A layer of the student is not in the family.
    """
    learned = {_plain_name(weight): weight for layer in quantized.layers for weight in layer.weights}
    copy = keras.models.clone_model(floating)
    for weight in copy.weights:
        if _plain_name(weight) not in learned:
            raise TrainingError(f"weight {weight.name} must be one of the quantization-aware students'; it is not.")
        weight.assign(learned[_plain_name(weight)])
    return copy


def _plain_name(weight: tf.Variable) -> str:
    return weight.name.removeprefix("quant_")


def describe_layers(
    quantized: keras.Model, student: keras.Model, plan: Sequence[LayerQuantization] = ()
) -> list[LayerQuantization]:
    """Describes how each layer of a student was quantized.

    Args:
        quantized: Quantization-aware family.
        student: Float student, with the same layer names.
        plan: Result of preflight for the student.

    Returns:
        Name, type and method of each layer.
    """
    configs = {
        layer.layer.name: layer.quantize_config for layer in quantized.layers if hasattr(layer, "quantize_config")
    }
    whys = {layer.layer: layer.why for layer in plan}
    rows = []
    for layer in _computing(student):
        method = "quantization-aware" if layer.name in configs else "post-training"
        if isinstance(configs.get(layer.name), OutputOnly):
            method = "output-only"
        why = whys.get(layer.name, "")
        rows.append(LayerQuantization(layer=layer.name, type=type(layer).__name__, method=method, why=why))
    return rows


def after_training_layers(
    student: keras.Model, plan: Sequence[LayerQuantization] = (), full: bool = True
) -> list[LayerQuantization]:
    """Describes for each layer of a student whether it was quantized after training or stayed in float.

    Args:
        student: Float student.
        plan: Result of preflight for the student, if there is one.
        full: Whether the file has no float tensors.

    Returns:
        Name, type and method of each layer.
    """
    known = {layer.layer: layer for layer in plan if layer.method in ("post-training", "float")}
    rows = []
    for layer in _computing(student):
        row = known.get(layer.name)
        if row is None or (full and row.method == "float"):
            why = "" if full else "the file as a whole has tensors in float"
            row = LayerQuantization(layer=layer.name, type=type(layer).__name__, method="post-training", why=why)
        rows.append(row)
    return rows


def _computing(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def representative_ids_digest(ids: list[str]) -> str:
    """Computes the SHA-256 of the sorted ids of a representative data set, one a line."""
    return hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest()


def _output_ranges(layer: keras.layers.Layer) -> list[tf.Variable]:
    """Lists the variables that hold the range of a wrapped layer's output."""
    if not hasattr(layer, "quantize_config"):
        return []
    names = ("output_min", "output_max", "post_activation_min", "post_activation_max")
    return [w for w in layer.weights if w.name.split(":")[0].endswith(names)]


def _assign_range(layer: keras.layers.Layer, end: str, value: float, among: Iterable | None = None) -> None:
    for variable in layer.weights if among is None else among:
        if variable.name.split(":")[0].endswith(end):
            variable.assign(value)
