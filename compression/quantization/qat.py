# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training: the model computes with the rounding that 8-bit arithmetic will do (1712.05877).

By tfmot: weights per output channel to int8, symmetric; activations per tensor to 8 bits, asymmetric; batch
normalization folded into the convolution before it. A pruned model takes the scheme that keeps its zeros exactly
(plain quantization-aware training moves them away from zero).
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

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


class OutputOnly(default_8bit_quantize_configs.Default8BitOutputQuantizeConfig):
    """Rounds what a layer gives, and leaves its weights and its inner values as they are."""


class _KeepZerosWherePruned(prune_preserve_quantize_registry.Default8bitPrunePreserveQuantizeRegistry):
    """tfmot's own refuses layers that it trains for 8 bits elsewhere: those have no zeros to keep."""

    def supports(self, layer: keras.layers.Layer) -> bool:
        """As without zeros."""
        return default_8bit_quantize_registry.Default8BitQuantizeRegistry().supports(layer)

    def get_quantize_config(self, layer: keras.layers.Layer) -> tfmot.quantization.keras.QuantizeConfig:
        """With zeros kept where tfmot knows how."""
        if super().supports(layer):
            return super().get_quantize_config(layer)
        return default_8bit_quantize_registry.Default8BitQuantizeRegistry().get_quantize_config(layer)


class KeepZeros(prune_preserve.Default8BitPrunePreserveQuantizeScheme):
    """Quantization-aware training in which zeros of kernels stay zeros."""

    def get_quantize_registry(self) -> _KeepZerosWherePruned:
        """Which layers it knows."""
        return _KeepZerosWherePruned()


# Keras would otherwise look through the source of each layer for loops to convert, which takes most of the time.
@tf.autograph.experimental.do_not_convert
def quantization_aware(model: keras.Model, keep_zeros: bool, output_only: Collection[str] = ()) -> keras.Model:
    """Wraps a model so that training it is aware of 8-bit arithmetic.

    Args:
        model: A functional model of the layers that tfmot knows, with one or more outputs.
        keep_zeros: Whether weights that are zero now stay zero.
        output_only: Names of layers that tfmot does not know and whose outputs alone are rounded; for
            `compression.preflight` to find out.

    Returns:
        A model of its own, with the weights of the one given and ranges still to be set by `calibrate`. Its input range
        is [-1, 1] and does not move: pixels enter as they are, see compression/family/model.py.
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
            # It keeps the widest range it has seen, and normalized pixels are within this one.
            _assign_range(layer, "_min", -1.0)
            _assign_range(layer, "_max", 1.0)
    return quantized


@tf.autograph.experimental.do_not_convert
def calibrate(quantized: keras.Model, floating: keras.Model, batches: Iterable) -> None:
    """Sets the ranges of weights and activations from real images before anything is trained.

    tfmot starts every activation at [-6, 6] and moves a thousandth of the way a step: a short training would end with
    ranges that have nothing to do with the model, and logits cut off at 6.

    Args:
        quantized: As `quantization_aware` made it; its weights stay as they are.
        floating: The model that it was made from.
        batches: Of normalized images, [b, h, w, c] float32. A range is the mean of the batches' extremes, as tfmot's
            moving average would have it in the end.

    Raises:
        DataError: There are none.
    """
    wrappers = [layer for layer in quantized.layers if _output_ranges(layer)]
    # A layer that is called in several places has one range for all of them.
    calls: dict[str, list] = defaultdict(list)
    for step in steps_of(floating):
        calls[step.layer.name] += tf.nest.flatten(step.node.outputs)
    outputs = [calls[wrapper.layer.name] for wrapper in wrappers]
    probe = tf.function(keras.Model(floating.input, outputs), autograph=False, reduce_retracing=True)
    extremes = [
        [
            (min(float(tf.reduce_min(v)) for v in values), max(float(tf.reduce_max(v)) for v in values))
            for values in probe(images)
        ]
        for images in batches
    ]
    if not extremes:
        raise DataError("the representative images must be at least one; got none. Raise quantize.calibration_images.")
    # [layers, 2]; zero must be within a range, for it has to be representable.
    for wrapper, (low, high) in zip(wrappers, np.mean(extremes, axis=0), strict=True):
        _assign_range(wrapper, "_min", min(low, 0.0), _output_ranges(wrapper))
        _assign_range(wrapper, "_max", max(high, 0.0), _output_ranges(wrapper))
    settle_weight_ranges(quantized)


def settle_weight_ranges(quantized: keras.Model) -> None:
    """Sets the ranges of all weights to what the weights are now: training does so in each step, assigning does not."""
    for layer in quantized.layers:
        for weight, quantizer, ranges in getattr(layer, "_weight_vars", ()):
            quantizer(weight, True, ranges)


def without_rounding(quantized: keras.Model, floating: keras.Model) -> keras.Model:
    """A float model with what a quantization-aware one has learned: what its int8 file would be without 8 bits.

    Args:
        quantized: The quantization-aware family.
        floating: A float student of the family.

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
    """Says of each layer of a student how it was brought to 8 bits.

    Args:
        quantized: The quantization-aware family.
        student: The float student, whose layers' names are looked up.
        plan: What preflight found of the student.
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
    """Says of each layer of a student that it was quantized after training, or stayed in float.

    Args:
        student: The float student.
        plan: What preflight found of it, where it was asked.
        full: Whether nothing in the file is in float.
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
    """SHA-256 over the sorted identifiers of a representative data set, one a line."""
    return hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest()


def _output_ranges(layer: keras.layers.Layer) -> list[tf.Variable]:
    """The variables that hold the range of a wrapped layer's output."""
    if not hasattr(layer, "quantize_config"):
        return []
    names = ("output_min", "output_max", "post_activation_min", "post_activation_max")
    return [w for w in layer.weights if w.name.split(":")[0].endswith(names)]


def _assign_range(layer: keras.layers.Layer, end: str, value: float, among: Iterable | None = None) -> None:
    for variable in layer.weights if among is None else among:
        if variable.name.split(":")[0].endswith(end):
            variable.assign(value)
