# SPDX-License-Identifier: Apache-2.0
"""Counts the multiply-accumulates of an operator of a .tflite file from the shapes of its inputs and outputs.

Convolutions, dense layers and matrix products are counted; as usual, pooling, additions and activations are not.
Kernels have the layout [out, height, width, in] for CONV_2D and TRANSPOSE_CONV, [1, height, width, out]
for DEPTHWISE_CONV_2D, [depth, height, width, in, out] for CONV_3D, [out, in] for FULLY_CONNECTED; a grouped
CONV_2D's kernel holds the inputs of one group.
"""

import math

Shape = tuple[int, ...]

# Indices of the inputs of an operator that are its kernel and its bias.
KERNEL_AND_BIAS = {
    "CONV_2D": (1, 2),
    "CONV_3D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
}
_KERNEL_RANK = {"CONV_3D": 5, "FULLY_CONNECTED": 2}


def macs(operator: str, inputs: list[Shape | None], outputs: list[Shape], *, transposed: bool = False) -> int:
    """Counts the multiply-accumulates of one operator.

    Args:
        operator: Name of the operator in the schema, such as `CONV_2D`.
        inputs: Shapes of the inputs, None for an input that is left out.
        outputs: Shapes of the outputs.
        transposed: Whether the left operand of BATCH_MATMUL is transposed (`adj_x`).

    Returns:
        Number of multiply-accumulates; 0 for operators that are not counted.

    Raises:
        ValueError: The operator lacks an operand, or its kernel has the wrong rank.
    """
    if operator == "BATCH_MATMUL":
        left = _operand(operator, inputs, 0)
        if len(left) < 2 or not outputs:
            raise ValueError(f"a {operator} reads the shape {left}")
        return math.prod(outputs[0]) * left[-2 if transposed else -1]
    if operator not in KERNEL_AND_BIAS:
        return 0
    kernel = _operand(operator, inputs, KERNEL_AND_BIAS[operator][0])
    if len(kernel) != _KERNEL_RANK.get(operator, 4) or not outputs:
        raise ValueError(f"a {operator} has a kernel of shape {kernel}")
    if operator == "TRANSPOSE_CONV":
        return math.prod(_operand(operator, inputs, 2)) * math.prod(kernel[:3])
    per_value = {
        "CONV_2D": kernel[1:],
        "CONV_3D": kernel[:4],
        "DEPTHWISE_CONV_2D": kernel[1:3],
        "FULLY_CONNECTED": kernel[1:],
    }
    return math.prod(outputs[0]) * math.prod(per_value[operator])


def _operand(operator: str, inputs: list[Shape | None], index: int) -> Shape:
    shape = inputs[index] if index < len(inputs) else None
    if shape is None:
        raise ValueError(f"a {operator} has no input {index}")
    return shape
