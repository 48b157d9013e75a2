# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training: the model computes with the rounding that 8-bit arithmetic will do (1712.05877).

By tfmot: weights per output channel to int8, symmetric; activations per tensor to 8 bits, asymmetric; batch
normalization folded into the convolution before it. A pruned model takes the scheme that keeps its zeros exactly
(plain quantization-aware training moves them away from zero).
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    default_8bit_prune_preserve_quantize_scheme as prune_preserve,
)

from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import LayerQuantization


# Keras would otherwise look through the source of each layer for loops to convert, which takes most of the time.
@tf.autograph.experimental.do_not_convert
def quantization_aware(model: keras.Model, keep_zeros: bool) -> keras.Model:
    """Wraps a model so that training it is aware of 8-bit arithmetic.

    Args:
        model: A functional model of the layers that tfmot knows, with one or more outputs.
        keep_zeros: Whether weights that are zero now stay zero.

    Returns:
        A model of its own, with the weights of the one given and ranges still to be set by `calibrate`. Its input range
        is [-1, 1] and does not move: pixels enter as they are, see compression/family_model.py.
    """
    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    with tfmot.quantization.keras.quantize_scope():
        if keep_zeros:
            scheme = prune_preserve.Default8BitPrunePreserveQuantizeScheme()
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
    outputs = [floating.get_layer(wrapper.layer.name).output for wrapper in wrappers]
    probe = tf.function(keras.Model(floating.input, outputs), autograph=False, reduce_retracing=True)
    extremes = [
        [(float(tf.reduce_min(value)), float(tf.reduce_max(value))) for value in tf.nest.flatten(probe(images))]
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


def describe_layers(quantized: keras.Model, student: keras.Model) -> list[LayerQuantization]:
    """Says of each layer of a student how it was brought to 8 bits.

    Args:
        quantized: The quantization-aware family.
        student: The float student, whose layers' names are looked up.
    """
    wrapped = {layer.layer.name for layer in quantized.layers if hasattr(layer, "quantize_config")}
    return [
        LayerQuantization(
            layer=layer.name,
            type=type(layer).__name__,
            method="quantization-aware" if layer.name in wrapped else "post-training",
        )
        for layer in student.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


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
