# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.compression.students.collection import collect_models, collect_students, merge_curves, merge_notes
from learn2compress.compression.training.history.curves import read_curves, write_curves
from learn2compress.compression.training.history.event_files import write_events
from learn2compress.schemas.errors import TrainingError
from learn2compress.schemas.manifests import (
    Epoch,
    File,
    LayerSensitivity,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    Sensitivity,
    Student,
    StudentSetManifest,
    Task,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.scaling import Scaling

TASK = Task(input_shape=(8, 8, 1), classes=["a", "b"])


def epoch(stage, number, seconds, **accuracy):
    return Epoch(stage=stage, epoch=number, loss=accuracy, accuracy=accuracy, learning_rate=0.1, seconds=seconds)


TOGETHER = epoch("distilled", 1, 5.0, small=0.5, large=0.6)


def check_events(folder, manifest, runs):
    assert [file.path.split("/", 1)[1].rpartition("/")[0] for file in manifest.events] == runs
    assert [File.of(folder, file.path) for file in manifest.events] == manifest.events


def pruned(folder, name, macs):
    (folder / name).mkdir(parents=True)
    curves = [TOGETHER, epoch("pruned", 1, 2.0, **{name: 0.7})]
    (folder / name / "student.h5").write_bytes(name.encode())
    layer = LayerSensitivity(layer="stem", type="Conv2D", weights=9, students=[name], zeros=[], int8=None)
    student = Student(
        name=name, model=File.of(folder, f"{name}/student.h5"), parameters=macs, macs=macs, validation_accuracy=0.5
    )
    manifest = StudentSetManifest(
        task=TASK, stage="pruned", normalization=Scaling(), teacher_sha256="7" * 64, students=[student],
        family=student.model, family_spec={"a": 1}, seed=1, notes=["of all", f"of {name}"],
        curves=write_curves(folder, curves), events=write_events(folder, curves),
        sensitivity=Sensitivity(images=3, layers=[layer]),
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def models(folder, name, baseline=None):
    folder.mkdir(parents=True)
    made, curves = [], [TOGETHER, epoch("quantized", 1, 3.0, **{name: 0.8})]
    for student in [name] + ([baseline] if baseline else []):
        (folder / f"{student}-int8.tflite").write_bytes(f"{student}".encode())
        file = File.of(folder, f"{student}-int8.tflite")
        made.append(
            OnDeviceModel(
                name=f"{student}-int8", student=student, variant="int8", file=file, baseline=student == baseline
            )
        )
    manifest = OnDeviceModelSetManifest(
        task=TASK, normalization=Scaling(), teacher_sha256="7" * 64, models=made, seed=1,
        curves=write_curves(folder, curves), events=write_events(folder, curves),
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def test_collect_students_orders_them_smallest_first(tmp_path):
    folders = [pruned(tmp_path / "1", "large", 200), pruned(tmp_path / "2", "small", 100)]

    manifest = collect_students(folders, tmp_path / "all")

    assert manifest == read_manifest(tmp_path / "all", StudentSetManifest)
    assert [student.name for student in manifest.students] == ["small", "large"]
    assert (tmp_path / "all" / "small" / "student.h5").read_bytes() == b"small"
    assert (manifest.family, manifest.family_spec) == (None, None)
    assert manifest.notes == ["of all", "small: of small", "large: of large"]
    assert [layer.students for layer in manifest.sensitivity.layers] == [["small"], ["large"]]
    assert read_curves(tmp_path / "all") == [TOGETHER, epoch("pruned", 1, 4.0, small=0.7, large=0.7)]
    assert manifest.curves == File.of(tmp_path / "all", "curves.json")
    runs = ["distilled", "distilled/large", "distilled/small", "pruned", "pruned/large", "pruned/small"]
    check_events(tmp_path / "all", manifest, runs)


def test_collect_models_puts_conversions_of_the_teacher_last(tmp_path):
    folders = {"large": models(tmp_path / "1", "large"), "small": models(tmp_path / "2", "small", "teacher")}

    manifest = collect_models(folders, tmp_path / "all", ["small", "large"])

    assert manifest == read_manifest(tmp_path / "all", OnDeviceModelSetManifest)
    assert [model.name for model in manifest.models] == ["small-int8", "large-int8", "teacher-int8"]
    for model in manifest.models:
        assert File.of(tmp_path / "all", model.file.path) == model.file
    assert [one.stage for one in read_curves(tmp_path / "all")] == ["distilled", "quantized"]
    runs = ["distilled", "distilled/large", "distilled/small", "quantized", "quantized/large", "quantized/small"]
    check_events(tmp_path / "all", manifest, runs)


def test_collect_students_refuses_a_changed_file(tmp_path):
    folder = pruned(tmp_path / "1", "small", 100)
    (folder / "small" / "student.h5").write_bytes(b"other")

    with pytest.raises(TrainingError, match=r"small/student.h5 must have the SHA-256"):
        collect_students([folder], tmp_path / "all")


def test_merge_curves_keeps_the_order_of_the_stages():
    short = [TOGETHER, epoch("thinned", 1, 1.0, small=0.4), epoch("pruned", 1, 1.0, small=0.5)]
    long = [TOGETHER, *(epoch("pruned", n, 1.0, large=0.5) for n in (1, 2))]

    merged = merge_curves([long, short])

    assert [(one.stage, one.epoch) for one in merged] == [
        ("distilled", 1), ("thinned", 1), ("pruned", 1), ("pruned", 2),
    ]  # fmt: skip
    assert merged[2].accuracy == {"large": 0.5, "small": 0.5}


def test_merge_notes_prefixes_notes_that_are_not_common_to_all():
    assert merge_notes({"a": ["x", "y"], "b": ["y"], "c": ["y", "x"]}) == ["y", "a: x", "c: x"]
