# SPDX-License-Identifier: Apache-2.0
import hashlib

import numpy as np
import pytest
from PIL import Image

from learn2compress.modalities.image.records import ImageRecords

SHAPE = (2, 3, 3)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.uint8)


def test_decode_inverts_encode_with_and_without_tensorflow(images):
    records = ImageRecords(SHAPE)
    encoded = [records.encode(image) for image in images]

    assert np.array_equal(records.decode(encoded), images)
    assert np.array_equal(records.decode_tensor(encoded), images)
    assert {len(one) for one in encoded} == {records.example_bytes}


def test_digest_depends_on_shape_and_pixels(images):
    digest = ImageRecords(SHAPE).digest(images[0])

    assert digest == hashlib.sha256(b"2x3x3:" + images[0].tobytes()).digest()
    assert digest != ImageRecords((3, 2, 3)).digest(images[0].reshape(3, 2, 3))
    assert digest == ImageRecords((9, 9, 1)).digest(images[0]), "of the image, whatever it is converted to"


def test_read_file_and_fit_convert_a_picture_to_the_stored_form(images, tmp_path):
    Image.fromarray(images[0]).save(tmp_path / "x.png")
    records = ImageRecords(SHAPE)

    raw = records.read_file(tmp_path / "x.png")

    assert np.array_equal(records.fit(raw), images[0])
    assert ImageRecords((1, 1, 1)).fit(raw).shape == (1, 1, 1)


def test_statistics_measure_the_original_size():
    raw = np.full((5, 4, 1), 51, np.uint8)
    records = ImageRecords((2, 2, 1))

    assert records.statistics(raw, records.fit(raw)) == {
        "original_height": 5,
        "original_width": 4,
        "brightness": pytest.approx(0.2),
    }
