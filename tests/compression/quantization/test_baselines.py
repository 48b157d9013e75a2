# SPDX-License-Identifier: Apache-2.0
import pytest
import tf_keras as keras

from learn2compress.compression.quantization.baselines import add_baselines
from learn2compress.compression.training.history.curves import write_curves
from learn2compress.schemas.manifests import (
    File,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    Task,
    TeacherManifest,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.progress import listening
from learn2compress.schemas.scaling import Scaling


@pytest.fixture
def models(stripes, tmp_path):
    """Directory and manifest of an `OnDeviceModelSet` without files."""
    manifest = OnDeviceModelSetManifest(
        task=Task(input_shape=stripes.SHAPE, classes=stripes.CLASSES),
        normalization=Scaling.named("symmetric"),
        teacher_sha256="7" * 64,
        models=[],
        curves=write_curves(tmp_path, []),
        seed=1,
        notes=["an earlier note"],
    )
    return tmp_path, manifest


@pytest.fixture
def teacher(stripes, tmp_path):
    """Directory of a `Teacher` for images of half the size, to which images are resized."""
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    folder = tmp_path / "teacher"
    folder.mkdir()
    model.save(folder / "t.keras")
    manifest = TeacherManifest(
        task=Task(input_shape=stripes.SHAPE, classes=stripes.CLASSES),
        model="t.keras",
        format="keras2-keras",
        sha256="7" * 64,
        bytes=1,
        output="logits",
        resize=True,
        scaling=Scaling.named("unit"),
        parameters=51,
        macs=48,
        trainable=True,
        accuracy={},
    )
    write_manifest(folder, manifest)
    return folder


def test_add_baselines_notes_the_reason_and_continues_when_a_conversion_fails(models, teacher, stripes):
    folder, manifest = models
    told = []

    with listening(lambda progress: told.append(progress.detail)):
        after = add_baselines(folder, manifest, teacher, ["float16", "int8"], list(stripes.draw(8, 0)[0]), ["a"])

    assert after.models == []
    assert after.notes[0] == "an earlier note"
    assert [note.rpartition(": ")[0] for note in after.notes[1:]] == [
        f"teacher t.keras cannot be converted to {variant}" for variant in ("float16", "int8")
    ]
    assert all("ScaleAndTranslate" in note for note in after.notes[1:])
    assert told[-1].startswith("teacher-int8: teacher t.keras cannot be converted")
    assert read_manifest(folder, OnDeviceModelSetManifest) == after


def test_add_baselines_changes_nothing_without_variants(models, tmp_path):
    folder, manifest = models

    assert add_baselines(folder, manifest, tmp_path / "nowhere", [], [], []) is manifest


def test_add_baselines_converts_nothing_when_a_student_has_the_same_name(models, teacher):
    folder, manifest = models
    file = File(path="teacher-int8.tflite", sha256="0" * 64, bytes=1)
    mine = OnDeviceModel(name="teacher-int8", student="teacher", variant="int8", file=file)
    manifest = manifest.model_copy(update={"models": [mine]})

    after = add_baselines(folder, manifest, teacher, ["int8"], [], [])

    assert after.models == [mine]
    assert after.notes[-1] == "the teacher was not converted: a student is named teacher as well"
