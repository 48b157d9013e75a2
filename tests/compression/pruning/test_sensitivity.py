# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import normalize
from learn2compress.compression.pruning.importance import magnitude_importance
from learn2compress.compression.pruning.magnitude import prunable_layers
from learn2compress.compression.pruning.prunable import prunable
from learn2compress.compression.pruning.sensitivity import (
    _divergence,
    _kernel_in_8_bits,
    _round_to_8_bits,
    channel_sensitivity,
    layer_sensitivity,
)

SHARES = [0.25, 0.5, 0.75]


@pytest.fixture
def held_out(stripes):
    return stripes.draw(33, 1)


def test_layer_sensitivity_perturbs_all_layers_by_8_bits_and_prunable_ones_by_zeros(trained_family, stripes, held_out):
    before = trained_family.get_weights()

    found = layer_sensitivity(trained_family, stripes.SPEC.students, *held_out)

    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    assert {layer.layer for layer in found} == {one.name for one in trained_family.layers if isinstance(one, kinds)}
    assert {layer.layer for layer in found if layer.zeros} == set(prunable_layers(trained_family))
    assert all([drop.share for drop in layer.zeros] in ([], SHARES) for layer in found)
    assert all(layer.int8.divergence < 0.02 for layer in found)
    by_name = {layer.layer: layer for layer in found}
    assert by_name["stem"].students == ["small", "large"]
    assert by_name["small_tail1_pw"].students == ["small"]
    assert by_name["trunk2_1_dw"].students == ["large"]
    assert by_name["large_tail1_pw"].weights == 16 * 24
    for old, new in zip(before, trained_family.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_layer_sensitivity_equals_that_of_a_model_with_those_zeros(trained_family, stripes, held_out):
    measured = layer_sensitivity(trained_family, stripes.SPEC.students, *held_out)
    (found,) = (one for one in measured if one.layer == "large_logits")

    images, labels = normalize(held_out[0]), held_out[1]
    layer = trained_family.get_layer("large_logits")
    before, (kernel, bias) = trained_family(images)[1], layer.get_weights()
    order = np.argsort(np.abs(kernel), axis=None)
    kernel.flat[order[: kernel.size * 3 // 4]] = 0
    layer.set_weights([kernel, bias])
    after = trained_family(images)[1]
    right = [np.mean(np.argmax(logits, -1) == labels) for logits in (before, after)]
    assert found.zeros[2].accuracy_drop == pytest.approx(right[0] - right[1])
    divergence = tf.keras.losses.KLDivergence()(tf.nn.softmax(before), tf.nn.softmax(after))
    assert found.zeros[2].divergence == pytest.approx(float(divergence), rel=1e-3)


def test_layer_sensitivity_finds_a_layer_that_is_sensitive_to_8_bits(trained_family, stripes, held_out):
    """One weight is a thousand times as large as the others of its channel, and determines the scale."""
    layer = trained_family.get_layer("trunk2_2_pw")
    kernel = layer.get_weights()[0]
    kernel[0, 0, 0] = 0
    dead = trained_family.get_layer("trunk2_2_dw_bn")
    scale, offset, *statistics = dead.get_weights()
    scale[0] = offset[0] = 0  # so that the large output is multiplied by zero
    dead.set_weights([scale, offset, *statistics])
    kernel[0, 0, 0] = 1e4
    layer.set_weights([kernel])

    found = layer_sensitivity(trained_family, stripes.SPEC.students, *held_out)

    worst = max(found, key=lambda one: one.int8.divergence)
    assert worst.layer == "trunk2_2_pw"
    assert worst.int8.divergence > 10 * sorted(one.int8.divergence for one in found)[-2]


def test_channel_sensitivity_is_none_where_the_removed_channels_are_dead(trained_family, stripes, held_out):
    norm = trained_family.get_layer("large_tail1_pw_bn")
    scale, offset, *statistics = norm.get_weights()
    scale[:12] = offset[:12] = 0
    norm.set_weights([scale, offset, *statistics])
    channels = prunable(trained_family, stripes.SPEC.students, stripes.SPEC).channels
    importance = magnitude_importance(channels)

    found = channel_sensitivity(channels, importance, *held_out)

    assert [group.group for group in found] == ["stem", "small_tail1", "trunk2_1", "large_tail1"]
    last = found[-1]
    assert (last.channels, last.students, last.blocks) == (24, ["large"], ["large_tail1"])
    assert [drop.share for drop in last.removed] == SHARES
    assert [drop.divergence for drop in last.removed[:2]] == pytest.approx([0, 0], abs=1e-6)
    assert last.removed[2].divergence > 1e-4
    assert found[0].removed[2].divergence > 1e-3


def test_kernel_in_8_bits_has_a_scale_for_each_channel_and_one_for_a_dense_layer():
    kernel = np.array([[1.0, 254.0], [0.5, 1.0]], np.float32)

    each = _kernel_in_8_bits(keras.layers.Conv2D(2, 1), kernel.reshape(1, 1, 2, 2)).reshape(2, 2)
    one = _kernel_in_8_bits(keras.layers.Dense(2), kernel)

    np.testing.assert_allclose(each, [[1, 254], [64 / 127, 0]], rtol=1e-6)  # 1 / 2 = 0.5 rounds to even
    np.testing.assert_allclose(one, [[0, 254], [0, 0]])


def test_round_to_8_bits_takes_256_steps_with_zero_among_them():
    value = tf.constant(np.linspace(-1, 3, 1001).astype(np.float32))

    rounded = _round_to_8_bits(value).numpy()

    assert len(np.unique(rounded)) == 256
    assert 0.0 in rounded
    assert np.max(np.abs(rounded - value)) <= 4 / 255 * 1.01
    np.testing.assert_array_equal(_round_to_8_bits(tf.zeros(3)), 0)


def test_divergence_is_that_of_kullback_and_leibler_summed_over_images():
    old, new = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]]) + 7

    assert _divergence(old, new) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
