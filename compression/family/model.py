# SPDX-License-Identifier: Apache-2.0
"""Builds a family as one Keras model with one output per student, and extracts the students from it.

The models take normalized pixels (modalities/image/student_input.py) and return logits.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tf_keras as keras

from learn2compress.compression.family.spec import Block, Conv, FamilySpec, Separable, is_residual
from learn2compress.modalities.image.student_input import ImageStudentInput
from learn2compress.schemas.errors import FamilyError

# Momentum of the batch statistics: at the end of a short training they must not depend on its first steps.
BATCH_MOMENTUM = 0.9

normalize = ImageStudentInput().normalize
"""Converts pixels 0..255 of any dtype to float32 in [-1, 1], the input range of this family."""


def build_family(spec: FamilySpec, seed: int = 0) -> keras.Model:
    """Build the joint model.

    Args:
        spec: Specification of the family.
        seed: Seed of the initial weights; equal seeds give equal weights.

    Returns:
        A functional model with input [batch, height, width, channels] float32 and one output of logits
        [batch, classes] float32 per student, smallest first.
    """
    seeds = iter(np.random.SeedSequence(seed).generate_state(4096).tolist())
    image = keras.Input(spec.input_shape, name="image")
    trunk, outputs = image, []
    for block in spec.stem:
        trunk = _apply(block, trunk, seeds)
    for branch in spec.branches:
        for block in branch.segment:
            trunk = _apply(block, trunk, seeds)
        end = trunk
        for block in branch.tail:
            end = _apply(block, end, seeds)
        end = keras.layers.GlobalAveragePooling2D(name=f"{branch.student}_pool")(end)
        head = keras.layers.Dense(spec.classes, kernel_initializer=_glorot(seeds), name=f"{branch.student}_logits")
        outputs.append(head(end))
    return keras.Model(image, outputs, name="family")


def cut_students(family: keras.Model, names: tuple[str, ...]) -> dict[str, keras.Model]:
    """Extract each student from the family; the students still share the variables of the family.

    A layer that nests the students in its own way cuts them itself (compression/dictionary/model.py); such students are
    copies.

    Args:
        family: Model with one output per student.
        names: Names of the students, in the order of the outputs.

    Returns:
        One model per student, by name.
    """
    for layer in family.layers:
        if hasattr(layer, "cut_students"):
            return layer.cut_students(family, names)
    if len(names) == 1:
        return {names[0]: keras.Model(family.input, family.output, name=names[0])}
    return {
        name: keras.Model(family.input, output, name=name) for name, output in zip(names, family.outputs, strict=True)
    }


def block_of(spec: FamilySpec, layer: str) -> Block:
    """Find the block that contains a layer, by the name that `_apply` derives from the block.

    Raises:
        FamilyError: No block contains the layer.
    """
    blocks = [*spec.stem, *(b for branch in spec.branches for b in (*branch.segment, *branch.tail))]
    found = [b for b in blocks if layer == b.name or layer.startswith(f"{b.name}_")]
    if not found:
        raise FamilyError(
            f"layer {layer!r} must be part of a block of the family; no block contains it. Distill again."
        )
    return max(found, key=lambda block: len(block.name))


def feature_outputs(family: keras.Model, names: tuple[str, ...]) -> list:
    """Return the pooled features of each student, the inputs of the logits layers: [batch, width] float32."""
    return [family.get_layer(f"{name}_logits").input for name in names]


def _apply(block: Block, x: Any, seeds: Iterator[int | None]) -> Any:
    if isinstance(block, Separable):
        y = keras.layers.DepthwiseConv2D(
            3, block.stride, "same", use_bias=False, depthwise_initializer=_he(seeds), name=f"{block.name}_dw"
        )(x)
        y = _normalize_and_activate(y, f"{block.name}_dw")
        last = f"{block.name}_pw"
        y = keras.layers.Conv2D(block.filters, 1, use_bias=False, kernel_initializer=_he(seeds), name=last)(y)
    else:
        last, kernel = block.name, block.kernel if isinstance(block, Conv) else 3
        y = keras.layers.Conv2D(
            block.filters, kernel, block.stride, "same", use_bias=False, kernel_initializer=_he(seeds), name=last
        )(x)
    if not is_residual(block, x.shape[-1]):
        return _normalize_and_activate(y, last)
    y = keras.layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"{last}_bn")(y)
    y = keras.layers.Add(name=f"{block.name}_add")([x, y])
    return keras.layers.ReLU(name=f"{block.name}_relu")(y)


def _normalize_and_activate(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _he(seeds: Iterator[int | None]) -> keras.initializers.Initializer:
    return keras.initializers.HeNormal(seed=next(seeds))


def _glorot(seeds: Iterator[int | None]) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=next(seeds))
