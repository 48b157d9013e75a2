# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from learn2compress.compression.family.model import normalize
from learn2compress.compression.pruning.importance import magnitude_importance, taylor_importance
from learn2compress.compression.training.losses import family_losses
from learn2compress.schemas.config import LossConfig

LOSS = LossConfig(temperature=2.0, student_weights={"large": 3.0})


@pytest.fixture
def batch(stripes):
    images, labels = stripes.draw(32, 0)
    return images, labels, stripes.StripesTeacher().logits(images)


def test_taylor_importance_equals_the_squared_derivative_by_the_gate(trained_family, stripes, batch):
    """Comparison with a difference quotient: slightly smaller scale and offset of one channel."""
    found = taylor_importance(trained_family, stripes.SPEC, [batch], LOSS)

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


def test_taylor_importance_is_zero_for_channels_with_zero_output(trained_family, stripes, batch):
    norm = trained_family.get_layer("small_tail1_pw_bn")
    scale, offset, *statistics = norm.get_weights()
    scale[:3] = offset[:3] = 0
    norm.set_weights([scale, offset, *statistics])

    found = taylor_importance(trained_family, stripes.SPEC, [batch], LOSS)["small_tail1"]

    np.testing.assert_array_equal(found[:3], 0)
    assert np.all(found[3:] >= 0)
    assert found[3:].max() > 0


def test_taylor_importance_sums_over_the_layers_of_a_group_and_averages_over_batches(trained_family, stripes, batch):
    halves = [tuple(part[i : i + 16] for part in batch) for i in (0, 16)]

    one, two = (taylor_importance(trained_family, stripes.SPEC, [half], LOSS) for half in halves)
    both = taylor_importance(trained_family, stripes.SPEC, halves, LOSS)

    assert {name: len(values) for name, values in both.items()} == {
        "stem": 8,
        "small_tail1": 16,
        "trunk2_1": 16,
        "large_tail1": 24,
    }
    for name, values in both.items():
        np.testing.assert_allclose(values, (one[name] + two[name]) / 2, rtol=1e-4)


def test_magnitude_importance_is_the_folded_norm_over_the_mean_of_its_layer(trained_family, stripes):
    found = magnitude_importance(trained_family, stripes.SPEC)

    kernel = trained_family.get_layer("large_tail1_pw").kernel.numpy()
    norm = trained_family.get_layer("large_tail1_pw_bn")
    scale, _, _, variance = norm.get_weights()
    folded = np.sum(kernel**2, axis=(0, 1, 2)) * scale**2 / (variance + norm.epsilon)
    np.testing.assert_allclose(found["large_tail1"], folded / folded.mean(), rtol=1e-5)
    # The stem's channels are those of four layers: stem, a depthwise one and the pointwise one added to them, and the
    # depthwise ones of tail and trunk behind.
    assert found["stem"].sum() == pytest.approx(5 * 8)
