# SPDX-License-Identifier: Apache-2.0
import shutil
from pathlib import Path

import pytest
from support.nodes import channels, configured
from tfx.types import standard_artifacts

from learn2compress.components import quantizer
from learn2compress.components.quantizer import Quantizer, QuantizerExecutor
from learn2compress.compression.pruning.magnitude import prune_while_training
from learn2compress.compression.students.files import load_model
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, QuantizeConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    DataManifest,
    OnDeviceModelSetManifest,
    StudentSetManifest,
    TeacherLogitsManifest,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.metadata import read_metadata

DISTILL = DistillConfig(batch_size=32)


@pytest.fixture(scope="module")
def pruned(distilled, stripes, tmp_path_factory):
    """Folder of a `StudentSet` in which half of the kernels' weights are zero."""
    before = read_manifest(distilled, StudentSetManifest)
    family = load_model(distilled, before.family)
    prune_while_training(family, 0.5, total_steps=1).before_step(0)
    folder = tmp_path_factory.mktemp("pruned")
    stripes.write_family(folder, family, stage="pruned")
    return folder


@pytest.fixture
def run(stripes_artifacts, imported, pruned, artifact, tmp_path):
    """Executes the node without a runner; returns its output artifact and manifest."""

    def run(quantize: QuantizeConfig, examples=None, logits=None):
        if "teacher_variants" not in quantize.model_fields_set:
            quantize = quantize.model_copy(update={"teacher_variants": []})
        output = artifact(OnDeviceModelSet, tmp_path / "Quantizer/models/1")
        inputs = {
            "examples": [artifact(standard_artifacts.Examples, examples or stripes_artifacts[0])],
            "teacher": [artifact(Teacher, imported)],
            "teacher_logits": [artifact(TeacherLogits, logits or stripes_artifacts[1])],
            "students": [artifact(StudentSet, pruned)],
        }
        properties = Quantizer.encode(quantize=quantize, distill=DISTILL)
        QuantizerExecutor().Do(inputs, {"models": [output]}, {**properties, "seed": 1, "code_version": "1"})
        return output, read_manifest(output.uri, OnDeviceModelSetManifest)

    return run


def test_quantizer_trains_for_8_bits_and_writes_the_files(run, stripes, tmp_path):
    output, manifest = run(QuantizeConfig(epochs=2, variants=["float32", "int8"], calibration_images=40))

    assert [model.name for model in manifest.models] == ["small-float32", "small-int8", "large-float32", "large-int8"]
    assert output.get_string_custom_property("models") == "small-float32,small-int8,large-float32,large-int8"
    assert output.get_string_custom_property("teacher_sha256") == "7" * 64
    images, labels = stripes.draw(60, 8)
    for model in manifest.models:
        classifier = open_model(f"{output.uri}/{model.file.path}")
        # In the float files half of the weights were set to zero at once; the int8 files were trained afterwards.
        least = 0.9 if model.variant == "int8" else 0.7
        assert (classifier.predict(images).argmax(-1) == labels).mean() >= least, model.name
        key = model.name.replace("-", "_")
        assert output.get_string_custom_property(f"sha256_{key}") == model.file.sha256
        assert output.get_int_custom_property(f"bytes_{key}") == model.file.bytes
        if model.variant == "int8":
            assert model.calibration.images == 40
            kernels = [t for t in classifier.model.tensors if t.sparsity is not None]
            zeros = [k.sparsity for k in kernels if k.shape[0] != 1][
                1:
            ]  # without the kernels of the stem and of depthwise layers
            assert min(zeros) >= 0.5
    assert [epoch.stage for epoch in read_curves(output.uri)] == ["quantized"] * 2
    assert not list(tmp_path.rglob("checkpoints/*"))


def test_quantizer_trains_nothing_without_integer_variants(run):
    output, manifest = run(QuantizeConfig(epochs=2, variants=["dynamic"]))

    assert [model.name for model in manifest.models] == ["small-dynamic", "large-dynamic"]
    assert read_curves(output.uri) == []


def test_quantizer_quantizes_after_training_when_epochs_are_zero(run, stripes):
    output, manifest = run(QuantizeConfig(epochs=0, variants=["uint8"]))

    assert {layer.method for model in manifest.models for layer in model.layers} == {"post-training"}
    assert read_curves(output.uri) == []
    # No more images are used than exist.
    assert manifest.models[0].calibration.images == stripes.COUNTS["train"]


def test_quantizer_ranks_layers_and_passes_the_settings_of_mixed_precision_on(run, stripes, monkeypatch):
    given = []
    before = quantizer.diagnose

    def diagnose(folder, manifest, family, images, settings=None):
        given.append(settings)
        return before(folder, manifest, family, images, settings)

    monkeypatch.setattr(quantizer, "diagnose", diagnose)
    _, manifest = run(
        QuantizeConfig(
            epochs=0, variants=["int8"], mixed_precision=True, mixed_precision_drop=0.9, mixed_precision_layers=3
        )
    )

    assert [error.model for error in manifest.quantization_error] == ["small-int8", "large-int8"]
    assert all(error.layers for error in manifest.quantization_error)
    (settings,) = given
    assert (settings.drop, settings.layers, len(settings.labels)) == (0.9, 3, stripes.COUNTS["validation"])
    assert len(manifest.notes) == 2


def test_quantizer_refuses_mixed_precision_without_validation_images(run, stripes_artifacts, tmp_path):
    shutil.copytree(stripes_artifacts[0], tmp_path / "examples")
    data = read_manifest(stripes_artifacts[0], DataManifest)
    none = {"counts": {**data.counts, "validation": 0}, "shards": {**data.shards, "validation": []}}
    write_manifest(tmp_path / "examples", data.model_copy(update=none))
    shutil.copytree(stripes_artifacts[1], tmp_path / "logits")
    logits = read_manifest(stripes_artifacts[1], TeacherLogitsManifest)
    same_examples = {"examples_sha256": manifest_sha256(tmp_path / "examples")}
    write_manifest(tmp_path / "logits", logits.model_copy(update=same_examples))

    with pytest.raises(DataError, match=r"must have validation images for mixed precision; got none\. Set"):
        run(
            QuantizeConfig(epochs=0, variants=["int8"], mixed_precision=True),
            examples=tmp_path / "examples",
            logits=tmp_path / "logits",
        )


def test_quantizer_adds_plain_conversions_of_the_teacher(run, stripes):
    output, manifest = run(QuantizeConfig(variants=["float16"], teacher_variants=["float16", "int8"]))

    baselines = [model for model in manifest.models if model.baseline]
    assert [model.name for model in baselines] == ["teacher-float16", "teacher-int8"]
    assert [model.full_int8 for model in baselines] == [False, True]
    assert baselines[1].calibration.images == stripes.COUNTS["train"]
    images, labels = stripes.draw(60, 8)
    for model in baselines:
        data = Path(output.uri, model.file.path).read_bytes()
        assert (open_model(data).predict(images).argmax(-1) == labels).all()
        assert read_metadata(data).labels == tuple(stripes.CLASSES)
        assert read_metadata(data).description.endswith("the teacher as it is, converted by Learn2Compress.")
        key = model.name.replace("-", "_")
        assert output.get_string_custom_property(f"sha256_{key}") == model.file.sha256


def test_quantizer_refuses_examples_without_training_images(run, stripes_artifacts, tmp_path):
    data = read_manifest(stripes_artifacts[0], DataManifest)
    write_manifest(tmp_path / "empty", data.model_copy(update={"counts": {**data.counts, "train": 0}}))

    with pytest.raises(DataError, match=r"must have training images; got none. Check data.path"):
        run(QuantizeConfig(epochs=0, variants=["int8"]), examples=tmp_path / "empty")


def test_quantizer_builds_with_scalar_parameters():
    config = configured(quantize=QuantizeConfig(variants=["int8"]), distill=DISTILL)

    node = Quantizer(config, channels(Quantizer), seed=4, code_version="x")

    assert node.exec_properties["quantize_variants"] == "[int8]"
    assert node.exec_properties["quantize_epochs"] == 4
    assert node.exec_properties["quantize_teacher_variants"] == "[float16, dynamic, int8]"
    assert node.outputs["models"].type is OnDeviceModelSet
