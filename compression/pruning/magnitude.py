# SPDX-License-Identifier: Apache-2.0
"""Magnitude pruning: sets the smallest weights of each kernel to zero, with a sparsity that increases during training.

The sparsity follows Zhu & Gupta's polynomial (1710.01878). The masks are computed by tfmot's pruning engine, which is
called from here instead of by tfmot's layer wrapper: the wrapper supports blocks for dense kernels only, and adds an
assertion and two branches for each layer to the compiled step. The zeros do not reduce the size of a .tflite file, only
that of its compressed download; the Quantizer keeps them exactly.

Left dense on purpose: biases and batch normalization (few values, each of which affects a whole channel); depthwise
kernels (nine weights a channel, where zeros cost the most accuracy and save next to nothing); the first convolution
(it is the only layer that reads the pixels, and is small).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

BLOCKS = {"1x1": (1, 1), "1x4": (1, 4)}
_UPDATE_EVERY = 8  # steps between two mask updates; fewer if the training is short
_LEAST_UPDATES = 3


class KernelMasks(pruning_impl.Pruning):
    """Pruning mask of one kernel, by tfmot, with blocks along the output channels for kernels of any rank.

    A block is ranked by the mean of its absolute weights; the last block of a row may be shorter. Weights or blocks
    equal to the smallest one that is kept are kept as well.

    Args:
        kernel: Variable [..., inputs, outputs].
        schedule: For each step, whether masks are updated and to which sparsity.
        step: Step of the training, from 1.
        block: Rows (1) and columns of a block.
    """

    def __init__(
        self,
        kernel: tf.Variable,
        schedule: tfmot.sparsity.keras.PruningSchedule,
        step: tf.Variable,
        block: tuple[int, int],
    ) -> None:
        self.kernel, self.mask = kernel, tf.Variable(tf.ones_like(kernel), trainable=False)
        threshold = tf.Variable(0.0, trainable=False)
        super().__init__(lambda: step, [(kernel, self.mask, threshold)], schedule, block, "AVG")

    def _validate_block(self) -> None:
        """Accepts all blocks: `_maybe_update_block_mask` supports kernels of any rank."""

    def _maybe_update_block_mask(self, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        width = self._block_size[1]
        if width == 1:
            return self._update_mask(weights)
        outputs = weights.shape[-1]
        missing = -outputs % width
        rows = tf.pad(tf.reshape(tf.abs(weights), [-1, outputs]), [[0, 0], [0, missing]])
        sums = tf.reduce_sum(tf.reshape(rows, [rows.shape[0], -1, width]), axis=-1)
        counts = [width] * (sums.shape[1] - 1) + [width - missing]
        threshold, kept = self._update_mask(sums / tf.constant(counts, sums.dtype))
        return threshold, tf.reshape(tf.repeat(kept, width, axis=1)[:, :outputs], weights.shape)

    def apply(self) -> None:
        """Sets the masked weights to zero; can be called in a compiled step."""
        self.kernel.assign(self.kernel * self.mask)


@dataclass(frozen=True)
class PrunedModel:
    """A model whose kernels are masked during training.

    Attributes:
        model: The trained model, whose weights are changed in place.
        layers: Names of the pruned layers.
        masks: Mask of each of these layers.
        step: Step that the masks' schedule reads.
        end_step: Step, from 0, before which the masks are updated for the last time.
        update_every: Number of steps between two updates.
    """

    model: keras.Model
    layers: tuple[str, ...]
    masks: tuple[KernelMasks, ...]
    step: tf.Variable
    end_step: int
    update_every: int

    def before_step(self, step: int) -> None:
        """Updates the masks if an update is due.

        Args:
            step: Step of the training, from 0.
        """
        if step <= self.end_step and (step + 1) % self.update_every == 0:
            self.step.assign(step + 1)
            for mask in self.masks:
                mask.conditional_mask_update()
            self.apply_masks()

    def apply_masks(self) -> None:
        """Restores the zeros after weights were changed by a step or by an assignment."""
        for mask in self.masks:
            mask.apply()

    @property
    def state(self) -> list[tf.Variable]:
        """Variables that a checkpoint must hold in addition to the model."""
        return [mask.mask for mask in self.masks]

    def strip(self) -> keras.Model:
        """Returns the model with the zeros applied."""
        self.apply_masks()
        return self.model


def prunable_layers(model: keras.Model) -> tuple[str, ...]:
    """Lists the layers whose kernels may be pruned: dense and convolutional ones, except for the first convolution."""
    convolutions = [layer for layer in model.layers if type(layer) is keras.layers.Conv2D]
    first = convolutions[0].name if convolutions else None
    return tuple(
        layer.name
        for layer in model.layers
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense) and layer.name != first
    )


def prune_while_training(
    model: keras.Model,
    sparsity: float | Mapping[str, float],
    total_steps: int,
    block: str = "1x1",
    layers: Sequence[str] | None = None,
) -> PrunedModel:
    """Prepares a model for magnitude pruning during training.

    Args:
        model: Trained model.
        sparsity: Fraction of zeros at the end, in [0, 1): one value for all layers, or a value by layer.
        total_steps: Number of steps of the training; the target is reached at two thirds of them, so that the accuracy
            recovers in the last third.
        block: "1x1" for single zeros, "1x4" for runs of four along the output channels.
        layers: Names of the layers to prune; default: those that `sparsity` names, or `prunable_layers`.

    Returns:
        The model with its masks, for a training loop that calls `before_step` and `apply_masks`.

    Source: Zhu & Gupta, 1710.01878.
    """
    if layers is None:
        layers = tuple(sparsity) if isinstance(sparsity, Mapping) else prunable_layers(model)
    end, every = update_steps(total_steps)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)

    def masks(layer: str) -> KernelMasks:
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=sparsity[layer] if isinstance(sparsity, Mapping) else sparsity,
            begin_step=0,
            end_step=end,
            power=3,
            frequency=every,
        )
        return KernelMasks(model.get_layer(layer).kernel, schedule, step, BLOCKS[block])

    return PrunedModel(model, tuple(layers), tuple(masks(layer) for layer in layers), step, end - 1, every)


def update_steps(total_steps: int) -> tuple[int, int]:
    """Computes after how many steps masks are updated last, and the interval of updates, which divides it."""
    end = max(1, total_steps * 2 // 3)
    every = max(1, min(_UPDATE_EVERY, end // _LEAST_UPDATES))
    return end - end % every, every


def first_epoch_at_target(epochs: int) -> int:
    """Computes the first epoch, from 0, whose steps all have the target sparsity, or else the last epoch."""
    return min(epochs - 1, math.ceil(epochs * 2 / 3))


def kernel_sparsity(model: keras.Model, layers: Sequence[str] | None = None) -> float:
    """Computes the fraction of zeros in the kernels of layers (default: those that may be pruned)."""
    names = layers if layers is not None else prunable_layers(model)
    kernels = [model.get_layer(name).kernel.numpy() for name in names]
    size = sum(k.size for k in kernels)
    return float(sum(np.sum(k == 0) for k in kernels) / size) if size else 0.0
