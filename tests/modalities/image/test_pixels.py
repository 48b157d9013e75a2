# SPDX-License-Identifier: Apache-2.0
import importlib.util
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from learn2compress.modalities.image.pixels import decode_image, fit_image


def encode(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_decode_image_keeps_the_pixels_of_colour():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels))), pixels)


def test_decode_image_has_one_channel_when_grey():
    pixels = np.array([[0, 128], [255, 7]], np.uint8)
    decoded = decode_image(encode(Image.fromarray(pixels)))
    assert decoded.shape == (2, 2, 1)
    assert np.array_equal(decoded[:, :, 0], pixels)


def test_decode_image_resolves_a_palette():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    assert decode_image(encode(picture)).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_decode_image_blends_transparency_with_white():
    pixels = np.array([[[200, 0, 0, 0], [200, 0, 0, 255]]], np.uint8)
    assert decode_image(encode(Image.fromarray(pixels))).tolist() == [[[255, 255, 255], [200, 0, 0]]]


def test_decode_image_scales_sixteen_bits_to_eight():
    picture = Image.fromarray(np.array([[0, 0x80FF, 0xFFFF]], np.uint16))
    assert decode_image(encode(picture))[0, :, 0].tolist() == [0, 0x80, 0xFF]


def test_decode_image_applies_the_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation 6: the first stored row is the right side
    picture = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    decoded = decode_image(encode(picture, "PNG", exif=exif))
    assert decoded.tolist() == [[[255, 0, 0]], [[0, 0, 255]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_decode_image_reads_each_kind_from_a_file(tmp_path, kind):
    (tmp_path / "picture").write_bytes(encode(Image.new("RGB", (5, 4), (200, 100, 50)), kind))
    decoded = decode_image(tmp_path / "picture")
    assert decoded.shape == (4, 5, 3)
    assert np.abs(decoded.astype(int) - [200, 100, 50]).max() <= 6


def test_decode_image_raises_when_the_file_is_cut_short():
    data = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    with pytest.raises(ValueError, match="truncated"):
        decode_image(data[: len(data) // 2])


def test_decode_image_raises_when_it_is_no_picture():
    with pytest.raises(ValueError, match=r"^it is no picture of a known kind$"):
        decode_image(b"hello")


def test_decode_image_raises_when_the_checksum_of_a_png_is_wrong():
    data = bytearray(encode(Image.new("RGB", (8, 8))))
    data[20] ^= 0xFF
    with pytest.raises(ValueError, match=r"."):
        decode_image(bytes(data))


def test_fit_image_returns_the_argument_when_the_shape_is_right():
    image = np.zeros((3, 4, 3), np.uint8)
    assert fit_image(image, (3, 4, 3)) is image


def test_fit_image_stretches_the_whole_picture():
    image = np.zeros((2, 4, 1), np.uint8)
    image[:, 2:] = 200  # the left half is black, the right half is light
    fitted = fit_image(image, (4, 2, 1))
    assert fitted.shape == (4, 2, 1)
    assert fitted[:, 0].max() < 50
    assert fitted[:, 1].min() > 150


def test_fit_image_averages_when_it_reduces_an_image():
    image = np.zeros((8, 8, 1), np.uint8)
    image[:, ::2] = 200
    assert np.abs(fit_image(image, (1, 1, 1)).astype(int) - 100).max() <= 2


def test_fit_image_converts_between_grey_and_colour():
    grey = fit_image(np.full((2, 2, 3), (255, 0, 0), np.uint8), (2, 2, 1))
    assert grey.shape == (2, 2, 1)
    assert set(grey.ravel().tolist()) == {76}  # 0.299 of 255
    assert np.array_equal(fit_image(grey, (2, 2, 3)), np.full((2, 2, 3), 76, np.uint8))


def test_decode_image_refuses_a_picture_by_its_declared_size(tmp_path, monkeypatch):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.png", 600).shape == (20, 30, 3)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))

    with pytest.raises(ValueError, match=r"^it declares 30 x 20 pixels, more than 599 in all$"):
        decode_image(tmp_path / "a.png", 599)


def test_decode_image_says_how_to_read_heic_when_pillow_heif_is_missing():
    if "pillow_heif" in sys.modules or importlib.util.find_spec("pillow_heif"):
        pytest.skip("pillow-heif is installed")
    head = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"
    with pytest.raises(ValueError, match=r"^it is HEIC: install pillow-heif to read it, or convert it to JPEG$"):
        decode_image(head)


def test_decode_image_reads_heic_when_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (16, 12), (200, 100, 50))).save(tmp_path / "x.heic")
    # In a process of its own, as a worker decodes what another process has listed.
    code = (
        "import sys\nfrom pathlib import Path\nfrom learn2compress.modalities.image.pixels import decode_image\n"
        "image = decode_image(Path(sys.argv[1]))\nprint(*image.shape, *image[5, 5])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.heic")], check=True, capture_output=True)
    numbers = [int(word) for word in out.stdout.split()]
    assert numbers[:3] == [12, 16, 3]
    assert np.abs(np.array(numbers[3:]) - [200, 100, 50]).max() <= 6


def test_decode_image_opens_no_format_that_runs_a_program(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(ValueError, match=r"^it is no picture of a known kind$"):
        decode_image(tmp_path / "a.jpg")
