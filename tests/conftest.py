# SPDX-License-Identifier: Apache-2.0
"""What has to be so before any test imports TensorFlow: Keras 2 (for tfmot), no start-up noise, no GPU."""

import os

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture(scope="session")
def brightest_pixel_tflite():
    """Bytes of a float .tflite classifier of 2x2x1 images whose four scores are the pixels over 255, so that
    what it predicts can be told by eye."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, 2, 2, 1], tf.float32)])
    def scores(image):
        return tf.reshape(image, [1, 4]) / 255.0

    return tf.lite.TFLiteConverter.from_concrete_functions([scores.get_concrete_function()], scores).convert()
