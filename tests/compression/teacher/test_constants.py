# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.teacher import constants
from learn2compress.compression.teacher.constants import with_constants

IMAGES = tf.constant(np.random.default_rng(0).uniform(-1, 1, (5, 6, 6, 3)), tf.float32)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A convolution and a batch normalization whose weights are all random."""
    image = keras.Input((6, 6, 3))
    values = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(values)))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in model.get_weights()])
    return model


def compiled(call):
    return tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec((None, 6, 6, 3)))


def test_outputs_are_those_of_the_variables(network):
    constant = with_constants(compiled(lambda images: network(images, training=False)))
    expected = network(IMAGES, training=False).numpy()
    assert np.ptp(expected) > 1
    assert constant(IMAGES).numpy() == pytest.approx(expected, rel=1e-5)
    assert constant(IMAGES[:2]).numpy() == pytest.approx(expected[:2], rel=1e-5)


def test_weights_are_those_of_the_moment(network):
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    function = compiled(lambda images: copy(images, training=False))
    constant, before = with_constants(function), function(IMAGES).numpy()
    copy.set_weights([2 * weight for weight in copy.get_weights()])
    assert np.abs(function(IMAGES).numpy() - before).max() > 0.1
    assert constant(IMAGES).numpy() == pytest.approx(before, rel=1e-5)


def test_function_that_reads_a_table_stays_as_it_is(network):
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([0], [3.0]), -1.0)

    def call(images):
        return network(images, training=False) + table.lookup(tf.constant([0]))

    function = compiled(call)
    assert with_constants(function) is function


def test_function_with_too_many_weights_stays_as_it_is(network, monkeypatch):
    monkeypatch.setattr(constants, "MOST_BYTES", 4 * network.count_params() - 1)
    function = compiled(lambda images: network(images, training=False))
    assert with_constants(function) is function


def test_function_without_weights_stays_as_it_is():
    function = compiled(lambda images: 2 * images)
    assert with_constants(function) is function
