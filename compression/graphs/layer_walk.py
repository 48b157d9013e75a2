# SPDX-License-Identifier: Apache-2.0
"""A functional Keras model as the list of its steps, which can be looked at, and run from any one of them on.

For what wants to know a layer's neighbours, or what becomes of the outputs if one layer computes something else: the
steps before it need not run again.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import tensorflow as tf
import tf_keras as keras

_CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Step:
    """One call of a layer.

    Attributes:
        layer: What is called.
        inputs: The tensors that enter, by an id of the model's own.
        outputs: Those that leave.
    """

    layer: keras.layers.Layer
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    node: Any

    def run(self, values: Mapping[str, Any]) -> list:
        """Calls the layer as at inference.

        Args:
            values: By id, at least the inputs.
        """
        # Keras takes a value out of a list each time it is used.
        arguments, options = self.node.map_arguments({i: [values[i]] * len(self.inputs) for i in self.inputs})
        kind: type = type(self.layer)
        if _knows_training(kind):
            options = {**options, "training": False}
        return tf.nest.flatten(self.layer(*arguments, **options))


@cache
def _knows_training(kind: type[keras.layers.Layer]) -> bool:
    return "training" in inspect.signature(kind.call).parameters


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Edit:
    """What is done differently at a step.

    Attributes:
        inputs: Of each input tensor, what enters in its place.
        outputs: Of each output tensor, what leaves in its place.
    """

    inputs: Callable = _same
    outputs: Callable = _same


def steps_of(model: keras.Model) -> tuple[Step, ...]:
    """The steps, each behind those that it needs. Inputs are no steps."""
    found = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                inputs, outputs = (tuple(map(str, ids)) for ids in (node.flat_input_ids, node.flat_output_ids))
                found.append(Step(node.layer, inputs, outputs, node))
    return tuple(found)


def input_id(model: keras.Model) -> str:
    """The id of the only input."""
    return str(id(model.inputs[0]))


def output_ids(model: keras.Model) -> tuple[str, ...]:
    """The ids of the outputs, in their order."""
    return tuple(str(id(output)) for output in model.outputs)


def chunks_of(model: keras.Model, images: Any) -> Iterator[Any]:
    """Cuts a batch so that all that a model computes of a piece fits in memory at once."""
    floats = sum(
        math.prod(output.shape[1:]) for step in steps_of(model) for output in tf.nest.flatten(step.node.outputs)
    )
    size = max(1, _CHUNK_BYTES // (4 * floats))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def run_steps(
    steps: Sequence[Step], values: Mapping[str, Any], edits: Mapping[int, Edit] | None = None
) -> dict[str, Any]:
    """Runs what an edit changes; all steps where there is none.

    Args:
        steps: Of a model, in order.
        values: By id: the input, or all values of an earlier run.
        edits: By the step's number.

    Returns:
        By id, the values of the tensors that were computed anew.
    """
    fresh: dict[str, Any] = {}
    for number, step in enumerate(steps):
        edit = (edits or {}).get(number)
        if edits is not None and edit is None and not any(i in fresh for i in step.inputs):
            continue
        edit = edit or Edit()
        entering = {i: edit.inputs(fresh.get(i, values.get(i))) for i in step.inputs}
        leaving = [edit.outputs(value) for value in step.run(entering)]
        fresh |= dict(zip(step.outputs, leaving, strict=True))
    return fresh
