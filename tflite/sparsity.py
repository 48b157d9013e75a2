# SPDX-License-Identifier: Apache-2.0
"""How many values of a kernel in a .tflite file are zero, whatever the type in which they are packed."""

import math

import numpy as np

# Bits of an element in a buffer; string, resource and variant tensors have no fixed size.
BITS = {
    **{"float32": 32, "float16": 16, "bfloat16": 16, "float64": 64, "complex64": 64, "complex128": 128},
    **{"int64": 64, "uint64": 64, "int32": 32, "uint32": 32, "int16": 16, "uint16": 16},
    **{"int8": 8, "uint8": 8, "bool": 8, "int4": 4, "int2": 2},
}


def count_sparsity(
    content: np.ndarray, dtype: str, shape: tuple[int, ...], zero_point: tuple[int, ...], axis: int
) -> float | None:
    """Computes the fraction of a constant's values that are zero, that is, its zero point.

    Args:
        content: Its bytes in the file, uint8.
        dtype: Type of its elements.
        shape: Its shape.
        zero_point: One, or one a channel; empty if it is not quantized.
        axis: Dimension of the channels.
    """
    if dtype in ("int4", "int2"):
        # Packed from the low bits, in two's complement; the zero point is 0.
        bits = BITS[dtype]
        mask = (1 << bits) - 1
        values = np.stack([content >> shift & mask for shift in range(0, 8, bits)], axis=1).ravel()
    elif dtype == "bfloat16":
        values = content.view(np.uint16) & 0x7FFF
    else:
        values = content.view(dtype)
    elements = math.prod(shape)
    if len(zero_point) > 1 and any(zero_point) and len(values) == elements:
        sides = [1] * len(shape)
        sides[axis] = len(zero_point)
        zeros = np.count_nonzero(values.reshape(shape) == np.reshape(zero_point, sides))
        return zeros / elements
    zero = zero_point[0] if zero_point else 0
    # A sparsely encoded kernel does not store all of its zeros.
    return (elements - np.count_nonzero(values[:elements] != zero)) / elements
