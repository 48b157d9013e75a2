# SPDX-License-Identifier: Apache-2.0
"""Builds the family on the teacher's trunk, and the model that computes the pooled features of all exits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from learn2compress.compression.graphs.flattening import arguments_of
from learn2compress.compression.graphs.layer_walk import Step, steps_of
from learn2compress.compression.trunk.exits import Exit
from learn2compress.compression.trunk.spec import StepCost, TrunkSpec, TrunkStudent, outputs_of, step_cost

LayerOf = Callable[[keras.layers.Layer], keras.layers.Layer]
Heads = Mapping[str, tuple[np.ndarray, np.ndarray]]


def replay(steps: Sequence[Step], values: dict[str, Any], layer_of: LayerOf) -> None:
    """Call layers in the place of those of some steps.

    Args:
        steps: Steps of a model, in order.
        values: New values by id of the model's tensors; the results are added.
        layer_of: Function from a layer of the model to the layer that is called.
    """
    for step in steps:
        arguments, keywords = arguments_of(step.node, values)
        results = layer_of(step.layer)(*arguments, **keywords)
        results = list(results) if isinstance(results, list | tuple) else [results]
        values.update(zip(step.outputs, results, strict=True))


def feature_model(trunk: keras.Model, exits: Sequence[Exit], shape: tuple[int, int, int]) -> keras.Model:
    """Build a model of the pooled features of all exits, which shares the layers of the trunk.

    Args:
        trunk: The teacher's network.
        exits: Exits of the trunk.
        shape: (height, width, channels) of the images, which may differ from the trunk's own.

    Returns:
        A model from normalized images to one [batch, channels] float32 per exit.

    Raises:
        ValueError: The trunk cannot be computed on images of this size.
    """
    steps, by_layer = steps_of(trunk), steps_by_layer(trunk)
    image = keras.Input(shape, name="image")
    values = {str(id(trunk.inputs[0])): image}
    replay(steps[: max(one.steps for one in exits)], values, lambda layer: layer)
    pooled = []
    for one in exits:
        own = dict(values)
        replay([by_layer[name] for name in one.tail if by_layer[name].outputs[0] not in own], own, lambda layer: layer)
        pooled.append(
            keras.layers.GlobalAveragePooling2D()(own[by_layer[one.tail[-1] if one.tail else one.layer].outputs[0]])
        )
    return keras.Model(image, pooled)


def exit_costs(trunk: keras.Model, exits: Sequence[Exit], shape: tuple[int, int, int]) -> dict[str, list[StepCost]]:
    """Compute the cost of the trunk up to each exit, and of the tail, at an input size.

    Returns:
        By exit: the cost of the trunk, followed by that of each step of the tail with all of its channels.
    """
    model = feature_model(trunk, exits, shape)
    found: dict[str, StepCost] = {}
    for step in steps_of(model):
        found.setdefault(step.layer.name, step_cost(step.layer, outputs_of(step)[0]))
    order = [step.layer.name for step in steps_of(trunk)]
    costs = {}
    for one in exits:
        base = sum((found[name] for name in order[: one.steps]), StepCost())
        tail = [found[name] for name in one.tail]
        costs[one.name] = [base, *tail]
    return costs


def steps_by_layer(model: keras.Model) -> dict[str, Step]:
    """Return the first call of each layer, by its name."""
    found: dict[str, Step] = {}
    for step in steps_of(model):
        found.setdefault(step.layer.name, step)
    return found


def build_trunk_family(trunk: keras.Model, spec: TrunkSpec, heads: Heads, seed: int = 0) -> keras.Model:
    """Build the joint model with copies of the teacher's layers and weights.

    Args:
        trunk: The teacher's network.
        spec: Exits of the students.
        heads: Kernel [features, classes] and bias [classes] of each student's logits layer; without one it is random.
        seed: Seed of random heads.

    Returns:
        A functional model with input [batch, height, width, channels] float32 in [-1, 1] and one output of logits
        [batch, classes] float32 per student, in the order of the specification.
    """
    steps, by_layer = steps_of(trunk), steps_by_layer(trunk)
    order = [step.layer.name for step in steps]
    image = keras.Input(spec.input_shape, name="image")
    copies: dict[int, keras.layers.Layer] = {}

    def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in copies:
            copies[id(layer)] = type(layer).from_config(layer.get_config())
        return copies[id(layer)]

    values = {str(id(trunk.inputs[0])): image}
    replay(steps[: 1 + max(order.index(student.layer) for student in spec.students)], values, copy_of)
    outputs, tails = [], []
    for number, student in enumerate(spec.students):
        end, made = _tail(student, by_layer, values)
        tails += made
        pooled = keras.layers.GlobalAveragePooling2D(name=f"{student.name}_pool")(end)
        initializer = keras.initializers.GlorotUniform(seed=seed + number)
        outputs.append(
            keras.layers.Dense(spec.classes, kernel_initializer=initializer, name=f"{student.name}_logits")(pooled)
        )
    family = keras.Model(image, outputs, name="family")
    for step in steps:
        if id(step.layer) in copies:
            copies[id(step.layer)].set_weights(step.layer.get_weights())
    for copy, weights in tails:
        copy.set_weights(weights)
    for name, (kernel, bias) in heads.items():
        family.get_layer(f"{name}_logits").set_weights([kernel, bias])
    return family


def inherited_layers(family: keras.Model, spec: TrunkSpec) -> set[str]:
    """Name the layers of a family whose weights are the teacher's."""
    new = {f"{student.name}_logits" for student in spec.students}
    return {layer.name for layer in family.layers if layer.weights and layer.name not in new}


def _tail(student: TrunkStudent, by_layer: Mapping[str, Step], values: Mapping[str, Any]) -> tuple[Any, list]:
    """Call copies of a student's tail, whose convolution keeps only some channels; return the end, and the weights."""
    own = dict(values)
    made: list[tuple[keras.layers.Layer, list[np.ndarray]]] = []
    end = own[by_layer[student.layer].outputs[0]]
    trimmed = False
    for name in student.tail:
        step = by_layer[name]
        config = {**step.layer.get_config(), "name": f"{student.name}_{name}"}
        weights = step.layer.get_weights()
        if type(step.layer) is keras.layers.Conv2D and student.kept is not None:
            config["filters"], trimmed = len(student.kept), True
            weights = [weight[..., list(student.kept)] for weight in weights]
        elif trimmed and weights:
            weights = [weight[..., list(student.kept or ())] for weight in weights]
        layer = type(step.layer).from_config(config)
        replay([step], own, {step.layer: layer}.__getitem__)
        end = own[step.outputs[0]]
        made.append((layer, weights))
    return end, made
