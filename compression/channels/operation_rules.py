# SPDX-License-Identifier: Apache-2.0
"""How channels pass through bare TensorFlow operations, which Keras records as layers: `x * 2`, `x[..., :8]`, tf.split.

The arguments of an operation are part of the call, not of a layer's configuration. Those that depend on the number of
channels (the ends of a slice, the sizes of a split) are computed again when channels are removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from learn2compress.compression.channels.layer_rules import merge
from learn2compress.compression.channels.tracking import NotFollowed, Tracking
from learn2compress.compression.graphs.layer_walk import Step

_UNARY = frozenset({
    "nn.relu", "nn.relu6", "nn.elu", "nn.selu", "nn.gelu", "nn.silu", "nn.swish", "nn.leaky_relu", "nn.softplus",
    "nn.softsign", "nn.sigmoid", "nn.tanh", "math.sigmoid", "math.tanh", "math.softplus", "math.exp", "math.square",
    "math.sqrt", "math.abs", "math.negative", "sigmoid", "tanh", "exp", "square", "sqrt", "abs", "negative", "cast",
    "identity", "stop_gradient", "clip_by_value", "__operators__.neg", "keras.activations.relu",
    "keras.activations.swish", "keras.activations.gelu",
})  # fmt: skip
_BINARY = frozenset({
    "math.add", "math.subtract", "math.multiply", "math.divide", "math.truediv", "math.maximum", "math.minimum",
    "math.pow", "add", "subtract", "multiply", "divide", "maximum", "minimum", "__operators__.add",
    "__operators__.sub", "__operators__.mul", "__operators__.truediv", "__operators__.radd", "__operators__.rsub",
    "__operators__.rmul", "__operators__.rtruediv",
})  # fmt: skip
_REDUCTIONS = frozenset({"math.reduce_mean", "math.reduce_max", "math.reduce_sum", "reduce_mean", "reduce_max"})
SLICE = "__operators__.getitem"
SPLIT = "split"


@dataclass(frozen=True)
class Call:
    """A call of an operation.

    Attributes:
        name: Public name of the operation without `tf.`, such as `nn.relu`.
        arguments: Positional arguments.
        options: Keyword arguments.
    """

    name: str
    arguments: tuple
    options: dict[str, Any]

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """Returns an argument that may be given by position or by name."""
        return self.arguments[place] if len(self.arguments) > place else self.options.get(name, default)


def call_of(step: Step) -> Call | None:
    """Returns the call of an operation; None if the step's layer is none."""
    if type(step.layer).__name__ not in ("TFOpLambda", "SlicingOpLambda"):
        return None
    return Call(str(step.layer.symbol), tuple(step.node.call_args), dict(step.node.call_kwargs))


def follow_operation(step: Step, call: Call, inputs: list[np.ndarray], tracking: Tracking) -> list[np.ndarray]:
    """Follows channels through an operation.

    Args:
        step: Step of the model.
        call: Its call.
        inputs: Labels of the channels of each input.
        tracking: Labels so far.

    Returns:
        Labels of the channels of each output.

    Raises:
        NotFollowed: The operation is not known, or has arguments that are not.
    """
    if call.name in _BINARY or call.name in _UNARY:
        _only_scalars(call)
        return [merge(inputs, step, tracking)]
    rank = step.node.keras_inputs[0].shape.rank
    if call.name in _REDUCTIONS:
        axes = [axis % rank for axis in tf.nest.flatten(call.get(1, "axis"))] if call.get(1, "axis") else [rank - 1]
        if rank - 1 in axes:
            raise NotFollowed("reduces the channels to one value")
        return [inputs[0]]
    if call.name == "concat" and call.get(1, "axis") in (-1, rank - 1):
        return [np.concatenate(inputs)]
    if call.name == SPLIT and call.get(2, "axis", 0) in (-1, rank - 1):
        sizes = _split_sizes(call, len(inputs[0]))
        return np.split(inputs[0], np.cumsum(sizes)[:-1])
    if call.name == SLICE and len(inputs) == 1:
        return [inputs[0][_channel_slice(call, rank, len(inputs[0]))]]
    raise NotFollowed(f"is the operation {call.name}, which is not known")


def narrowed(step: Step, kept: np.ndarray, size: int, arguments: tuple, options: dict) -> tuple[tuple, dict]:
    """Adapts the arguments of an operation to fewer channels.

    Args:
        step: Step of the model.
        kept: Sorted positions of the input's channels that are kept.
        size: Number of the input's channels before.
        arguments: Positional arguments of the new call.
        options: Keyword arguments of the new call.

    Returns:
        Positional and keyword arguments.
    """
    call = call_of(step)
    if call is None or len(kept) == size:
        return arguments, options
    if call.name == SPLIT:
        ends = np.cumsum([0, *_split_sizes(call, size)])
        sizes = np.diff(np.searchsorted(kept, ends)).tolist()
        return (
            ((arguments[0], sizes, *arguments[2:]), options)
            if len(arguments) > 1
            else (arguments, {**options, "num_or_size_splits": sizes})
        )
    if call.name == SLICE:
        rank = step.node.keras_inputs[0].shape.rank
        start, stop, _ = _channel_slice(call, rank, size).indices(size)
        start, stop = np.searchsorted(kept, [start, stop]).tolist()
        spec = _with_channel_slice(_slice_spec(call), rank, slice(start, stop))
        return (arguments[0], spec), {}
    return arguments, options


def _only_scalars(call: Call) -> None:
    """Refuses constants with a value for each channel."""
    for value in tf.nest.flatten((call.arguments, call.options)):
        if not hasattr(value, "_keras_history") and not isinstance(value, str) and np.size(value) > 1:
            raise NotFollowed("has a constant for each channel")


def _split_sizes(call: Call, size: int) -> list[int]:
    parts = call.get(1, "num_or_size_splits")
    if isinstance(parts, int):
        return [size // parts] * parts
    sizes = [int(part) for part in parts]
    return [size - sum(sizes) - 1 if part == -1 else part for part in sizes]


def _slice_spec(call: Call) -> Sequence:
    spec = call.get(1, "slice_spec")
    return tuple(spec) if isinstance(spec, list | tuple) else (spec,)


def _as_slice(part: Any) -> Any:
    if isinstance(part, dict):
        part = slice(part.get("start"), part.get("stop"), part.get("step"))
    return part


def _channel_slice(call: Call, rank: int, size: int) -> slice:
    """Reads the slice of the channels, the last axis."""
    parts = [_as_slice(part) for part in _slice_spec(call)]
    if any(part is None or not isinstance(part, slice | type(Ellipsis)) for part in parts):
        raise NotFollowed("selects single positions or adds an axis")
    if not isinstance(parts[-1], slice) or (Ellipsis not in parts and len(parts) < rank):
        return slice(0, size)
    bounds = (parts[-1].start, parts[-1].stop, parts[-1].step)
    if any(hasattr(bound, "_keras_history") for bound in bounds) or parts[-1].step not in (None, 1):
        raise NotFollowed("has a slice with a step, or with computed ends")
    return parts[-1]


def _with_channel_slice(spec: Sequence, rank: int, channels: slice) -> tuple:
    parts = list(spec)
    if isinstance(_as_slice(parts[-1]), slice) and (Ellipsis in parts or len(parts) == rank):
        parts[-1] = {"start": channels.start, "stop": channels.stop, "step": None}
    return tuple(parts)
