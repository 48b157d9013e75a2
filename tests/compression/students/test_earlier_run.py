# SPDX-License-Identifier: Apache-2.0
"""Students of an earlier run as initial weights: equal specifications, or a refusal that names the differences."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import label_bytes, solve_family
from learn2compress.compression.family.spec import family_costs
from learn2compress.compression.students.architecture import BuiltIn
from learn2compress.compression.students.earlier_run import find_students, open_earlier, students_sha256
from learn2compress.compression.students.files import write_students
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.errors import FamilyError, TeacherError, TrainingError
from learn2compress.schemas.manifests import File, StudentSetManifest, Task, read_manifest, write_manifest

SIZES = {"a": StudentSize(size_bytes="6KB"), "b": StudentSize(size_bytes="14KB")}
TASK = Task(input_shape=(8, 8, 1), classes=["left", "middle", "right"])
OTHERS = Task(input_shape=(8, 8, 1), classes=["up", "down"])


def requested(task, sizes=SIZES):
    return BuiltIn(solve_family(sizes, task.input_shape, len(task.classes), label_bytes(task.classes)))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The output folder of a run with two executions of Distiller, of which number 10 is the later one."""
    output = tmp_path_factory.mktemp("run")
    spec = requested(TASK).spec
    for number in (9, 10):
        family = build_family(spec, seed=number)
        for layer in family.layers:
            layer.set_weights([values + np.float32(0.25) for values in layer.get_weights()])
        write_students(
            output / f"pipeline/Distiller/students/{number}",
            family,
            task=TASK,
            stage="distilled",
            teacher_sha256="7" * 64,
            spec=spec,
            costs=family_costs(spec),
            accuracy={"a": 0.5, "b": 0.5},
            curves=[],
            seed=number,
        )
    return output


def test_find_students_finds_the_latest_of_a_run_or_the_folder_itself(earlier, tmp_path):
    last = earlier / "pipeline/Distiller/students/10"
    assert find_students(earlier) == find_students(last) == last
    assert students_sha256(earlier) == tree_sha256(last)

    with pytest.raises(
        TrainingError, match=r"distill\.init must be none, features, or the output folder of an earlier"
    ):
        find_students(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(
        TrainingError, match=r"distill\.init must contain students of this version; .*StudentSetManifest"
    ):
        find_students(tmp_path)


def test_copy_to_copies_all_weights_and_statistics_when_the_classes_are_equal(earlier):
    found = open_earlier(earlier, requested(TASK), SIZES, TASK)
    family = found.architecture.build(seed=1)

    told = found.copy_to(family)

    expected = build_family(requested(TASK).spec, seed=10)
    for ours, theirs in zip(family.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs + np.float32(0.25))
    assert (told.kind, told.source_sha256, told.new_logits) == ("students", students_sha256(earlier), False)


def test_copy_to_keeps_random_logits_when_the_classes_differ(earlier):
    found = open_earlier(earlier, requested(OTHERS), SIZES, OTHERS)
    family = found.architecture.build(seed=1)
    fresh = {layer.name: layer.get_weights() for layer in family.layers}

    told = found.copy_to(family)

    assert told.new_logits
    assert (found.architecture.spec.classes, found.architecture.spec.label_bytes) == (2, len("up\ndown\n"))
    expected = build_family(requested(TASK).spec, seed=10)
    for layer in family.layers:
        for number, values in enumerate(layer.get_weights()):
            theirs = expected.get_layer(layer.name).get_weights()[number]
            is_new = layer.name in ("a_logits", "b_logits")
            np.testing.assert_array_equal(values, fresh[layer.name][number] if is_new else theirs + np.float32(0.25))


def test_open_earlier_refuses_another_family_and_names_the_differences(earlier, stripes):
    other = BuiltIn(replace(stripes.SPEC, label_bytes=18))
    with pytest.raises(
        FamilyError, match=r"must be of the family that is requested; .*there, .*requested.*Set students"
    ):
        open_earlier(earlier, other, SIZES, TASK)

    spec = requested(TASK).spec
    wider = replace(spec, stem=(replace(spec.stem[0], filters=spec.stem[0].filters + 8), *spec.stem[1:]))
    with pytest.raises(
        FamilyError,
        match=rf"requested; stem {spec.stem[0].name} filters: (\d+) there, {wider.stem[0].filters} requested",
    ):
        open_earlier(earlier, BuiltIn(wider), SIZES, TASK)

    larger = Task(input_shape=(12, 8, 1), classes=TASK.classes)
    with pytest.raises(FamilyError, match=r"input_shape: \[8, 8, 1\] there, \[12, 8, 1\] requested"):
        open_earlier(earlier, BuiltIn(replace(spec, input_shape=(12, 8, 1))), SIZES, larger)


def test_open_earlier_refuses_a_budget_that_more_classes_exceed(earlier):
    many = Task(input_shape=(8, 8, 1), classes=[f"class {n}" for n in range(60)])
    roomy = {name: StudentSize(size_bytes=size) for name, size in (("a", 10_000), ("b", 20_000))}

    with pytest.raises(
        FamilyError, match=r"student 'a' must not exceed 6,000; the one in .* has [\d,]+ with 60 classes"
    ):
        open_earlier(earlier, requested(many, roomy), SIZES, many)


def test_copy_to_refuses_a_changed_model(earlier, tmp_path):
    folder = tmp_path / "students"
    shutil.copytree(earlier / "pipeline/Distiller/students/10", folder)
    with (folder / "family/family.h5").open("ab") as file:
        file.write(b"x")

    found = open_earlier(folder, requested(TASK), SIZES, TASK)
    with pytest.raises(TrainingError, match=r"family\.h5 must have the SHA-256"):
        found.copy_to(found.architecture.build(seed=1))


def test_open_earlier_refuses_students_of_a_module_for_the_built_in_family(earlier, tmp_path):
    folder = tmp_path / "students"
    shutil.copytree(earlier / "pipeline/Distiller/students/10", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"family_spec": None}))

    class Own:
        spec, source = None, type("Source", (), {"sha256": "5" * 64})()

    with pytest.raises(FamilyError, match=r"; kind: the built-in family there, a module requested\. Set students"):
        open_earlier(folder, Own(), SIZES, TASK)

    other = Task(input_shape=(12, 8, 1), classes=[f"class {n}" for n in range(60)])
    with pytest.raises(
        FamilyError,
        match=r"input shape: \(8, 8, 1\) there, \(12, 8, 1\) requested; classes: \d+ there, 60 requested; "
        r"class 0: '.+' there, 'class 0' requested\. Set",
    ):
        open_earlier(folder, Own(), SIZES, other)


def test_copy_to_runs_no_module_that_lies_beside_students_of_the_built_in_family(earlier, tmp_path):
    folder, told = tmp_path / "students", tmp_path / "told"
    shutil.copytree(earlier / "pipeline/Distiller/students/10", folder)
    (folder / "module.py").write_text(f"open({str(told)!r}, 'w')\n")
    manifest = read_manifest(folder, StudentSetManifest)
    write_manifest(folder, manifest.model_copy(update={"module": File.of(folder, "module.py")}))

    found = open_earlier(folder, requested(TASK), SIZES, TASK)
    found.copy_to(found.architecture.build(seed=1))

    assert not told.exists()


def test_copy_to_loads_no_layer_that_could_call_any_function(earlier, tmp_path):
    folder = tmp_path / "students"
    shutil.copytree(earlier / "pipeline/Distiller/students/10", folder)
    manifest = read_manifest(folder, StudentSetManifest)
    with h5py.File(folder / manifest.family.path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1] |= {"class_name": "TFOpLambda", "config": {"function": "io.gfile.rmtree"}}
        file.attrs["model_config"] = json.dumps(config)
    write_manifest(folder, manifest.model_copy(update={"family": File.of(folder, manifest.family.path)}))
    found = open_earlier(folder, requested(TASK), SIZES, TASK)

    with pytest.raises(TeacherError, match=r"only compute; got 'TFOpLambda of io\.gfile\.rmtree'"):
        found.copy_to(found.architecture.build(seed=1))
