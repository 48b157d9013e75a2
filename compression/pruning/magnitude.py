# SPDX-License-Identifier: Apache-2.0
"""Magnitude pruning: the smallest weights of each kernel become zeros, more of them as training goes on.

Sparsity follows Zhu & Gupta's polynomial (1710.01878) and masks are made by tfmot's engine, which is driven from here
instead of by tfmot's layer wrapper: the wrapper takes blocks for dense kernels only, and adds to the compiled step an
assertion and two branches for each layer. The zeros do not shrink a .tflite file as it is; they shrink its compressed
download, and the Quantizer keeps them exactly.

Left dense on purpose: biases and batch normalization (few numbers, each of which moves a whole channel); depthwise
kernels (nine weights a channel, where zeros cost the most accuracy and save next to nothing); the first convolution
(it alone sees the pixels, and is small).
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
_UPDATE_EVERY = 8  # steps between two new masks; fewer where the training is short
_LEAST_UPDATES = 3


class KernelMasks(pruning_impl.Pruning):
    """tfmot's masks of one kernel, with blocks along the output channels for kernels of any rank.

    A block counts by the mean of its absolute weights; at the end of a row it may be cut short. Weights or blocks that
    tie with the smallest one kept are kept as well.

    Args:
        kernel: The variable, [..., inputs, outputs].
        schedule: From a step to whether masks are due and the sparsity then.
        step: The step of the training, from 1.
        block: Its rows (1) and columns.
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
        """Nothing to refuse: `_maybe_update_block_mask` takes any rank."""

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
        """Puts the zeros in the kernel; works in a compiled step."""
        self.kernel.assign(self.kernel * self.mask)


@dataclass(frozen=True)
class PrunedModel:
    """A model whose kernels are masked while it trains.

    Attributes:
        model: The model that was given.
        layers: Names of the layers that are pruned.
        masks: One a layer.
        end_step: The step, from 0, before which the last masks are made.
    """

    model: keras.Model
    layers: tuple[str, ...]
    masks: tuple[KernelMasks, ...]
    step: tf.Variable
    end_step: int
    update_every: int

    def before_step(self, step: int) -> None:
        """Makes new masks where they are due.

        Args:
            step: Of the training, from 0.
        """
        if step <= self.end_step and (step + 1) % self.update_every == 0:
            self.step.assign(step + 1)
            for mask in self.masks:
                mask.conditional_mask_update()
            self.apply_masks()

    def apply_masks(self) -> None:
        """Puts the zeros back after weights were changed: by a step, or assigned from elsewhere."""
        for mask in self.masks:
            mask.apply()

    @property
    def state(self) -> list[tf.Variable]:
        """What a checkpoint must hold beside the model, to go on from it."""
        return [mask.mask for mask in self.masks]

    def strip(self) -> keras.Model:
        """The model, its zeros in place."""
        self.apply_masks()
        return self.model


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
    model: keras.Model,
    sparsity: float | Mapping[str, float],
    total_steps: int,
    block: str = "1x1",
    layers: Sequence[str] | None = None,
) -> PrunedModel:
    """Prepares a model so that training it makes it sparse.

    Args:
        model: The trained model.
        sparsity: The share of zeros at the end, in [0, 1): one for all layers, or by layer.
        total_steps: Of the training; the target is reached at two thirds of it, so that the rest can heal.
        block: "1x1" for single zeros, "1x4" for runs of four along the output channels.
        layers: Names of the layers to prune; default: those that `sparsity` names, or `prunable_layers`.
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
    """When masks are made: after how many steps the last time, and every how many; the first divides by the second."""
    end = max(1, total_steps * 2 // 3)
    every = max(1, min(_UPDATE_EVERY, end // _LEAST_UPDATES))
    return end - end % every, every


def healing_epoch(epochs: int) -> int:
    """The first epoch, from 0, of a training that is spent at the target sparsity as a whole, or else the last one."""
    return min(epochs - 1, math.ceil(epochs * 2 / 3))


def kernel_sparsity(model: keras.Model, layers: Sequence[str] | None = None) -> float:
    """Share of zeros in the kernels of the layers (default: those that may be pruned)."""
    names = layers if layers is not None else prunable_layers(model)
    kernels = [model.get_layer(name).kernel.numpy() for name in names]
    size = sum(k.size for k in kernels)
    return float(sum(np.sum(k == 0) for k in kernels) / size) if size else 0.0
