# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.quantization.qat import quantization_aware
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.parts import PART_PIXELS, looks_at_whole_batches, mean_of_parts, parts_of


@pytest.mark.parametrize(
    ("batch", "shape", "parts"),
    [
        (128, (32, 32, 3), 1),
        (32, (160, 160, 3), 2),
        (32, (224, 224, 3), 4),
        (2, (1024, 512, 3), 2),
        (2, (1024, 1024, 3), 2),  # not more parts than images
        (36, (512, 512, 3), 4),  # 36 / 8 is not a whole number
        (33, (224, 224, 3), 1),
        (4096, (64,), 1),
    ],
)
def test_parts_have_a_bounded_number_of_pixels(batch, shape, parts):
    assert parts_of(batch, shape) == parts
    if batch % (2 * parts) == 0 and len(shape) == 3:
        assert batch * shape[0] * shape[1] / parts <= PART_PIXELS


def compute(x: tf.Tensor, y: tf.Tensor):
    """Mean losses of a batch, and gradients with respect to a scale; the second variable has none."""
    scale = tf.constant([2.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(scale)
        losses = tf.reduce_mean((scale * x - y) ** 2, axis=0)
        total = tf.reduce_sum(losses)
    return losses, [tape.gradient(total, scale), None]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_mean_over_parts_is_that_of_the_batch(parts):
    rng = np.random.default_rng(0)
    x, y = (tf.constant(rng.normal(size=(8, 2)), tf.float32) for _ in range(2))
    losses, (gradient, none) = tf.function(lambda *batch: mean_of_parts(compute, batch, parts), autograph=False)(x, y)
    residual = np.array([2.0, 3.0]) * x.numpy() - y.numpy()
    assert losses.numpy() == pytest.approx((residual**2).mean(axis=0), rel=1e-5)
    assert gradient.numpy() == pytest.approx((2 * residual * x.numpy()).mean(axis=0), rel=1e-5)
    assert none is None


def test_a_part_begins_after_the_one_before():
    made = []

    def noted(x: tf.Tensor, y: tf.Tensor):
        found = compute(x, y)
        made.append(found[0].op)
        return found

    with tf.Graph().as_default():
        mean_of_parts(noted, [tf.zeros((8, 2)), tf.zeros((8, 2))], 2)
    assert not made[0].control_inputs
    assert made[0] in before(made[1])


def before(op: tf.Operation) -> set[tf.Operation]:
    """All operations that must be done before one."""
    found, open_ones = set(), [op]
    while open_ones:
        one = open_ones.pop()
        for other in [*one.control_inputs, *(tensor.op for tensor in one.inputs)]:
            if other not in found:
                found.add(other)
                open_ones.append(other)
    return found


def trained(stripes, batches, parts: int, normalized: bool) -> tuple[JointTrainer, list[np.ndarray]]:
    image = keras.Input(stripes.SHAPE)
    values = keras.layers.Conv2D(4, 3, strides=2, kernel_initializer=keras.initializers.GlorotUniform(1))(image)
    values = keras.layers.BatchNormalization()(values) if normalized else values
    values = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(values))
    logits = keras.layers.Dense(len(stripes.CLASSES), kernel_initializer=keras.initializers.GlorotUniform(2))(values)
    model = keras.Model(image, [logits])
    trainer = JointTrainer(model, ("only",), Recipe("distilled", 2, 2, 1e-2, parts=parts))
    trainer.train(batches, None)
    return trainer, model.get_weights()


@pytest.fixture(scope="module")
def batches(stripes):
    images, labels = stripes.draw(64, 0)
    teacher = stripes.StripesTeacher().logits(images)
    return lambda _: stripes.batches(images, labels, teacher)


def test_training_in_parts_gives_the_same_weights(stripes, batches):
    whole, expected = trained(stripes, batches, 1, normalized=False)
    halves, weights = trained(stripes, batches, 2, normalized=False)
    assert (whole.parts, halves.parts) == (1, 2)
    for one, other in zip(weights, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_batch_normalization_gets_the_whole_batch(stripes, batches):
    _, expected = trained(stripes, batches, 1, normalized=True)
    trainer, weights = trained(stripes, batches, 2, normalized=True)
    assert trainer.parts == 1
    for one, other in zip(weights, expected, strict=True):
        assert np.array_equal(one, other)


class Centred(keras.layers.Layer):
    """A user's layer that subtracts the mean of the batch."""

    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, axis=0)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: quantization_aware(model, False)])
def test_layers_that_need_the_whole_batch_are_found_in_training_for_8_bits_too(wrap):
    def network(*layers):
        image = values = keras.Input((8, 8, 1))
        for layer in (keras.layers.Conv2D(4, 3), *layers, keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D()):
            values = layer(values)
        return keras.Model(image, values)

    assert not looks_at_whole_batches(wrap(network()))
    assert looks_at_whole_batches(wrap(network(keras.layers.BatchNormalization())))


def test_a_layer_of_the_user_gets_the_whole_batch():
    image = keras.Input((4,))
    assert looks_at_whole_batches(keras.Model(image, Centred()(keras.layers.Dense(2)(image))))
