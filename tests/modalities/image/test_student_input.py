# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tf_keras as keras

from learn2compress.modalities.image.student_input import ImageStudentInput

INPUTS = ImageStudentInput()


def test_normalize_maps_pixels_to_minus_one_to_one():
    assert np.allclose(INPUTS.normalize(np.array([0, 51, 255], np.uint8)), [-1, -0.6, 1])


def test_app_input_normalizes_as_training_does():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1)).astype(np.uint8)
    model = keras.Model(*INPUTS.app_input((4, 5, 1)))

    assert model.input_names == ["image"]
    assert np.allclose(model(pixels.astype(np.float32)), INPUTS.normalize(pixels), atol=1e-6)


def test_representative_batches_begin_with_the_extremes():
    pixels = np.full((2, 2, 3), 51, np.uint8)
    black, white, image = INPUTS.representative((2, 2, 3), [pixels])

    assert [batch.shape for batch in (black, white, image)] == [(1, 2, 2, 3)] * 3
    assert (black.min(), black.max(), white.min(), white.max()) == (-1, -1, 1, 1)
    assert image.dtype == np.float32
    assert np.array_equal(image, INPUTS.normalize(pixels[None]))
