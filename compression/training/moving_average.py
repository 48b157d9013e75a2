# SPDX-License-Identifier: Apache-2.0
"""Averages the weights of a training, by one vector of all weights: an operation for each would take longer."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


class MovingAverage:
    """Exponential moving average of variables (Polyak and Juditsky, 1992): a' = a - (1 - decay) (a - v).

    Each replica computes its own average, of values that are equal in all replicas.

    Args:
        variables: float32 variables of any shapes.
        read: Returns the value of a variable.

    Attributes:
        vector: The averages of all variables, [values] float32.
    """

    def __init__(self, variables: Sequence[tf.Variable], read: Callable[[tf.Variable], np.ndarray]) -> None:
        self._variables, self._read = tuple(variables), read
        self.vector = tf.Variable(
            np.concatenate([np.zeros(0, np.float32), *(read(variable).ravel() for variable in variables)]),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="averages",
        )

    def update(self, decay: tf.Tensor) -> None:
        """Add the present values of the variables; to be called within a step.

        Args:
            decay: Weight of the former average, [].
        """
        present = tf.concat([tf.reshape(variable, [-1]) for variable in self._variables], axis=0)
        self.vector.assign_sub((1 - decay) * (self.vector - present))

    def values(self) -> list[np.ndarray]:
        """Return the averages in the shapes of the variables."""
        sizes = np.cumsum([variable.shape.num_elements() for variable in self._variables])
        parts = np.split(self._read(self.vector), sizes[:-1])
        return [part.reshape(variable.shape) for part, variable in zip(parts, self._variables, strict=True)]
