# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import tensorflow as tf

from learn2compress.compression.training.losses import family_losses, hard_loss, soft_loss, stacked_losses
from learn2compress.schemas.config import LossConfig

# Logits whose probabilities are 1/4 and 3/4, and 1/2 and 1/2.
QUARTER = tf.constant([[0.0, math.log(3)]])
HALF = tf.constant([[1.0, 1.0]])


def test_hard_loss_is_the_cross_entropy_with_the_label():
    loss = hard_loss(tf.constant([0, 1]), tf.concat([QUARTER, QUARTER], 0))

    np.testing.assert_allclose(loss, [math.log(4), math.log(4 / 3)], rtol=1e-6)


def test_hard_loss_distributes_the_weight_of_the_label_when_smoothed():
    # 0.2 is distributed over two classes: the label has weight 0.9, the other class 0.1.
    loss = hard_loss(tf.constant([1]), QUARTER, 0.2)

    assert float(loss[0]) == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_hard_loss_is_zero_without_a_label(smoothing):
    loss = hard_loss(tf.constant([-1, 1], tf.int64), tf.concat([QUARTER, QUARTER], 0), smoothing)

    assert float(loss[0]) == 0
    assert float(loss[1]) > 0


def test_soft_loss_is_the_divergence_of_the_student_from_the_teacher():
    # KL((1/4, 3/4) || (1/2, 1/2)) = 1/4 log 1/2 + 3/4 log 3/2.
    loss = soft_loss(QUARTER, HALF, 1.0)

    assert float(loss[0]) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_soft_loss_divides_logits_by_the_temperature_and_multiplies_by_its_square():
    # At T = 2 the teacher's log 9 becomes log 3: (1/4, 3/4) again.
    loss = soft_loss(tf.constant([[0.0, math.log(9)]]), HALF, 2.0)

    assert float(loss[0]) == pytest.approx(4 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5)))


def test_soft_loss_is_zero_where_both_agree_up_to_an_offset():
    assert float(soft_loss(QUARTER, QUARTER + 5, 3.0)[0]) == pytest.approx(0, abs=1e-6)


def test_soft_loss_is_finite_for_logits_far_apart():
    far = tf.constant([[0.0, -65504.0]])

    assert np.isfinite(soft_loss(far, -far, 1.0)[0])


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_soft_loss_gradient_is_independent_of_the_temperature(temperature):
    """In the limit of high temperatures it is that of half the squared distance of the logits over the classes."""
    teacher, student = tf.constant([[0.0, 0.1]]), tf.Variable([[0.1, 0.0]])
    with tf.GradientTape() as tape:
        loss = soft_loss(teacher, student, temperature)

    np.testing.assert_allclose(tape.gradient(loss, student), [[0.05, -0.05]], rtol=0.01)


def test_family_losses_mix_hard_and_soft_by_the_soft_weight():
    labels = tf.constant([1])

    (loss,) = family_losses(labels, QUARTER, [HALF], LossConfig(temperature=2.0, soft_weight=0.75))

    expected = 0.25 * math.log(2) + 0.75 * soft_loss(QUARTER, HALF, 2.0)[0]
    assert float(loss[0]) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("soft_weight", "expected"), [(0.0, math.log(2)), (1.0, 0.25 * math.log(0.5) + 0.75 * math.log(1.5))]
)
def test_family_losses_have_one_term_when_the_soft_weight_is_0_or_1(soft_weight, expected):
    (loss,) = family_losses(tf.constant([0]), QUARTER, [HALF], LossConfig(temperature=1.0, soft_weight=soft_weight))

    assert float(loss[0]) == pytest.approx(expected)


def test_family_losses_keep_the_soft_term_without_a_label():
    config = LossConfig(soft_weight=0.4, temperature=1)

    [loss] = family_losses(tf.constant([-1], tf.int64), QUARTER, [HALF], config)

    assert float(loss[0]) == pytest.approx(0.4 * float(soft_loss(QUARTER, HALF, 1.0)[0]))


def test_family_losses_use_only_labels_without_a_teacher():
    (loss,) = family_losses(tf.constant([0]), None, [QUARTER], LossConfig(soft_weight=0.9))

    assert float(loss[0]) == pytest.approx(math.log(4))


def test_family_losses_distil_smaller_students_from_the_largest():
    settings = LossConfig(temperature=1.0, soft_weight=0.0, in_place_weight=0.25)

    small, large = family_losses(tf.constant([0]), None, [HALF, QUARTER], settings)

    assert float(small[0]) == pytest.approx(0.75 * math.log(2) + 0.25 * float(soft_loss(QUARTER, HALF, 1.0)[0]))
    assert float(large[0]) == pytest.approx(math.log(4))


def test_family_losses_distil_each_student_from_all_larger_ones():
    settings = LossConfig(temperature=1.0, soft_weight=0.0, in_place_weight=1.0, in_place_from="larger")

    tiny, small, _ = family_losses(tf.constant([0]), None, [HALF, QUARTER, 2 * QUARTER], settings)

    from_small, from_large = (float(soft_loss(logits, HALF, 1.0)[0]) for logits in (QUARTER, 2 * QUARTER))
    assert from_small != pytest.approx(from_large)
    assert float(tiny[0]) == pytest.approx((from_small + from_large) / 2)
    assert float(small[0]) == pytest.approx(float(soft_loss(2 * QUARTER, QUARTER, 1.0)[0]))


def test_family_losses_stop_the_gradient_of_the_smaller_at_the_largest():
    settings = LossConfig(temperature=1.0, soft_weight=0.0, in_place_weight=1.0)
    small, large = tf.Variable(HALF), tf.Variable(QUARTER)
    with tf.GradientTape() as tape:
        losses = family_losses(tf.constant([0]), None, [small, large], settings)

    by_small, by_large = tape.gradient(losses[0], [small, large])

    np.testing.assert_allclose(by_small, [[0.25, -0.25]], atol=1e-6)  # softmax less the largest's
    assert by_large is None


def test_family_losses_have_one_value_per_student_and_image():
    outputs = [tf.zeros((5, 3))] * 4

    losses = family_losses(tf.zeros(5, tf.int64), tf.zeros((5, 3)), outputs, LossConfig(in_place_weight=0.5))

    assert [tuple(loss.shape) for loss in losses] == [(5,)] * 4


@pytest.mark.parametrize("in_place", [0.0, 0.5])
@pytest.mark.parametrize("teacher", [None, tf.concat([QUARTER, 2 * QUARTER], 0)])
def test_stacked_losses_equal_those_of_each_student(teacher, in_place):
    labels, config = tf.constant([1, -1], tf.int64), LossConfig(in_place_weight=in_place, label_smoothing=0.1)
    outputs = [tf.concat([HALF, QUARTER], 0), tf.concat([-QUARTER, HALF], 0)]
    together = stacked_losses(labels, teacher, outputs, config)
    np.testing.assert_allclose(tf.transpose(together), family_losses(labels, teacher, outputs, config), atol=1e-6)
