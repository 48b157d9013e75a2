# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from support.networks import randomize

from learn2compress.compression.channels.groups import find_channels
from learn2compress.compression.family.model import normalize
from learn2compress.compression.pruning.importance import magnitude_importance, taylor_importance
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.compression.training.losses import family_losses
from learn2compress.schemas.config import LossConfig

LOSS = LossConfig(temperature=2.0, student_weights={"large": 3.0})


@pytest.fixture
def channels(trained_family, stripes):
    return prunable(trained_family, stripes.SPEC.students, stripes.SPEC).channels


@pytest.fixture
def batch(stripes):
    images, labels = stripes.draw(32, 0)
    return images, labels, stripes.StripesTeacher().logits(images)


def test_taylor_importance_equals_the_squared_derivative_by_the_gate(trained_family, channels, batch):
    """Comparison with a difference quotient: slightly smaller scale and offset of one channel."""
    found = taylor_importance(channels, [batch], LOSS)

    def total():
        losses = family_losses(batch[1], batch[2], trained_family(normalize(batch[0]), training=False), LOSS)
        small, large = (float(tf.reduce_mean(loss)) for loss in losses)
        return small + 3 * large

    norm, step = trained_family.get_layer("large_tail1_pw_bn"), 1e-2
    scale, offset, *statistics = norm.get_weights()
    for channel in (0, 7, int(np.argmax(found["large_tail1"]))):
        gate = np.ones(24, np.float32)
        around = []
        for z in (1 + step, 1 - step):
            gate[channel] = z
            norm.set_weights([scale * gate, offset * gate, *statistics])
            around.append(total())
        slope = (around[0] - around[1]) / (2 * step)
        assert found["large_tail1"][channel] == pytest.approx(slope**2, rel=0.05, abs=1e-7)
    norm.set_weights([scale, offset, *statistics])


def test_taylor_importance_is_zero_for_channels_with_zero_output(trained_family, channels, batch):
    norm = trained_family.get_layer("small_tail1_pw_bn")
    scale, offset, *statistics = norm.get_weights()
    scale[:3] = offset[:3] = 0
    norm.set_weights([scale, offset, *statistics])

    found = taylor_importance(channels, [batch], LOSS)["small_tail1"]

    np.testing.assert_array_equal(found[:3], 0)
    assert np.all(found[3:] >= 0)
    assert found[3:].max() > 0


def test_taylor_importance_sums_over_the_layers_of_a_group_and_averages_over_batches(channels, batch):
    halves = [tuple(part[i : i + 16] for part in batch) for i in (0, 16)]

    one, two = (taylor_importance(channels, [half], LOSS) for half in halves)
    both = taylor_importance(channels, halves, LOSS)

    assert {name: len(values) for name, values in both.items()} == {
        "stem": 8,
        "small_tail1": 16,
        "trunk2_1": 16,
        "large_tail1": 24,
    }
    for name, values in both.items():
        np.testing.assert_allclose(values, (one[name] + two[name]) / 2, rtol=1e-4)


def test_magnitude_importance_is_the_folded_norm_over_the_mean_of_its_layer(trained_family, channels):
    found = magnitude_importance(channels)

    kernel = trained_family.get_layer("large_tail1_pw").kernel.numpy()
    norm = trained_family.get_layer("large_tail1_pw_bn")
    scale, _, _, variance = norm.get_weights()
    folded = np.sum(kernel**2, axis=(0, 1, 2)) * scale**2 / (variance + norm.epsilon)
    np.testing.assert_allclose(found["large_tail1"], folded / folded.mean(), rtol=1e-5)
    # The stem's channels are those of four layers: stem, a depthwise one and the pointwise one added to them, and the
    # depthwise ones of tail and trunk behind.
    assert found["stem"].sum() == pytest.approx(5 * 8)


def test_taylor_importance_has_gates_where_there_is_no_scale(batch):
    """A convolution with a bias alone, and batch normalization without a scale, against difference quotients."""
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="plain")(image)
    x = keras.layers.Conv2D(5, 3, use_bias=False, name="before")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(scale=False, name="norm")(x))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    randomize(model, 0)
    found = taylor_importance(find_channels(model, ("large",)), [batch], LOSS)

    def slope(layers, channel, step=1e-2):
        weights = {name: model.get_layer(name).get_weights() for name in layers}
        around = []
        for z in (1 + step, 1 - step):
            for name, count in layers.items():
                gated = [w.copy() for w in weights[name]]
                for weight in gated[:count]:
                    weight[..., channel] *= z
                model.get_layer(name).set_weights(gated)
            outputs = [model(normalize(batch[0]), training=False)]
            (loss,) = family_losses(batch[1], batch[2], outputs, LOSS)
            around.append(3 * float(tf.reduce_mean(loss)))
        for name in layers:
            model.get_layer(name).set_weights(weights[name])
        return (around[0] - around[1]) / (2 * step)

    for channel in (0, 3):
        assert found["plain"][channel] == pytest.approx(slope({"plain": 2}, channel) ** 2, rel=0.05, abs=1e-6)
        # Kernel, and offset and mean of the normalization: its output is proportional to them.
        expected = slope({"before": 1, "norm": 2}, channel) ** 2
        assert found["before"][channel] == pytest.approx(expected, rel=0.05, abs=1e-6)


def test_importance_adds_up_the_layers_of_a_grouped_unit():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 1, name="a")(image)
    x = keras.layers.Conv2D(16, 1, groups=8, use_bias=False, name="b")(x)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    randomize(model, 0)

    found = magnitude_importance(find_channels(model))

    a, b = (np.sum(model.get_layer(name).kernel.numpy() ** 2, axis=(0, 1, 2)) for name in "ab")
    expected = a / a.mean() + (b / b.mean()).reshape(8, 2).sum(axis=1)
    np.testing.assert_allclose(found["a"], expected, rtol=1e-5)
