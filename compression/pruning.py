# SPDX-License-Identifier: Apache-2.0
"""Magnitude pruning: the smallest weights of each kernel become zeros, more of them as training goes on.

Sparsity follows Zhu & Gupta's polynomial (1710.01878) by tfmot. The zeros do not shrink a .tflite file as it is; they
shrink its compressed download, and the Quantizer keeps them exactly.

Left dense on purpose: biases and batch normalization (few numbers, each of which moves a whole channel); depthwise
kernels (nine weights a channel, where zeros cost the most accuracy and save next to nothing); the first convolution
(it alone sees the pixels, and is small).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras

BLOCKS = {"1x1": (1, 1), "1x4": (1, 4)}
_UPDATE_EVERY = 8  # steps between two new masks


@dataclass(frozen=True)
class PrunedModel:
    """A model whose kernels are masked while it trains.

    Attributes:
        model: The wrapped model; it shares the variables of the one it was made from.
        layers: Names of the layers that are pruned.
    """

    model: keras.Model
    layers: tuple[str, ...]

    def before_step(self, step: int) -> None:
        """Tells the schedule where it is; the next forward pass updates the masks if they are due."""
        keras.backend.batch_set_value([(w.pruning_step, step) for w in self._wrappers()])

    def apply_masks(self) -> None:
        """Puts the zeros back after weights were assigned from elsewhere."""
        for wrapper in self._wrappers():
            wrapper.pruning_obj.weight_mask_op()

    def strip(self) -> keras.Model:
        """The plain model again, its zeros in place."""
        self.apply_masks()
        return tfmot.sparsity.keras.strip_pruning(self.model)

    def _wrappers(self) -> list:
        return [layer for layer in self.model.layers if hasattr(layer, "pruning_obj")]


def prunable_layers(model: keras.Model) -> tuple[str, ...]:
    """Names of the layers whose kernels may be pruned: dense and convolutional ones, but for the first convolution."""
    convolutions = [layer for layer in model.layers if type(layer) is keras.layers.Conv2D]
    first = convolutions[0].name if convolutions else None
    return tuple(
        layer.name
        for layer in model.layers
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense) and layer.name != first
    )


def prune_while_training(
    model: keras.Model, sparsity: float, total_steps: int, block: str = "1x1", layers: Sequence[str] | None = None
) -> PrunedModel:
    """Wraps a model so that training it makes it sparse.

    Args:
        model: The trained model.
        sparsity: The share of zeros at the end, in [0, 1).
        total_steps: Of the training; the target is reached at two thirds of it, so that the rest can heal.
        block: "1x1" for single zeros, "1x4" for runs of four along the output channels.
        layers: Names of the layers to prune; default: `prunable_layers`.
    """
    names = tuple(layers if layers is not None else prunable_layers(model))
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=sparsity,
        begin_step=0,
        end_step=max(1, total_steps * 2 // 3 - _UPDATE_EVERY),
        power=3,
        frequency=_UPDATE_EVERY,
    )

    def wrap(layer):
        if layer.name not in names:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule, block_size=BLOCKS[block])

    return PrunedModel(keras.models.clone_model(model, clone_function=wrap), names)


def healing_epoch(epochs: int) -> int:
    """The first epoch, from 0, at whose end the target sparsity has been reached."""
    return min(epochs - 1, epochs * 2 // 3)


def kernel_sparsity(model: keras.Model, layers: Sequence[str] | None = None) -> float:
    """Share of zeros in the kernels of the layers (default: those that may be pruned)."""
    names = layers if layers is not None else prunable_layers(model)
    kernels = [model.get_layer(name).kernel.numpy() for name in names]
    size = sum(k.size for k in kernels)
    return float(sum(np.sum(k == 0) for k in kernels) / size) if size else 0.0
