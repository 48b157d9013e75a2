# SPDX-License-Identifier: Apache-2.0
"""Compiles the inference of a teacher whose weights no longer change, as constants.

TensorFlow can then fold batch normalization into the weights of the convolution before it, as on a device. Nothing else
differs: the outputs are equal up to the rounding of the folded weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# Constants and folded weights are copies, and a graph with its constants must not be larger than 2 GiB.
MOST_BYTES = 256 * 2**20


def with_constants(function: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """Replace the variables of a function by their present values.

    Args:
        function: Concrete function of one tensor that returns one tensor.

    Returns:
        The function with constants; the given one if it reads anything but variables, such as a table of words, or more
        than `MOST_BYTES` of them.
    """
    handles = {id(variable.handle) for variable in function.variables}
    read = [external for external, _ in function.graph.captures]
    size = sum(np.prod(variable.shape, dtype=np.int64) * variable.dtype.size for variable in function.variables)
    if not read or size > MOST_BYTES or any(id(external) not in handles for external in read):
        return function
    constant = convert_variables_to_constants_v2(function)
    return lambda inputs: tf.nest.flatten(constant(inputs))[0]
