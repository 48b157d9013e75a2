# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training: the model computes with the rounding that 8-bit arithmetic will do (1712.05877).

By tfmot: weights per output channel to int8, symmetric; activations per tensor to 8 bits, asymmetric; batch
normalization folded into the convolution before it. A pruned model takes the scheme that keeps its zeros exactly
(plain quantization-aware training moves them away from zero).
"""

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    default_8bit_prune_preserve_quantize_scheme as prune_preserve,
)

from learn2compress.schemas.manifests import LayerQuantization


def quantization_aware(model: keras.Model, keep_zeros: bool) -> keras.Model:
    """Wraps a model so that training it is aware of 8-bit arithmetic.

    Args:
        model: A functional model of the layers that tfmot knows, with one or more outputs.
        keep_zeros: Whether weights that are zero now stay zero.

    Returns:
        A model of its own, with the weights of the one given and ranges still to be learned. Its input range is [-1, 1]
        and does not move: pixels enter as they are, see compression/family_model.py.
    """
    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    with tfmot.quantization.keras.quantize_scope():
        if keep_zeros:
            scheme = prune_preserve.Default8BitPrunePreserveQuantizeScheme()
            quantized = tfmot.quantization.keras.quantize_apply(annotated, scheme)
        else:
            quantized = tfmot.quantization.keras.quantize_apply(annotated)
    fix_input_range(quantized)
    return quantized


def fix_input_range(quantized: keras.Model) -> None:
    """Sets the range of the input to exactly [-1, 1], which training lets drift."""
    for layer in quantized.layers:
        if layer.name.startswith("quantize_layer"):
            low, high = [w for w in layer.weights if w.name.endswith(("_min:0", "_max:0"))]
            low.assign(-1.0)
            high.assign(1.0)


def calibrate(quantized: keras.Model, batches) -> None:
    """Lets the ranges of the activations settle on real images before anything is trained.

    Args:
        quantized: As `quantization_aware` made it; its weights stay as they are.
        batches: Of normalized images, [b, h, w, c] float32.
    """
    statistics = [w for w in quantized.non_trainable_weights if "moving_" in w.name]
    before = [w.numpy() for w in statistics]
    for images in batches:
        quantized(images, training=True)
    for weight, value in zip(statistics, before, strict=True):
        weight.assign(value)
    fix_input_range(quantized)


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
    import hashlib

    return hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest()


def zero_counts(model: keras.Model) -> dict[str, int]:
    """Zeros in each kernel, by layer: to see that they are kept."""
    return {layer.name: int(np.sum(layer.kernel.numpy() == 0)) for layer in model.layers if hasattr(layer, "kernel")}
