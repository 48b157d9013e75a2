# SPDX-License-Identifier: Apache-2.0
"""Trains in bfloat16 with variables in float32 (mixed precision, Micikevicius et al., 1710.03740).

Layers compute in bfloat16; weights, their averages, the optimizer and the logits stay in float32. bfloat16 has the
exponents of float32, so that losses need no scaling. The family is trained as a copy, and its weights are copied back:
what is stored, pruned and converted is a float32 model in any case.
"""

import tensorflow as tf
import tf_keras as keras

from learn2compress.schemas.errors import ConfigError

_POLICY = "mixed_bfloat16"
_CAPABLE = (8, 0)  # CUDA compute capability of the first GPUs with bfloat16 (Ampere)


def computes_in_bfloat16(precision: str) -> bool:
    """Returns whether a training computes in bfloat16.

    Args:
        precision: Value of `distill.precision`; auto: bfloat16 if all accelerators have arithmetic for it. On a
            processor it is slower than float32 for most layers.
    """
    if precision != "auto":
        return precision == "bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return bool(gpus) and all(found.get("compute_capability", (0, 0)) >= _CAPABLE for found in details)


def copy_in_bfloat16(model: keras.Model) -> keras.Model:
    """Copies a functional model to one that computes in bfloat16, with outputs and variables in float32.

    Layers of other packages than Keras stay in float32.

    Raises:
        ConfigError: The model has bare TensorFlow operations, which do not convert their operands.
    """
    operations = [layer.name for layer in model.layers if "OpLambda" in type(layer).__name__]
    if operations:
        raise ConfigError(
            f"distill.precision must be float32 for students with TensorFlow operations; got bfloat16 and the "
            f"operation {operations[0]}. Set it to float32, or use Keras layers."
        )
    ends = {tensor.node.layer.name for tensor in tf.nest.flatten(model.outputs)}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        is_own = not type(layer).__module__.startswith("tf_keras.") or isinstance(layer, keras.Model)
        if not is_own and layer.name not in ends and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = _POLICY
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
