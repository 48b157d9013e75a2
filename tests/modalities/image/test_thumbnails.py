# SPDX-License-Identifier: Apache-2.0
import base64
import io

import numpy as np
import pytest
from PIL import Image

from learn2compress.modalities.image.thumbnails import thumbnail


def decoded(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnail_keeps_the_pixels_of_a_small_image(channels):
    image = np.random.default_rng(0).integers(0, 256, (8, 6, channels), np.uint8)
    assert np.array_equal(decoded(thumbnail(image)).reshape(image.shape), image)


def test_thumbnail_reduces_a_large_image():
    assert decoded(thumbnail(np.zeros((224, 112, 3), np.uint8))).shape == (64, 32, 3)
