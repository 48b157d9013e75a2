# SPDX-License-Identifier: Apache-2.0
"""The artifact after the ranking of its files: quantization errors, mixed-precision files, notes."""

from dataclasses import replace

import numpy as np
import pytest

from learn2compress.compression.family.model import build_family, normalize
from learn2compress.compression.quantization import diagnosis
from learn2compress.compression.quantization.diagnosis import MixedPrecisionSettings, diagnose
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.quantization.qat import calibrate, quantization_aware
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import OnDeviceModelSetManifest, read_manifest
from learn2compress.schemas.progress import listening
from learn2compress.tflite.inspection import inspect_file
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.model_file import prove_full_int8, read_model_file


@pytest.fixture(scope="module")
def prepared(stripes, trained_weights, tmp_path_factory):
    """By what the large student is trained for: the folder, the manifest and the family behind its files."""
    images = list(stripes.draw(32, 0)[0])

    def prepare(aware: bool, variants):
        folder = tmp_path_factory.mktemp("set")
        family = build_family(stripes.SPEC, seed=1)
        family.set_weights(trained_weights)
        stripes.spoil_weights(family)
        source = stripes.write_family(folder / "students", family, stage="pruned")
        trained = None
        if aware:
            trained = quantization_aware(family, keep_zeros=False)
            calibrate(trained, family, [normalize(np.stack(images))])
        made = QuantizedFamily(family, trained, stripes.SPEC.students)
        return folder, write_models(folder, made, source, variants, images, ["a"], []), made

    return prepare(True, ["float32", "int8"]), prepare(False, ["int8", "uint8"]), images


@pytest.fixture
def settings(stripes):
    images, labels = stripes.draw(60, 9)
    return MixedPrecisionSettings(drop=0.02, layers=2, images=images, labels=labels)


@pytest.mark.parametrize("trained_for_it", [True, False])
def test_diagnose_ranks_every_student_and_falls_back_for_the_inaccurate_one(
    prepared, settings, stripes, trained_for_it
):
    folder, before, made = prepared[0 if trained_for_it else 1]
    details = []

    with listening(lambda progress: details.append(progress.detail)):
        after = diagnose(folder, before, made, prepared[2], settings)

    assert read_manifest(folder, OnDeviceModelSetManifest) == after
    small, large = after.quantization_error
    assert [(e.student, e.model) for e in (small, large)] == [("small", "small-int8"), ("large", "large-int8")]
    assert small.images == 32
    assert small.layers[0].logits_sqnr_db > 25 > large.layers[0].logits_sqnr_db
    assert large.layers[0].layer == "trunk2_2_pw"
    assert large.logits_sqnr_db < 20 < small.logits_sqnr_db
    assert [detail.split(" ")[0] for detail in details] == ["small:", "large:"]
    assert "largest error in trunk2_2_pw" in details[1]

    wanted = ["int8"] if trained_for_it else ["int8", "uint8"]
    assert [model.name for model in after.models[len(before.models) :]] == [f"large-{v}-rescued" for v in wanted]
    assert after.models[: len(before.models)] == before.models
    by_name = {model.name: model for model in after.models}
    for variant in wanted:
        model, whole = by_name[f"large-{variant}-rescued"], by_name[f"large-{variant}"]
        path = folder / model.file.path
        # The mixed-precision file is not called full int8; the other one still is.
        assert (model.full_int8, whole.full_int8) == (False, True)
        assert model.variant == f"{variant}-rescued"
        assert not prove_full_int8(read_model_file(path)).holds
        assert inspect_file(path).quantization.startswith(f"{variant}, 1 layer in float, ")
        file = read_model_file(path)
        assert (file.input.dtype, file.output.dtype) == (variant, variant)
        assert model.rescue.layers == ["trunk2_2_pw"]
        assert model.rescue.bytes_added == model.file.bytes - whole.file.bytes > 0
        assert model.rescue.int8_accuracy < 0.9 < model.rescue.float32_accuracy - 0.02 <= model.rescue.accuracy
        scored = open_model(path).predict(settings.images).argmax(axis=1) == settings.labels
        assert model.rescue.accuracy == pytest.approx(scored.mean())
        assert model.rescue.images == 60
        floats = {layer.layer for layer in model.layers if layer.method == "float"}
        assert floats == {"trunk2_2_pw", "trunk2_2_pw_bn"}
        assert {layer.method for layer in whole.layers} == {"quantization-aware" if trained_for_it else "post-training"}
        assert read_metadata(path.read_bytes()).labels == tuple(stripes.CLASSES)
    notes = " ".join(after.notes)
    assert "small-int8 loses nothing against float32 on 60 validation images" in notes
    assert "large-int8-rescued keeps trunk2_2_pw in float, which gains" in notes


def test_diagnose_writes_no_file_without_settings_of_mixed_precision(prepared):
    folder, before, made = prepared[0]
    files = sorted(path.name for path in folder.glob("*.tflite") if "rescued" not in path.name)

    after = diagnose(folder, before, made, prepared[2])

    assert after.models == before.models
    assert after.notes == []
    assert len(after.quantization_error) == 2
    assert sorted(path.name for path in folder.glob("*.tflite") if "rescued" not in path.name) == files


def test_diagnose_notes_why_there_is_no_mixed_precision_file(prepared, settings, monkeypatch):
    folder, before, made = prepared[0]

    after = diagnose(folder, before, made, prepared[2], replace(settings, drop=0.9))
    assert after.models == before.models
    assert "large-int8 loses" in after.notes[1]
    assert "at most quantize.mixed_precision_drop: mixed precision is not needed" in after.notes[1]

    monkeypatch.setattr(diagnosis, "choose_float_layers", lambda *_, **__: None)
    after = diagnose(folder, before, made, prepared[2], settings)
    assert after.models == before.models
    assert f"float fallback of at most {settings.layers} layers does not improve its accuracy" in after.notes[1]


def test_diagnose_notes_a_student_whose_files_cannot_be_compared(prepared, monkeypatch):
    folder, before, made = prepared[0]

    def refuse(*_, file, **__):
        raise ModelFileError(f"{file} must have one subgraph; it has two.")

    monkeypatch.setattr(diagnosis, "pair_files", refuse)
    after = diagnose(folder, before, made, prepared[2])

    assert after.quantization_error == []
    assert after.notes[0] == "the layers of small could not be ranked: small-int8 must have one subgraph; it has two."


def test_diagnose_changes_nothing_if_there_are_only_float_files(prepared):
    folder, before, made = prepared[0]
    floats = before.model_copy(update={"models": [m for m in before.models if m.variant == "float32"]})

    assert diagnose(folder, floats, made, prepared[2]) == floats
