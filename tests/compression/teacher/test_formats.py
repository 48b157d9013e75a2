# SPDX-License-Identifier: Apache-2.0
"""The format is determined from the content; other files are refused with a message of one line."""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import pytest

from learn2compress.compression.teacher.formats import describe_file, lambda_layers
from learn2compress.schemas.errors import TeacherError

CONFIG = json.dumps({"class_name": "Functional", "config": {"name": "model", "layers": []}})


def write_keras(path: Path, version: str | None = "3.12.4", config: str = CONFIG) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({} if version is None else {"keras_version": version}))
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"weights" * 100)
    return path


def write_h5(path: Path, **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        file.create_dataset("values", data=list(range(1000)))
    return path


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.12.4", "keras3-keras"),
        ("3.0.0", "keras3-keras"),
        ("4.1", "keras3-keras"),
        ("2.16.0", "keras2-keras"),
    ],
)
def test_describe_file_routes_keras_files_by_the_version_inside(tmp_path: Path, version: str, expected: str) -> None:
    path = write_keras(tmp_path / "misnamed.h5", version)
    description = describe_file(path)
    assert description.format == expected
    assert description.keras_version == version
    assert description.size_bytes == path.stat().st_size
    assert description.model_config == json.loads(CONFIG)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("3.12.4", "keras3-h5"), ("2.16.0", "keras2-h5"), (b"2.2.4-tf", "keras2-h5"), (None, "keras2-h5")],
)
def test_describe_file_routes_h5_files_by_their_attributes(
    tmp_path: Path, version: str | bytes | None, expected: str
) -> None:
    attributes = {"model_config": CONFIG} | ({} if version is None else {"keras_version": version})
    assert describe_file(write_h5(tmp_path / "model.keras", **attributes)).format == expected


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_describe_file_recognizes_saved_models(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(b"123")
    description = describe_file(tmp_path)
    assert (description.format, description.size_bytes) == ("saved-model", 8)


def test_describe_file_needs_no_tensorflow(tmp_path: Path) -> None:
    write_keras(tmp_path / "a.keras")
    write_h5(tmp_path / "a.h5", model_config=CONFIG)
    code = (
        "import sys; from learn2compress.compression.teacher.formats import describe_file as d;"
        f"d({str(tmp_path / 'a.keras')!r}); d({str(tmp_path / 'a.h5')!r});"
        "print([m for m in ('tensorflow', 'keras', 'tf_keras') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


def test_describe_file_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"nothing.h5, which does not exist. Check teacher.path"):
        describe_file(tmp_path / "nothing.h5")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.h5", b"", "got an empty file"),
        ("t.keras", b"some words about a model", "got a file that is none of them"),
        ("t.pkl", pickle.dumps({"weights": [1, 2]}), "got a Python pickle, which is never loaded"),
        ("t.h5", pickle.dumps([0], protocol=2), "got a Python pickle"),
        ("t.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 60, "got a TensorFlow Lite file, which cannot be a teacher"),
        ("t.tgz", b"\x1f\x8b\x08" + b"\0" * 20, "got an archive. Unpack it"),
        ("t.tar", b"\0" * 257 + b"ustar" + b"\0" * 250, "got an archive. Unpack it"),
        ("graph.pb", b"\n\x10\n", "got a frozen graph. Export it as a SavedModel"),
        ("saved_model.pb", b"\x08\x01\x12", "got one file of a SavedModel. Set teacher.path: "),
        ("t.onnx", b"\x08\x07\x12", "got an ONNX file"),
        ("model.ckpt.data-00000-of-00001", b"\x01\x02", "got a training checkpoint"),
        ("model.index", b"\x00\x02", "got a training checkpoint"),
    ],
)
def test_describe_file_describes_other_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TeacherError, match=message):
        describe_file(tmp_path / name)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_describe_file_refuses_a_keras_file_cut_short(tmp_path: Path, share: float) -> None:
    path = write_keras(tmp_path / "t.keras")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(TeacherError, match=r"must be a whole .keras file; got one that is cut short"):
        describe_file(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_describe_file_refuses_an_h5_file_cut_short(tmp_path: Path, share: float) -> None:
    path = write_h5(tmp_path / "t.h5", model_config=CONFIG)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(TeacherError, match=r"must be a whole .h5 file; got one that is cut short"):
        describe_file(path)


def test_describe_file_refuses_a_keras_file_with_damaged_weights(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "t.keras")
    path.write_bytes(path.read_bytes().replace(b"weightsweights", b"weightsweight5", 1))
    with pytest.raises(TeacherError, match=r"model.weights.h5 is damaged. Copy it again"):
        describe_file(path)


@pytest.mark.parametrize(
    ("member", "message"),
    [("archive/data.pkl", "got a PyTorch file"), ("a.txt", "got a zip archive of other")],
)
def test_describe_file_refuses_other_zip_archives(tmp_path: Path, member: str, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(TeacherError, match=message):
        describe_file(tmp_path / "t.zip")


@pytest.mark.parametrize(
    ("version", "config", "message"),
    [
        (None, CONFIG, "must name its keras_version in metadata.json; got none"),
        ("3.0", "{", "must contain a readable Keras configuration; got "),
        ("three", CONFIG, "must contain a readable Keras configuration; got "),
    ],
)
def test_describe_file_refuses_a_keras_file_with_invalid_contents(
    tmp_path: Path, version: str | None, config: str, message: str
) -> None:
    with pytest.raises(TeacherError, match=message):
        describe_file(write_keras(tmp_path / "t.keras", version, config))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"layer_names": ["dense"], "keras_version": "2.16.0"}, "got only weights, without the model"),
        ({}, "got an HDF5 file without a Keras model"),
    ],
)
def test_describe_file_refuses_h5_files_without_a_model(tmp_path: Path, attributes: dict, message: str) -> None:
    with pytest.raises(TeacherError, match=message + ".*not model.save_weights"):
        describe_file(write_h5(tmp_path / "t.h5", **attributes))


def test_describe_file_names_the_inner_saved_model(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    with pytest.raises(TeacherError, match=rf"a folder of 2 of them. Set teacher.path: {tmp_path / '2'}"):
        describe_file(tmp_path)


def test_describe_file_refuses_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    with pytest.raises(TeacherError, match=r"got a folder without saved_model.pb. Training checkpoints"):
        describe_file(tmp_path)


@pytest.mark.parametrize("container", ["keras", "h5"])
def test_describe_file_refuses_lambda_layers_at_any_depth(tmp_path: Path, container: str) -> None:
    layer = {"class_name": "Lambda", "config": {"name": "double", "function": ["4wEAAAA=", None, None]}}
    nested = {
        "class_name": "Functional",
        "config": {"layers": [{"class_name": "Dense", "config": {}}, layer]},
    }
    config = json.dumps({"class_name": "Sequential", "config": {"layers": [nested]}})
    if container == "keras":
        path = write_keras(tmp_path / "t.keras", config=config)
    else:
        path = write_h5(tmp_path / "t.h5", keras_version="2.16.0", model_config=config)
    with pytest.raises(TeacherError, match="must not contain code; got the Lambda layer 'double'"):
        describe_file(path)


def test_lambda_layers_ignores_tensorflow_operations() -> None:
    assert list(lambda_layers({"class_name": "TFOpLambda", "config": {"name": "tf.math.add"}})) == []
