# SPDX-License-Identifier: Apache-2.0
"""Represents a functional Keras model as a list of steps, which can be inspected, and run from any step on.

This serves to find the neighbours of a layer, and to compute the outputs if one layer is perturbed, without running the
steps before it again.
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
        layer: The layer that is called.
        inputs: Ids of the input tensors, as `str(id(tensor))`.
        outputs: Ids of the output tensors.
        node: The Keras node that records the call.
    """

    layer: keras.layers.Layer
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    node: Any

    def run(self, values: Mapping[str, Any]) -> list:
        """Call the layer in inference mode.

        Args:
            values: Values by id of the tensor, at least of the inputs.

        Returns:
            The output values.
        """
        # Keras removes a value from a list each time it is used.
        arguments, options = self.node.map_arguments({i: [values[i]] * len(self.inputs) for i in self.inputs})
        kind: type = type(self.layer)
        if _takes_training(kind):
            options = {**options, "training": False}
        return tf.nest.flatten(self.layer(*arguments, **options))


@cache
def _takes_training(kind: type[keras.layers.Layer]) -> bool:
    return "training" in inspect.signature(kind.call).parameters


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Edit:
    """A change of the computation at a step.

    Attributes:
        inputs: Function from the value of an input tensor to its replacement.
        outputs: Function from the value of an output tensor to its replacement.
    """

    inputs: Callable = _same
    outputs: Callable = _same


def steps_of(model: keras.Model) -> tuple[Step, ...]:
    """List the steps of a model, each after the steps that it depends on; inputs are not steps."""
    found = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                inputs, outputs = (tuple(map(str, ids)) for ids in (node.flat_input_ids, node.flat_output_ids))
                found.append(Step(node.layer, inputs, outputs, node))
    return tuple(found)


def input_id(model: keras.Model) -> str:
    """Return the id of the only input."""
    return str(id(model.inputs[0]))


def output_ids(model: keras.Model) -> tuple[str, ...]:
    """Return the ids of the outputs, in their order."""
    return tuple(str(id(output)) for output in model.outputs)


def chunks_of(model: keras.Model, images: Any) -> Iterator[Any]:
    """Split a batch into parts for which all intermediate values of a model fit in memory at once."""
    floats = sum(
        math.prod(output.shape[1:]) for step in steps_of(model) for output in tf.nest.flatten(step.node.outputs)
    )
    size = max(1, _CHUNK_BYTES // (4 * floats))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def run_steps(
    steps: Sequence[Step], values: Mapping[str, Any], edits: Mapping[int, Edit] | None = None
) -> dict[str, Any]:
    """Run the steps that an edit affects, or all steps if no edits are given.

    Args:
        steps: Steps of a model, in order.
        values: Values by id of the tensor: the input, or all values of an earlier run.
        edits: Edits by index of the step.

    Returns:
        The values of the tensors that were computed, by id.
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
