# SPDX-License-Identifier: Apache-2.0
"""Data in the forms that people have: `evaluate` gives the right accuracy, says what it passes over, or refuses."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_classifiers import Tiny, make_images, make_tiny

NAMES = ("apple", "berry", "cherry", "daisy")
LABELS = np.arange(24) % 4
IMAGES = make_images(LABELS)
WORDS = np.array(NAMES)[LABELS]


@pytest.fixture
def evaluate(type_in, tmp_path):
    """Runs `evaluate` on data; returns its status, the record if there is one, and the error output."""
    (tmp_path / "tiny.tflite").write_bytes(make_tiny(Tiny()))

    def run(data, *options):
        words = ["--data", data, "--scaling", "none", "--json", "--runs", 1, *options]
        status, out, err = type_in("evaluate", tmp_path / "tiny.tflite", *words)
        return status, json.loads(out)[0] if out else {}, err

    return run


def save_folder(root: Path, classes=NAMES, suffix="png", under="", save=lambda image, path: image.save(path)) -> Path:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = root / under / classes[label] / f"{number:02}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image.fromarray(image), path)
    return root


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_test": IMAGES, "y_test": LABELS},
        {"test_images": IMAGES, "test_labels": LABELS},
        {"X_train": IMAGES[:8], "y_train": LABELS[:8], "X_test": IMAGES, "y_test": LABELS},
        {"X": IMAGES, "y": LABELS},
        {"images": IMAGES, "labels": LABELS[:, None].astype(np.uint8)},
        {"images": IMAGES.astype(np.int64), "labels": LABELS.astype(">i4")},
        {f"{part}_{what}": of for part in ("train", "val", "test") for what, of in
         (("images", IMAGES), ("labels", LABELS[:, None]))},
    ],
)  # fmt: skip
def test_evaluate_reads_arrays_under_their_usual_names(evaluate, tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    status, found, err = evaluate(tmp_path / "a.npz")
    assert (status, found["accuracy"], found["images"], err) == (0, 1.0, 24, "")


def _texts(labels):
    return dict(zip(("class_names", "labels"), np.unique(labels, return_inverse=True), strict=True))


@pytest.mark.parametrize(
    ("wrong", "message", "remedy"),
    [
        ({"labels": np.eye(4, dtype=int)[LABELS]}, "Save the argmax of one-hot labels",
         lambda a: {"labels": a["labels"].argmax(axis=1)}),
        ({"labels": WORDS}, "Save class_names, labels = numpy.unique(labels, return_inverse=True)",
         lambda a: _texts(a["labels"])),
        ({"labels": WORDS.astype(object)}, "Save class_names, labels = numpy.unique(labels, return_inverse=True)",
         lambda a: _texts(a["labels"].astype(str))),
        ({"labels": LABELS.astype(np.float32)}, "Save labels.astype('int64')",
         lambda a: {"labels": a["labels"].astype("int64")}),
        ({"labels": LABELS[:-1]}, "Save one label for each image", lambda _: {"labels": LABELS}),
        ({"images": (IMAGES / 255).astype(np.float32)}, "or (255 * x).round().astype('uint8') if its pixels are 0..1",
         lambda a: {"images": (255 * a["images"]).round().astype("uint8")}),
        ({"images": IMAGES.astype(np.float32)}, "Save x.round().astype('uint8')",
         lambda a: {"images": a["images"].round().astype("uint8")}),
        ({"images": IMAGES.astype(object)}, "Save numpy.stack of images of one size",
         lambda a: {"images": np.stack([image.astype(np.uint8) for image in a["images"]])}),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "Save x.transpose(0, 2, 3, 1), channels last",
         lambda a: {"images": a["images"].transpose(0, 2, 3, 1).copy()}),
        ({"images": np.concatenate([IMAGES, IMAGES[..., :1]], axis=-1)}, "Save x[..., :3], colours alone",
         lambda a: {"images": a["images"][..., :3]}),
        ({"class_names": np.array(NAMES, object)}, "Save numpy.array(names, dtype=str)",
         lambda a: {"class_names": np.array(a["class_names"], dtype=str)}),
    ],
)  # fmt: skip
def test_evaluate_names_what_to_save_instead(evaluate, tmp_path, wrong, message, remedy):
    arrays = {"images": IMAGES, "labels": LABELS} | wrong
    np.savez(tmp_path / "wrong.npz", **arrays)
    status, _, err = evaluate(tmp_path / "wrong.npz")
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    np.savez(tmp_path / "right.npz", **(arrays | remedy(arrays)))
    status, found, _ = evaluate(tmp_path / "right.npz")
    assert (status, found["accuracy"]) == (0, 1.0)


@pytest.mark.parametrize("held_out", ["val", "valid", "validation", "dev", "Val", "eval"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing")])
def test_evaluate_reads_the_test_folder_beside_other_splits(evaluate, tmp_path, train, held_out, test):
    for part in (train, held_out, test):
        save_folder(tmp_path / "data", under=part)
    status, found, err = evaluate(tmp_path / "data")
    assert (status, found["accuracy"], found["images"], err) == (0, 1.0, 24, "")


def test_evaluate_says_in_which_order_numbered_folders_stand(evaluate, tmp_path):
    save_folder(tmp_path / "data", classes=("1", "2", "10", "20"))
    status, _, err = evaluate(tmp_path / "data")
    assert status == 2
    assert "are in the order of text, as in Keras (1, 10, 2 and 1 more)" in err
    status, found, err = evaluate(tmp_path / "data", "--classes", "1,2,10,20")
    assert (status, found["accuracy"], err) == (0, 1.0, "")


def test_evaluate_names_what_it_passes_over(evaluate, tmp_path):
    root = save_folder(tmp_path / "data")
    picture = (root / "apple" / "00.png").read_bytes()
    for name in (
        "lost.png",
        ".hidden/x.png",
        "__MACOSX/._x.png",
        "apple/.DS_Store",
        "apple/Thumbs.db",
        "apple/read.me",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(picture)
    (root / "empty").mkdir()
    (root / "apple" / "more").symlink_to(root / "berry", target_is_directory=True)
    (root / "apple" / "zero.png").touch()
    (root / "apple" / "torn.jpg").write_bytes(_encoded("JPEG")[:-300])
    status, found, err = evaluate(root)
    assert (status, found["accuracy"], found["images"]) == (0, 1.0, 24)
    first, *others = err.splitlines()
    assert first.startswith("2 images were skipped; the first is apple/torn.jpg: image file is truncated")
    assert others == [
        f"warning: files in {root} that are no pictures, 1: apple/read.me",
        f"warning: pictures in {root} that lie in no class folder, 1: lost.png",
        f"warning: links to folders in {root} that are not followed, 1: apple/more",
        f"warning: folders in {root} without pictures, 2: __MACOSX, empty",
    ]


def _encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def _rotated(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter to the right
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def _moving(image: Image.Image, path: Path) -> None:
    image.save(path, save_all=True, append_images=[Image.new("RGB", image.size)])


@pytest.mark.parametrize(
    ("suffix", "save"),
    [
        ("PNG", lambda image, path: image.save(path)),
        ("gif", _moving),
        ("png", _rotated),
        ("tif", lambda image, path: image.convert("CMYK").save(path)),
        ("tiff", lambda image, path: image.save(path)),
        ("bmp", lambda image, path: image.save(path)),
        ("webp", lambda image, path: image.save(path, lossless=True)),
        ("png", lambda image, path: image.quantize(108).save(path)),
    ],
)
def test_evaluate_reads_pictures_of_many_kinds(evaluate, tmp_path, suffix, save):
    status, found, err = evaluate(save_folder(tmp_path / "data", suffix=suffix, save=save))
    assert (status, found["accuracy"], found["images"], err) == (0, 1.0, 24, "")


def test_evaluate_follows_links_to_data_and_to_classes(evaluate, tmp_path):
    root = save_folder(tmp_path / "data")
    (root / "apple").rename(tmp_path / "elsewhere")
    (root / "apple").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(root)
    assert evaluate(tmp_path / "link")[1]["images"] == 24


def write_list(tmp_path: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    """Writes a list; {rows} in it stands for a path and a label in each row, separated as its first row."""
    root = save_folder(tmp_path / "data")
    (root / name).write_bytes(text.encode(encoding))
    return root / name


ROWS = [(f"{name}/{number:02}.png", name) for number, name in enumerate(WORDS)]


def joined(rows=ROWS, mark=",", end="\n") -> str:
    return "".join(mark.join(row) + end for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        joined(),
        "\ufeff" + joined(),
        "\ufefffilename,label\r\n" + joined(end="\r\n"),
        "Image,Class\r" + joined(end="\r"),
        "path;label\n" + joined(mark=";"),
        "path\tlabel\n" + joined(mark="\t"),
        "path, label\n" + joined([(f'"{path}"', label) for path, label in ROWS], mark=", "),
        "path,label\n" + joined([("./" + path, label) for path, label in ROWS]),
        "path,label\n" + joined([(path.replace("/", "\\"), label) for path, label in ROWS]),
        "label,width,path\n" + joined([(label, "6", path) for path, label in ROWS]),
        "path,label\n" + joined([(path, str(7 * (1 + NAMES.index(label)))) for path, label in ROWS]),  # 7, 14, 21, 28
        "path,label,split\n" + joined([(*row, part) for row in ROWS for part in ("TEST",)])
        + "apple/00.png,apple,training\nberry/01.png,berry,dev\n",
    ],
)  # fmt: skip
def test_evaluate_reads_lists_of_many_kinds(evaluate, tmp_path, text):
    status, found, _ = evaluate(write_list(tmp_path, text))
    assert (status, found["accuracy"], found["images"]) == (0, 1.0, 24)


def test_evaluate_reads_a_list_with_an_upper_case_suffix_and_absolute_paths(evaluate, tmp_path):
    rows = [(str(tmp_path / "data" / path), label) for path, label in ROWS]
    assert evaluate(write_list(tmp_path, joined(rows), "LIST.CSV"))[1]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,breed\n" + joined(), "must name an image and its label, or be a header with one of path, file, "),
        (joined() + "apple/00.png,\n", "row 25 of"),
        (joined() + "apple/00.png,berry\n", "got berry in row 25 for apple/00.png, which is apple above. Remove one"),
        (
            "path,label,split\n" + joined([(*row, "later") for row in ROWS]),
            "must be one of train, training, validation",
        ),
    ],
)
def test_evaluate_refuses_lists_with_a_remedy(evaluate, tmp_path, text, message):
    status, found, err = evaluate(write_list(tmp_path, text))
    assert (status, found) == (2, {})
    assert message in err
    assert len(err.splitlines()) == 1
