# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
from PIL import Image

from learn2compress.modalities.image.presentation import ImagePresentation


@pytest.mark.parametrize(
    ("shape", "size", "described"),
    [
        ((4, 6, 1), "4x6x1", "an image of 6x4 pixels, grey"),
        ((4, 6, 3), "4x6x3", "an image of 6x4 pixels, red, green, blue"),
    ],
)
def test_presentation_describes_the_form_of_an_image(shape, size, described):
    shown = ImagePresentation(shape)

    assert (shown.size, shown.described, shown.input_format) == (size, described, f"image, {size}")


@pytest.mark.parametrize("channels", [1, 3])
def test_golden_file_is_lossless(channels):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, channels)).astype(np.uint8)

    suffix, content = ImagePresentation(image.shape).golden_file(image)

    assert suffix == ".png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))).reshape(image.shape), image)


def test_snippet_template_exists_for_each_snippet():
    shown = ImagePresentation((4, 6, 1))

    assert all("{{ model }}" in shown.snippet_template(name) for name in shown.snippets)
