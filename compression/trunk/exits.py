# SPDX-License-Identifier: Apache-2.0
"""Finds the exits of a network: the places where a student may leave it.

An exit is an articulation point of the graph, a feature map through which every path from the input to the output
leads, at the end of a block. Where the next block begins with a 1x1 convolution that widens the feature map, as the
inverted residual blocks of MobileNetV2 and EfficientNet do, the exit has a second form: through a copy of that
convolution, of which a student may keep only some channels. The same holds for batch normalization and activation at
the beginning of the next block (ResNet V2, DenseNet).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import tf_keras as keras

from learn2compress.compression.graphs.layer_walk import Step, steps_of

_KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense, keras.layers.Conv2DTranspose)
_ELEMENTWISE = (
    keras.layers.ReLU, keras.layers.Activation, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Rescaling,
    keras.layers.Multiply,
)  # fmt: skip


MIN_STRIDE = 4
"""Smallest ratio of the sides of the input and of the feature map of an exit: before it, features are of edges only."""


@dataclass(frozen=True)
class Exit:
    """A place where a student may leave the trunk.

    Attributes:
        name: Name of the layer whose output is the last feature map of the trunk, followed by `+` and the name of the
            convolution of the tail, if there is one.
        layer: Name of that layer.
        tail: Names of the layers between the trunk and the pooling, copies of which belong to the student alone.
        steps: Number of steps of the trunk before the exit.
        stride: Height of the input by that of the feature map, rounded.
        channels: Channels that are pooled.
        trims: Whether channels of the tail's convolution can be left out.
    """

    name: str
    layer: str
    tail: tuple[str, ...]
    steps: int
    stride: int
    channels: int
    trims: bool


def find_exits(model: keras.Model) -> list[Exit]:
    """List the exits of a model in the order of the graph, each without and with a tail.

    Args:
        model: Functional model with one image input, see `rebuild` and `fold_batch_norms`.
    """
    steps = steps_of(model)
    users = _users(steps)
    calls = Counter(id(step.layer) for step in steps)
    shapes = {
        key: tuple(tensor.shape) for step in steps for key, tensor in zip(step.outputs, _tensors(step), strict=True)
    }
    height = model.input_shape[1]
    exits: list[Exit] = []
    tail_ends: set[str] = set()
    for number, tensor in _articulations(steps):
        step, shape = steps[number], shapes[tensor]
        if len(shape) != 4 or shape[1] is None or calls[id(step.layer)] > 1 or height < MIN_STRIDE * shape[1]:
            continue
        if tensor in tail_ends or not _ends_a_block(tensor, steps, number, users):
            continue
        place = {"layer": step.layer.name, "steps": number + 1, "stride": max(1, round(height / shape[1]))}
        exits.append(Exit(step.layer.name, tail=(), channels=shape[-1], trims=False, **place))
        tail, end = _tail(tensor, shapes, users, steps)
        if tail:
            tail_ends.add(end)
            kernel = next((one for one in tail if isinstance(one.layer, keras.layers.Conv2D)), tail[0])
            exits.append(
                Exit(
                    f"{step.layer.name}+{kernel.layer.name}",
                    tail=tuple(one.layer.name for one in tail),
                    channels=shapes[end][-1],
                    trims=isinstance(kernel.layer, keras.layers.Conv2D),
                    **place,
                )
            )
    return exits


def _tensors(step: Step) -> list:
    outputs = step.node.outputs
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _users(steps: Sequence[Step]) -> dict[str, list[int]]:
    users: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for tensor in dict.fromkeys(step.inputs):
            users.setdefault(tensor, []).append(number)
    return users


def _articulations(steps: Sequence[Step]) -> list[tuple[int, str]]:
    """List the tensors through which all paths lead, with the number of the step that computes each."""
    last = {tensor: numbers[-1] for tensor, numbers in _users(steps).items()}
    open_tensors = {tensor for tensor in last if not any(tensor in step.outputs for step in steps)}
    found = []
    for number, step in enumerate(steps):
        open_tensors |= {tensor for tensor in step.outputs if tensor in last}
        open_tensors -= {tensor for tensor in open_tensors if last[tensor] <= number}
        if len(open_tensors) == 1 and (tensor := next(iter(open_tensors))) in step.outputs:
            found.append((number, tensor))
    return found


def _ends_a_block(tensor: str, steps: Sequence[Step], number: int, users: dict[str, list[int]]) -> bool:
    """Tell whether a feature map lies between two blocks, instead of before an activation or a projection."""
    after = [steps[user].layer for user in users.get(tensor, ())]
    if any(isinstance(layer, _ELEMENTWISE) for layer in after):
        return False
    before = steps[number]
    if type(before.layer) is keras.layers.ZeroPadding2D or _narrows(after, before):
        return False
    while not isinstance(before.layer, _KERNELS):
        made = [step for step in steps if before.inputs[0] in step.outputs]
        if len(before.inputs) > 1 or not made:
            return True
        before = made[0]
    depthwise = type(before.layer) is keras.layers.DepthwiseConv2D and max(before.layer.kernel_size) > 1
    return not (depthwise and len(after) == 1 and isinstance(after[0], keras.layers.Conv2D))


def _narrows(after: Sequence[keras.layers.Layer], before: Step) -> bool:
    """Tell whether a feature map only enters a 1x1 convolution with fewer channels, the projection of its own block."""
    channels = _tensors(before)[0].shape[-1]
    return (
        len(after) == 1
        and type(after[0]) is keras.layers.Conv2D
        and max(after[0].kernel_size) == 1
        and after[0].filters < channels
    )


def _tail(
    tensor: str, shapes: dict[str, tuple], users: dict[str, list[int]], steps: Sequence[Step]
) -> tuple[list[Step], str]:
    """Follow the beginning of the next block: normalization and activation, then a 1x1 convolution that widens."""
    tail, end = [], tensor
    normal = [steps[user] for user in users.get(end, ()) if _is_affine(steps[user].layer)]
    if len(normal) == 1:
        more, end = _settle(normal[0].outputs[0], users, steps)
        tail = [normal[0], *more]
    wide = [steps[user] for user in users.get(end, ()) if _widens(steps[user].layer, shapes[end][-1])]
    if len(wide) == 1 and shapes[wide[0].outputs[0]][-1] > shapes[end][-1]:
        more, new_end = _settle(wide[0].outputs[0], users, steps)
        tail, end = [*tail, wide[0], *more], new_end
    return tail, end


def _is_affine(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is a normalization, or what `fold_batch_norms` makes of it."""
    return isinstance(layer, keras.layers.BatchNormalization | keras.layers.LayerNormalization) or (
        type(layer) is keras.layers.DepthwiseConv2D and max(layer.kernel_size) == 1
    )


def _widens(layer: keras.layers.Layer, channels: int) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and max(layer.kernel_size) == 1
        and max(layer.strides) == 1
        and layer.groups == 1
        and layer.filters > channels
    )


def _settle(tensor: str, users: dict[str, list[int]], steps: Sequence[Step]) -> tuple[list[Step], str]:
    """Follow a feature map through its normalization and activation, which may branch, as x · sigmoid(x) does."""
    followed: list[Step] = []
    normal = [
        steps[user] for user in users.get(tensor, ()) if isinstance(steps[user].layer, keras.layers.BatchNormalization)
    ]
    if len(normal) == 1 and len(users[tensor]) == 1:
        followed.append(normal[0])
        tensor = normal[0].outputs[0]
    known = {tensor}
    waiting = list(users.get(tensor, ()))
    part: list[Step] = []
    while waiting:
        number = waiting.pop(0)
        step = steps[number]
        if not isinstance(step.layer, _ELEMENTWISE) or not set(step.inputs) <= known:
            if not isinstance(step.layer, _ELEMENTWISE):
                break
            continue
        if step in part:
            continue
        part.append(step)
        known |= set(step.outputs)
        open_tensors = [t for t in known if any(steps[u] not in part for u in users.get(t, ()))]
        if open_tensors == [step.outputs[0]]:
            following = [steps[u].layer for u in users[step.outputs[0]]]
            if not any(isinstance(layer, _ELEMENTWISE) for layer in following):
                return [*followed, *part], step.outputs[0]
        waiting += users.get(step.outputs[0], ())
    return followed, tensor
