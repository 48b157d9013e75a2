# SPDX-License-Identifier: Apache-2.0
"""Seeds random layers, such as dropout, so that an interrupted training resumes with the same random numbers."""

from typing import Any

import tensorflow as tf


def seed_random_layers(model: Any, seed: int) -> list[tf.Variable]:
    """Seed the random layers of a model.

    A Keras 3 layer generates random numbers from a counter among the variables of the model, whose initial value is
    random. A Keras 2 layer uses an operation whose state cannot be read, until it is given a generator.

    Args:
        model: Model of either Keras version; its layers are changed.
        seed: Seed; equal seeds give equal random numbers.

    Returns:
        Variables that a checkpoint must contain in addition to those of the model.
    """
    found = []
    for number, variable in enumerate(model.variables):
        if not isinstance(variable, tf.Variable) and "seed_generator_state" in variable.path:
            variable.assign([seed % 2**31, number])
    # Keras 3 models have no `submodules`; their random layers were seeded above.
    layers = [layer for layer in getattr(model, "submodules", ()) if hasattr(layer, "_random_generator")]
    for number, layer in enumerate(layers):
        generator = type(layer._random_generator)(seed + number, rng_type="stateful")
        generator._maybe_init()
        layer._random_generator = generator
        found.append(generator._generator.state)
    return found
