# SPDX-License-Identifier: Apache-2.0
import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.tflite_files import count_calls, write_metadata

from learn2compress.compression.family.spec import family_costs
from learn2compress.compression.quantization import on_device
from learn2compress.compression.quantization.conversion import convert_float
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.quantization.qat import calibrate, quantization_aware, representative_ids_digest
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import Epoch, OnDeviceModelSetManifest, read_manifest
from learn2compress.schemas.progress import listening
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.model_file import read_model_file

CURVES = [
    Epoch(stage="quantized", epoch=1, loss={"small": 1.0}, accuracy={"small": 0.5}, learning_rate=1e-3, seconds=2.0)
]
VARIANTS = ("float32", "float16", "dynamic", "int8", "uint8")


@pytest.fixture
def source(stripes, trained_family, tmp_path):
    """Manifest of the students."""
    return stripes.write_family(tmp_path / "students", trained_family, stage="pruned", seed=3)


@pytest.fixture
def write(stripes, source, tmp_path):
    """Writes the set from a quantized family into tmp_path/models."""

    def write(family, aware, variants=VARIANTS):
        quantized = QuantizedFamily(family, aware, stripes.SPEC.students)
        images = list(stripes.draw(16, 0)[0])
        return write_models(tmp_path / "models", quantized, source, variants, images, ["b", "a"], CURVES)

    return write


def test_write_models_writes_every_student_in_every_variant(write, source, trained_family, stripes, tmp_path):
    aware = quantization_aware(trained_family, keep_zeros=False)
    calibrate(aware, trained_family, [stripes.draw(32, 0)[0] / 127.5 - 1])
    seen = []

    with listening(lambda progress: seen.append((progress.done, progress.total))):
        manifest = write(trained_family, aware)

    assert [m.name for m in manifest.models] == [f"{s}-{v}" for s in ("small", "large") for v in VARIANTS]
    assert seen == [(done, 10) for done in range(1, 11)]
    assert read_manifest(tmp_path / "models", OnDeviceModelSetManifest) == manifest
    assert manifest.normalization == source.normalization
    assert (manifest.teacher_sha256, manifest.seed, manifest.task) == (source.teacher_sha256, 3, source.task)
    assert read_curves(tmp_path / "models") == CURVES
    for model in manifest.models:
        path = tmp_path / "models" / model.file.path
        integer = model.variant in ("int8", "uint8")
        assert (model.file.sha256, model.file.bytes) == (file_sha256(path), path.stat().st_size)
        assert model.full_int8 is integer
        assert (model.calibration is not None) is integer
        assert {layer.method for layer in model.layers} == ({"quantization-aware"} if integer else set())
        about = read_metadata(path.read_bytes(), file=str(path))
        assert about.labels == tuple(stripes.CLASSES)
        # In an integer file the scale of the input normalizes; a float file normalizes inside.
        assert (about.mean, about.std) == (((127.5,), (127.5,)) if integer else ((0.0,), (1.0,)))
    calibration = manifest.models[3].calibration
    assert (calibration.images, calibration.split) == (2, "train")
    assert calibration.digest == representative_ids_digest(["a", "b"])


def test_write_models_quantizes_after_training_without_a_quantization_aware_model(write, trained_family, tmp_path):
    manifest = write(trained_family, None, ["int8"])

    assert [m.name for m in manifest.models] == ["small-int8", "large-int8"]
    for model in manifest.models:
        assert model.full_int8
        assert {layer.method for layer in model.layers} == {"post-training"}
        assert len(read_model_file(tmp_path / "models" / model.file.path).operators) > 5


def test_write_models_parses_and_packs_each_file_once(write, trained_family, monkeypatch):
    calls = count_calls(monkeypatch)

    manifest = write(trained_family, None, ["float32", "int8", "uint8"])

    assert len(manifest.models) == 6
    assert calls == {"unpack": 6, "pack": 6}


def test_write_models_files_have_the_computed_costs(write, trained_family, stripes, tmp_path):
    manifest = write(trained_family, None, ["int8"])

    for model in manifest.models:
        file = read_model_file(tmp_path / "models" / model.file.path)
        cost = family_costs(stripes.SPEC)[model.student]
        assert (file.parameters, file.macs) == (cost.parameters, cost.macs)


def test_write_models_refuses_an_int8_file_that_is_not_full_int8(write, trained_family, monkeypatch):
    monkeypatch.setattr(on_device, "convert_post_training", lambda student, *_: convert_float(student, "float32"))

    with pytest.raises(ModelFileError, match=r"small-int8 must be full int8; .* float tensor.*Leave int8 out of quan"):
        write(trained_family, None, ["int8"])


def test_write_models_uint8_files_accept_raw_pixels(write, trained_family, stripes, tmp_path):
    """The Task Library and MediaPipe pass raw pixels to a uint8 file, regardless of the normalization."""
    manifest = write(trained_family, None, ["uint8", "int8"])

    images, _ = stripes.draw(60, 9)
    for student in stripes.SPEC.students:
        path = tmp_path / "models" / f"{student}-uint8.tflite"
        model, about = read_model_file(path), read_metadata(path.read_bytes())
        assert next(m for m in manifest.models if m.name == path.stem).full_int8
        for tensor, shape in ((model.input, (1, *stripes.SHAPE)), (model.output, (1, len(stripes.CLASSES)))):
            assert (tensor.dtype, tensor.shape, tensor.shape_signature[1:]) == ("uint8", shape, shape[1:])
        # The metadata and the scale of the input give the same: (pixel - 127.5) / 127.5.
        assert about.mean[0] / about.std[0] == pytest.approx(model.input.zero_point[0] * model.input.scale[0], abs=4e-3)
        assert 1 / about.std[0] == pytest.approx(model.input.scale[0], rel=1e-6)
        assert (about.name, about.labels) == (path.stem, tuple(stripes.CLASSES))
        assert (about.input_name, about.output_name) == ("image", "probability")
        # Written by an 8-bit softmax, read as value / 256.
        assert (model.output.scale, model.output.zero_point) == ((1 / 256,), (0,))

        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        fed = []
        for image in images:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()
            fed.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
        expected = open_model(tmp_path / "models" / f"{student}-int8.tflite").predict(images)
        assert np.mean(np.argmax(fed, axis=1) == expected.argmax(axis=1)) >= 0.98
        assert np.abs(np.array(fed) / 256 - expected).mean() < 0.02


def test_write_models_metadata_of_uint8_files_survive_a_round_trip(write, trained_family, stripes, tmp_path):
    write(trained_family, None, ["uint8"])
    data = (tmp_path / "models" / "small-uint8.tflite").read_bytes()
    about = read_metadata(data)

    texts = {"name": about.name, "description": about.description, "output_name": about.output_name}
    assert write_metadata(data, **texts, labels=about.labels, mean=about.mean, std=about.std) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == stripes.CLASSES
