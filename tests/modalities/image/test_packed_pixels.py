# SPDX-License-Identifier: Apache-2.0
"""Packed images are read back with the pixels of the ingestion, with and without TensorFlow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from learn2compress.data.batches import whole_shards
from learn2compress.modalities.image import packed_pixels
from learn2compress.modalities.image.pixels import decode_image, fit_image
from learn2compress.modalities.image.records import ImageRecords
from learn2compress.schemas.errors import DataError

SHAPE = (24, 32, 3)
# EXIF data of orientation 6: a quarter turn.
ROTATED = bytes.fromhex("457869660000 4d4d002a00000008 0001 0112 0003 00000001 0006 0000 00000000")


def jpeg(height: int, width: int, *, seed: int = 0, mode: str = "RGB", **options) -> bytes:
    """Encodes a smooth picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    stream = io.BytesIO()
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    picture.save(stream, "JPEG", **{"quality": 80, **options})
    return stream.getvalue()


def packed(source: bytes | np.ndarray, shape: tuple[int, int, int] = SHAPE) -> tuple[bytes, np.ndarray]:
    """Packs a picture; returns the bytes, and the stored pixels that they must give."""
    file = source if isinstance(source, bytes) else None
    raw = decode_image(source) if isinstance(source, bytes) else source
    records = ImageRecords(shape)
    stored = records.fit(raw)
    return records.pack(raw, stored, file), stored


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"subsampling": 0}, SHAPE),
        ({"subsampling": 1}, (23, 31, 3)),
        ({"subsampling": 2, "progressive": True}, SHAPE),
        ({"mode": "L"}, (24, 32, 1)),
        ({"mode": "L"}, SHAPE),
        ({"exif": ROTATED}, SHAPE),
    ],
)
def test_pack_keeps_a_jpeg_with_fewer_bytes_and_gives_its_pixels(options, shape):
    source = jpeg(48, 60, **options)
    content, stored = packed(source, shape)
    assert content == source
    assert np.array_equal(packed_pixels.unpack_pixels(content, shape), stored)


def test_pack_writes_lossless_pixels_when_the_source_has_more_bytes():
    content, stored = packed(jpeg(48, 60, quality=100, subsampling=0))
    assert content.startswith(b"RIFF")
    assert len(content) < stored.size
    assert np.array_equal(packed_pixels.unpack_pixels(content, SHAPE), stored)


def test_pack_writes_lossless_pixels_when_the_source_has_many_more_pixels():
    side = 4 * 64  # the stored images have 64 x 64 pixels, so that this is the largest source
    for more, head in ((0, b"\xff\xd8\xff"), (1, b"RIFF")):
        content, _ = packed(jpeg(side, side + more, quality=10), (64, 64, 3))
        assert content.startswith(head)


def test_pack_writes_lossless_pixels_of_a_grey_image_without_a_jpeg():
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, np.newaxis], (24, 32, 1))
    content, stored = packed(np.ascontiguousarray(ramp), (24, 32, 1))
    assert len(content) < stored.size // 2
    assert np.array_equal(packed_pixels.unpack_pixels(content, (24, 32, 1)), stored)


def test_pack_keeps_raw_pixels_when_no_picture_is_smaller():
    noise = np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)
    assert packed(noise)[0] == noise.tobytes()


def test_batches_of_all_forms_are_decoded_alike_with_and_without_tensorflow():
    noise = np.random.default_rng(2).integers(0, 256, SHAPE, np.uint8)
    made = [packed(source) for source in (noise, jpeg(48, 60), jpeg(48, 60, quality=100), noise[:, ::-1].copy())]
    records = ImageRecords(SHAPE)
    contents, expected = [content for content, _ in made], np.stack([stored for _, stored in made])
    assert len({content[:3] for content in contents}) == 4
    assert np.array_equal(records.decode(contents), expected)
    for batch in (contents, contents[:1]):
        dataset = tf.data.Dataset.from_tensor_slices(batch).batch(len(batch)).map(records.decode_tensor)
        assert dataset.element_spec.shape.as_list() == [None, *SHAPE]
        assert np.array_equal(next(dataset.as_numpy_iterator()), expected[: len(batch)])


def test_another_jpeg_decoder_packs_no_jpeg_and_reads_none(monkeypatch):
    source = jpeg(48, 60)
    assert packed_pixels.decoder_is_exact()
    monkeypatch.setattr(packed_pixels, "decoder_is_exact", lambda: False)
    content, stored = packed(source)
    assert content.startswith(b"RIFF")
    assert np.array_equal(stored, fit_image(decode_image(source), SHAPE))
    with pytest.raises(DataError, match=r"must give the pixels .* run again with data\.storage: raw"):
        packed_pixels.unpack_pixels(source, SHAPE)
    dataset = tf.data.Dataset.from_tensors([source]).map(ImageRecords(SHAPE).decode_tensor)
    with pytest.raises(DataError, match="the JPEG decoder must give"), whole_shards():
        next(iter(dataset))


def test_decoder_is_exact_fails_when_the_pixels_differ(monkeypatch):
    monkeypatch.setattr(packed_pixels, "decode_image", lambda file: decode_image(file) ^ 1)
    assert not packed_pixels.decoder_is_exact.__wrapped__()


@pytest.mark.parametrize("content", [b"\xff\xd8\xff no picture", b"RIFF no picture", b"pixels of another shape"])
def test_unpack_pixels_raises_when_the_bytes_are_no_image(content):
    with pytest.raises(DataError, match="must be 24x32x3 pixels, a JPEG or a WebP file; got"):
        packed_pixels.unpack_pixels(content, SHAPE)
