# SPDX-License-Identifier: Apache-2.0
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from learn2compress.data.sources import npz as npz_source
from learn2compress.data.sources.npz import list_arrays, open_npz
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)
LABELS = (np.arange(20) % 3).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def save_npz(compressed=False, **arrays) -> str:
        path = tmp_path / "data.npz"
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return str(path)

    return save_npz


def open_at(path, limit=None, **options):
    return open_npz(DataConfig(path=path, **options), limit)


def read(source) -> list:
    return [raw for piece in source.pieces for raw in piece.read()]


@pytest.mark.parametrize("compressed", [False, True])
def test_open_npz_reads_the_named_arrays(save, compressed):
    path = save(
        compressed,
        train_images=IMAGES,
        train_labels=LABELS,
        test_images=IMAGES[:6],
        test_labels=LABELS[:6],
        class_names=np.array(["x", "y", "z"]),
    )
    source = open_at(path)
    assert source.classes == ("x", "y", "z")
    assert source.counts == {"train": 20, "test": 6}
    assert source.example_shape == (4, 5, 3)
    raws = read(source)
    assert np.array_equal(np.stack([raw.content for raw in raws]), np.concatenate([IMAGES, IMAGES[:6]]))
    assert [raw.label for raw in raws] == [*LABELS, *LABELS[:6]]
    assert [raw.part for raw in raws] == ["train"] * 20 + ["test"] * 6
    assert raws[21].source == "test_images[1]"


def test_open_npz_reads_keras_names_and_a_column_of_labels(save):
    path = save(x_train=IMAGES, y_train=LABELS[:, None].astype(np.int64), x_test=IMAGES[:6], y_test=LABELS[:6, None])
    source = open_at(path)
    assert source.counts == {"train": 20, "test": 6}
    assert source.classes == ("0", "1", "2")
    assert [raw.label for raw in read(source)] == [*LABELS, *LABELS[:6]]


def test_open_npz_leaves_images_and_labels_alone_to_be_split(save):
    source = open_at(save(images=IMAGES, labels=LABELS))
    assert source.counts == {None: 20}
    assert {raw.part for raw in read(source)} == {None}


def test_open_npz_takes_grey_images_without_a_channel_axis(save):
    source = open_at(save(images=IMAGES[..., 0], labels=LABELS))
    assert source.example_shape == (4, 5, 1)
    assert np.array_equal(read(source)[3].content, IMAGES[3, :, :, :1])


def test_open_npz_takes_wider_integers_when_they_are_pixels(save):
    raw = read(open_at(save(images=IMAGES.astype(np.int32), labels=LABELS)))[7]
    assert raw.content.dtype == np.uint8
    assert np.array_equal(raw.content, IMAGES[7])


def test_open_npz_orders_named_classes_and_names_nameless_ones(save):
    path = save(images=IMAGES, labels=LABELS, class_names=np.array(["x", "y", "z"]))
    source = open_at(path, classes=["z", "x", "y"])
    assert source.classes == ("z", "x", "y")
    assert [raw.label for raw in read(source)][:3] == [1, 2, 0]
    source = open_at(save(images=IMAGES, labels=LABELS), classes=["z", "x", "y"])
    assert source.classes == ("z", "x", "y")
    assert [raw.label for raw in read(source)][:3] == [0, 1, 2]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 19, 20, 50])
def test_open_npz_spaces_a_limit_evenly_whatever_the_pieces(save, monkeypatch, compressed, limit):
    monkeypatch.setattr(npz_source, "PIECE_BYTES", 4 * 5 * 3 * 3)  # three rows
    source = open_at(save(compressed, images=IMAGES, labels=LABELS), limit)
    taken = min(limit, 20)
    assert source.counts == {None: taken}
    assert [raw.source for raw in read(source)] == [f"images[{i * 20 // taken}]" for i in range(taken)]
    assert len(source.pieces) == -(-taken // 3)


def test_read_holds_a_row_and_not_the_array(save):
    images = np.zeros((3000, 64, 64, 3), np.uint8)  # 37 MB
    source = open_at(save(images=images, labels=np.arange(3000) % 2))
    tracemalloc.start()
    try:
        assert sum(1 for piece in source.pieces for _ in piece.read()) == 3000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


def test_open_npz_raises_when_the_file_is_no_archive(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"not a zip file at all")
    with pytest.raises(DataError, match=r"data.npz must be a .npz file; got: File is not a zip file"):
        open_at(str(path))


def test_open_npz_raises_when_the_file_is_cut_short(save):
    path = save(images=IMAGES, labels=LABELS)
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(DataError, match=r"must be a .npz file"):
        open_at(path)


def test_read_raises_when_the_data_are_damaged(save):
    path = save(True, images=IMAGES, labels=LABELS)
    with open(path, "r+b") as stream:
        stream.seek(600)
        stream.write(bytes(300))
    with pytest.raises(DataError, match=r"data.npz: images must be a whole array; got: "):
        read(open_at(path))


def test_open_npz_raises_when_the_arrays_have_other_names(save):
    with pytest.raises(DataError, match=r"must hold train_images and train_labels, .*; got data, target\. Save it"):
        open_at(save(data=IMAGES, target=LABELS))


def test_open_npz_raises_when_test_lacks_its_labels(save):
    with pytest.raises(DataError, match="must hold test_labels beside test_images; got none"):
        open_at(save(train_images=IMAGES, train_labels=LABELS, test_images=IMAGES))


def test_open_npz_raises_when_images_are_floats(save):
    with pytest.raises(DataError, match=r"images must hold pixels 0..255 as uint8; got float32. Save x.round"):
        open_at(save(images=(IMAGES / 255).astype(np.float32), labels=LABELS))


def test_read_raises_when_integers_are_no_pixels(save):
    images = IMAGES.astype(np.int16)
    images[4, 0, 0, 0] = 300
    with pytest.raises(DataError, match=r"row 4 of images must hold pixels 0..255; got \d+ to 300"):
        read(open_at(save(images=images, labels=LABELS)))


@pytest.mark.parametrize(
    ("images", "hint"),
    [
        (np.moveaxis(IMAGES, 3, 1), r"got \[20, 3, 4, 5\]. Save x.transpose"),
        (IMAGES.reshape(20, -1), r"got \[20, 60\]. Save it as an array of images"),
        (IMAGES[:0], r"got \[0, 4, 5, 3\]"),
        (np.zeros((20, 4, 5, 4), np.uint8), r"got \[20, 4, 5, 4\]"),
    ],
)
def test_open_npz_raises_when_the_shape_is_no_images(save, images, hint):
    with pytest.raises(DataError, match=r"images must have the shape \[n, height, width\] or .*; " + hint):
        open_at(save(images=images, labels=LABELS[: len(images)]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:19], r"labels must have the shape \[20\], as images; got \[19\]. Save one label"),
        (np.eye(3)[LABELS], r"got \[20, 3\]. Save the argmax of one-hot labels"),
        (LABELS.astype(np.float32), "labels must hold integers; got float32"),
        (LABELS.astype(np.int64) - 1, "labels must hold indices of classes, from 0; got -1"),
        (LABELS * 0, r"must hold at least two classes; got 0\. "),
    ],
)
def test_open_npz_raises_when_labels_do_not_fit(save, labels, message):
    with pytest.raises(DataError, match=message):
        open_at(save(images=IMAGES, labels=labels))


def test_open_npz_raises_when_a_label_has_no_name(save):
    path = save(images=IMAGES, labels=LABELS, class_names=np.array(["x", "y"]))
    with pytest.raises(DataError, match="must be below 2, the number of class names; got 2"):
        open_at(path)


def test_open_npz_raises_when_class_names_are_others_or_twice(save):
    path = save(images=IMAGES, labels=LABELS, class_names=np.array(["x", "y", "z"]))
    with pytest.raises(
        DataError, match=r"data.classes must name each class of .*data.npz once; got 'w', which it lacks"
    ):
        open_at(path, classes=["x", "y", "w"])
    with pytest.raises(DataError, match=r"class names of .* must differ; got x, y, x"):
        open_at(save(images=IMAGES, labels=LABELS, class_names=np.array(["x", "y", "x"])))


def test_open_npz_raises_when_parts_have_other_shapes(save):
    path = save(train_images=IMAGES, train_labels=LABELS, test_images=IMAGES[:, :2], test_labels=LABELS)
    with pytest.raises(DataError, match="must have one shape; got"):
        open_at(path)


def test_open_npz_raises_when_an_array_is_in_fortran_order(save):
    with pytest.raises(DataError, match="images must be stored in C order; got Fortran order"):
        open_at(save(images=np.asfortranarray(IMAGES), labels=LABELS))


def test_open_npz_takes_the_validation_arrays_of_medmnist_and_names_what_is_left(tmp_path):
    images, labels = np.zeros((6, 4, 4, 3), np.uint8), np.arange(6).reshape(6, 1) % 2
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels, val_images=images[:4],
             val_labels=labels[:4], test_images=images[:2], test_labels=labels[:2], extra=images)  # fmt: skip
    source = open_npz(DataConfig(path=str(tmp_path / "x.npz")))
    assert source.counts == {"train": 6, "validation": 4, "test": 2}
    assert source.notes == (f"{tmp_path / 'x.npz'} holds arrays that are not used: extra [6, 4, 4, 3]",)
    assert not source.named


@pytest.mark.parametrize("names", [("x_val", "y_val"), ("x_valid", "y_valid")])
def test_open_npz_takes_the_validation_arrays_beside_those_of_keras(tmp_path, names):
    images, labels = np.zeros((6, 4, 4, 3), np.uint8), np.arange(6) % 2
    arrays = dict(zip(names, (images[:4], labels[:4]), strict=True))
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels, **arrays)
    assert open_npz(DataConfig(path=str(tmp_path / "x.npz"))).counts == {"train": 6, "validation": 4}


def test_open_npz_says_how_to_shift_labels_from_one(tmp_path):
    images, labels = np.zeros((6, 4, 4, 3), np.uint8), 1 + np.arange(6) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    with pytest.raises(
        DataError, match=r"Set data.label_offset: 1 \(evaluate: --label-offset 1\) to count them from 1"
    ):
        open_npz(DataConfig(path=str(tmp_path / "x.npz")))
    source = open_npz(DataConfig(path=str(tmp_path / "x.npz"), label_offset=1))
    assert source.classes == ("1", "2")
    assert [raw.label for piece in source.pieces for raw in piece.read()] == [0, 1] * 3


@pytest.mark.parametrize("shape", [(10**12, 2, 2), (4, 10**6, 10**6), (1 << 62, 1 << 62, 4)])
def test_list_arrays_refuses_a_header_that_declares_more_than_there_is(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", raw)

    with pytest.raises(DataError, match=r"train_images must declare the array that it holds.* Write the file anew"):
        list_arrays(str(tmp_path / "a.npz"))
