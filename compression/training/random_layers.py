# SPDX-License-Identifier: Apache-2.0
"""Layers that draw at random in training, such as dropout: so that a training that was killed can go on."""

from typing import Any

import tensorflow as tf


def seed_random_layers(model: Any, seed: int) -> list[tf.Variable]:
    """Has random layers draw from the seed.

    A Keras 3 layer draws by a counter among the model's variables, which begins anywhere. One of Keras 2 draws by an
    operation whose state nobody can read, until it is given a generator.

    Args:
        model: Of either Keras; its layers are changed where they are.
        seed: Equal seeds draw the same.

    Returns:
        What a checkpoint must hold beside the model's variables.
    """
    found = []
    for number, variable in enumerate(model.variables):
        if not isinstance(variable, tf.Variable) and "seed_generator_state" in variable.path:
            variable.assign([seed % 2**31, number])
    # Keras 3 has no submodules, and its random layers are done.
    layers = [layer for layer in getattr(model, "submodules", ()) if hasattr(layer, "_random_generator")]
    for number, layer in enumerate(layers):
        generator = type(layer._random_generator)(seed + number, rng_type="stateful")
        generator._maybe_init()
        layer._random_generator = generator
        found.append(generator._generator.state)
    return found
