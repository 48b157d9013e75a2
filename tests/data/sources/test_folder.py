# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from learn2compress.data.sources.folder import FILES_A_PIECE, FolderPiece, open_folder
from learn2compress.modalities.image.pixels import SUFFIXES
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile


def save(path: Path, value: int = 0, mode: str = "RGB", size=(6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(path)


def read(source) -> list:
    return [item for piece in source.pieces for item in piece.read()]


def open_at(path: Path, limit=None, **options):
    return open_folder(DataConfig(path=str(path), **options), limit)


def test_open_folder_takes_a_class_a_folder(tmp_path):
    save(tmp_path / "rose" / "b.png", 2)
    save(tmp_path / "rose" / "a.jpg", 1)
    save(tmp_path / "daisy" / "nested" / "c.bmp", 3, size=(2, 9))
    save(tmp_path / "daisy" / "grey.png", 4, "L")
    source = open_at(tmp_path)
    assert source.classes == ("daisy", "rose")
    assert source.counts == {None: 4}
    assert source.example_shape is None
    found = {raw.source: (raw.part, raw.label, raw.content.shape) for raw in read(source)}
    assert found == {
        "daisy/grey.png": (None, 0, (5, 6, 1)),
        "daisy/nested/c.bmp": (None, 0, (9, 2, 3)),
        "rose/a.jpg": (None, 1, (5, 6, 3)),
        "rose/b.png": (None, 1, (5, 6, 3)),
    }


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_open_folder_keeps_the_splits_of_the_source(tmp_path, name):
    for part in ("train", name, "test"):
        for label in ("a", "b"):
            save(tmp_path / part / label / "1.png")
    source = open_at(tmp_path)
    assert source.counts == {"train": 2, "validation": 2, "test": 2}
    assert {(raw.part, raw.source) for raw in read(source)} >= {
        ("validation", f"{name}/a/1.png"),
        ("test", "test/b/1.png"),
    }


def test_open_folder_takes_train_for_a_class_when_it_holds_images(tmp_path):
    save(tmp_path / "train" / "1.png")
    save(tmp_path / "bus" / "1.png")
    assert open_at(tmp_path).classes == ("bus", "train")


def test_open_folder_passes_over_hidden_files_and_litter(tmp_path):
    for label in ("a", "b"):
        save(tmp_path / label / "1.png")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    save(tmp_path / "a" / ".hidden" / "2.png")
    save(tmp_path / ".git" / "3.png")
    assert open_at(tmp_path).counts == {None: 2}


def test_open_folder_yields_what_it_cannot_read(tmp_path):
    for label in ("a", "b"):
        save(tmp_path / label / "1.png")
    (tmp_path / "a" / "broken.jpg").write_bytes(b"\xff\xd8 no jpeg")
    bad = [item for item in read(open_at(tmp_path)) if isinstance(item, BadFile)]
    assert [item.source for item in bad] == ["a/broken.jpg"]
    assert "no picture of a known kind" in bad[0].reason


def test_open_folder_names_what_it_passes_over(tmp_path):
    for label in ("a", "b"):
        save(tmp_path / label / "1.png")
    for name in ("a/notes.txt", "a/list.csv", "b/1.xml", "b/2.xml", "b/photo.avif", "__MACOSX/a/._1.png", "docs/x.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = open_at(tmp_path)
    assert source.classes == ("a", "b")
    assert source.counts == {None: 2}
    text = "\n".join(source.notes)
    assert "that cannot be read, 1: " in text
    assert "b/photo.avif; convert them to PNG" in text
    assert "that are no pictures, 5: " in text
    assert "a/list.csv, a/notes.txt, b/1.xml and 2 more" in text
    assert "without pictures, 2: " in text
    assert "__MACOSX, docs" in text


def test_open_folder_passes_over_a_folder_without_pictures_beside_the_splits(tmp_path):
    for name in ("train/a", "train/b", "test/a"):
        save(tmp_path / name / "1.png")
    (tmp_path / "__MACOSX").mkdir()
    source = open_at(tmp_path)
    assert source.counts == {"train": 2, "test": 1}
    assert "without pictures, 1: __MACOSX" in source.notes[0]


@pytest.mark.parametrize(("name", "options"), [("1.gif", {}), ("1.tif", {}), ("1.TIFF", {"format": "TIFF"})])
def test_open_folder_reads_the_first_frame(tmp_path, name, options):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        frames = [Image.new("RGB", (4, 3), (value,) * 3) for value in (40, 200)]
        frames[0].save(tmp_path / label / name, save_all=True, append_images=frames[1:], **options)
    assert [raw.content.flatten()[0] for raw in read(open_at(tmp_path))] == [40, 40]


def test_open_folder_raises_when_a_class_has_unreadable_pictures_alone(tmp_path):
    save(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.avif").touch()
    with pytest.raises(DataError, match=r"must hold images that can be read; got b/photo.avif. Convert them to JPEG"):
        open_at(tmp_path)


def test_open_folder_labels_in_the_configured_order(tmp_path):
    for label in ("a", "b", "c"):
        save(tmp_path / label / "1.png")
    source = open_at(tmp_path, classes=["c", "a", "b"])
    assert source.classes == ("c", "a", "b")
    assert {raw.source[0]: raw.label for raw in read(source)} == {"c": 0, "a": 1, "b": 2}


def test_open_folder_spaces_a_limit_evenly_over_the_classes(tmp_path):
    for label in ("a", "b"):
        for number in range(6):
            save(tmp_path / "train" / label / f"{number}.png")
            save(tmp_path / "test" / label / f"{number}.png")
    source = open_at(tmp_path, limit=4)
    assert source.counts == {"train": 4, "test": 4}
    taken = [raw.source for raw in read(source) if raw.part == "train"]
    assert taken == ["train/a/0.png", "train/a/3.png", "train/b/0.png", "train/b/3.png"]
    assert open_at(tmp_path, limit=100).counts == {"train": 12, "test": 12}


def test_open_folder_cuts_many_files_into_pieces(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(FILES_A_PIECE // 2 + 1):
            (tmp_path / label / f"{number:04}.png").touch()
    pieces = open_at(tmp_path).pieces
    assert [len(piece.files) for piece in pieces] == [FILES_A_PIECE, 2]
    assert all(isinstance(piece, FolderPiece) for piece in pieces)


def test_open_folder_raises_when_test_has_a_class_that_train_lacks(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/zebra"):
        save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match=r"classes of .*/test must be among those of .*/train; got 'zebra', which has"):
        open_at(tmp_path)


def test_open_folder_raises_when_there_is_a_single_class(tmp_path):
    save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"must hold at least two classes; got a\. "):
        open_at(tmp_path)


def test_open_folder_raises_when_there_are_no_sub_folders(tmp_path):
    save(tmp_path / "1.png")
    with pytest.raises(DataError, match="must hold a sub-folder of images for each class; got no sub-folder"):
        open_at(tmp_path)


def test_open_folder_raises_when_train_is_missing(tmp_path):
    save(tmp_path / "test" / "a" / "1.png")
    with pytest.raises(DataError, match=r"must hold train/ .*; got test without train"):
        open_at(tmp_path)


def test_open_folder_raises_when_something_lies_beside_the_splits(tmp_path):
    for name in ("train/a", "train/b", "extra/a"):
        save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="got 'extra' beside them"):
        open_at(tmp_path)


def test_open_folder_raises_when_a_split_is_there_twice(tmp_path):
    for name in ("train/a", "train/b", "val/a", "validation/a"):
        save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="must hold one folder a split; got val and validation"):
        open_at(tmp_path)


@pytest.mark.parametrize(
    ("classes", "got"),
    [(["a", "b"], "no 'c'"), (["a", "b", "c", "d"], "'d', which it lacks"), ([*"abcc"], "a name twice")],
)
def test_open_folder_raises_when_the_configured_classes_are_others(tmp_path, classes, got):
    for label in ("a", "b", "c"):
        save(tmp_path / label / "1.png")
    with pytest.raises(DataError, match=f"data.classes must name each class of folder .* once; got {got}"):
        open_at(tmp_path, classes=classes)


def test_read_decodes_the_pixels(tmp_path):
    save(tmp_path / "a" / "1.png", 9)
    (raw,) = FolderPiece(str(tmp_path), "train", (("a/1.png", 3),)).read()
    assert (raw.part, raw.label) == ("train", 3)
    assert np.array_equal(raw.content, np.full((5, 6, 3), 9))


def test_open_folder_names_heic_and_how_to_read_it_when_pillow_heif_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("learn2compress.data.sources.folder.readable_suffixes", lambda: SUFFIXES)
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name)
    (tmp_path / "a" / "2.HEIC").write_bytes(b"x")
    [note] = open_at(tmp_path).notes
    assert note.endswith("that cannot be read, 1: a/2.HEIC; install pillow-heif to read HEIC, or convert them to JPEG")
    (tmp_path / "b" / "1.png").rename(tmp_path / "b" / "1.heic")
    with pytest.raises(
        DataError, match=r"got b/1.heic. Convert them to JPEG or PNG; HEIC is read where pillow-heif is"
    ):
        open_at(tmp_path)


def test_open_folder_reads_heic_when_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        heif.from_pillow(Image.new("RGB", (16, 12), (90, 90, 90))).save(tmp_path / label / "1.HEIC")
    source = open_at(tmp_path)
    assert (source.counts, source.notes) == ({None: 2}, ())
    assert [item.content.shape for piece in source.pieces for item in piece.read()] == [(12, 16, 3)] * 2
