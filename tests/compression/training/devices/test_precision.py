# SPDX-License-Identifier: Apache-2.0
"""In bfloat16 variables and outputs stay in float32, and an interrupted training ends with equal weights."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.training.devices.distribution import open_distribution
from learn2compress.compression.training.devices.precision import computes_in_bfloat16
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.schemas.config import TrainingConfig
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.parameters import encode

NAMES = ("small", "large")


def family() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.ReLU(name="trunk")(layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(image)))
    y = layers.ReLU()(layers.DepthwiseConv2D(3)(x))
    heads = [
        layers.Dense(3, name=name)(layers.GlobalAveragePooling2D()(z)) for name, z in zip(NAMES, (x, y), strict=True)
    ]
    return keras.Model(image, heads)


def batches(epoch: int) -> tf.data.Dataset:
    rng = np.random.default_rng(epoch)
    images, logits = rng.integers(0, 256, (32, 8, 8, 3), np.uint8), rng.normal(size=(32, 3)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((images, np.arange(32) % 3, logits)).batch(8)


def trained(epochs: int, checkpoint: Path, stop_after: int | None = None) -> keras.Model:
    """Trains in bfloat16, or is interrupted in the epoch after `stop_after`; returns the float32 model."""
    model, distribution = family(), open_distribution("none", "bfloat16")
    copy = distribution.replicate(model)
    recipe = Recipe("distilled", epochs, 4, 0.01, ema_decay=0.9)

    def until(epoch: int) -> tf.data.Dataset:
        if epoch == stop_after:
            raise KeyboardInterrupt
        return batches(epoch)

    JointTrainer(copy, NAMES, recipe, distribution=distribution).train(until, None, checkpoint)
    distribution.gather(copy, model)
    return model


def test_a_copy_computes_in_bfloat16_with_variables_and_outputs_in_float32():
    model = family()
    copy = open_distribution("none", "bfloat16").replicate(model)
    assert {variable.dtype for variable in copy.variables} == {tf.float32}
    assert {output.dtype for output in copy.outputs} == {tf.float32}
    assert copy.get_layer("trunk").output.dtype == tf.bfloat16
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    for one, other in zip(copy(images), model(images), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)
        assert not np.array_equal(one, other)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_float32_trains_the_model_itself():
    model, distribution = family(), open_distribution("none")
    assert distribution.replicate(model) is model


def test_a_training_in_bfloat16_that_was_interrupted_ends_with_equal_weights(tmp_path):
    whole = trained(2, tmp_path / "whole.npz")
    with pytest.raises(KeyboardInterrupt):
        trained(2, tmp_path / "resumed.npz", stop_after=1)
    resumed = trained(2, tmp_path / "resumed.npz")
    for one, other, start in zip(whole.get_weights(), resumed.get_weights(), family().get_weights(), strict=True):
        assert np.array_equal(one, other)
        assert not np.array_equal(one, start)


def test_auto_is_bfloat16_only_where_all_accelerators_compute_in_it(monkeypatch):
    assert not computes_in_bfloat16("auto")
    for capabilities, expected in (([(8, 0), (9, 0)], True), ([(8, 0), (7, 5)], False)):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _, found=capabilities: found)
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu})
        assert computes_in_bfloat16("auto") is expected


def test_bfloat16_is_refused_for_bare_operations():
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2)(tf.abs(image)))
    with pytest.raises(ConfigError, match=r"must be float32 .* operation tf\.math\.abs(_\d+)?\. Set it to float32"):
        open_distribution("none", "bfloat16").replicate(model)


def test_precision_becomes_a_parameter_only_where_it_is_set():
    assert "distill_precision" not in encode(distill=TrainingConfig())
    assert encode(distill=TrainingConfig(precision="bfloat16"))["distill_precision"] == "bfloat16"
