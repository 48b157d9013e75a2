# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.students.files import load_model, module_of
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import TrainingError
from learn2compress.schemas.manifests import Epoch, File, StudentSetManifest, read_manifest
from learn2compress.schemas.scaling import Scaling

CURVES = [
    Epoch(stage="distilled", epoch=n, loss={"small": 1.5}, accuracy={"small": 0.25}, learning_rate=1e-3, seconds=2.5)
    for n in (1, 2)
]


@pytest.fixture
def written(stripes, trained_family, tmp_path):
    accuracy = {"small": 0.5, "large": 0.75}
    return stripes.write_family(tmp_path, trained_family, accuracy=accuracy, curves=CURVES, seed=6, notes=["a note"])


def test_write_students_writes_a_manifest_of_all_files(written, stripes, tmp_path):
    assert read_manifest(tmp_path, StudentSetManifest) == written
    assert (written.stage, written.seed, written.notes, written.teacher_sha256) == (
        "distilled",
        6,
        ["a note"],
        "7" * 64,
    )
    assert written.normalization == Scaling.named("symmetric")
    assert FamilySpec.from_dict(written.family_spec) == stripes.SPEC
    assert read_curves(tmp_path) == CURVES
    costs = family_costs(stripes.SPEC)
    for student, accuracy in zip(written.students, (0.5, 0.75), strict=True):
        cost = costs[student.name]
        assert student.validation_accuracy == accuracy
        assert (student.parameters, student.macs) == (cost.parameters, cost.macs)
        assert student.predicted_int8_bytes == cost.int8_bytes
        assert student.sparsity == 0.0
    for file in (written.family, written.curves, *(student.model for student in written.students)):
        path = tmp_path / file.path
        assert (file.sha256, file.bytes) == (file_sha256(path), path.stat().st_size)


@pytest.mark.usefixtures("small_files")
def test_write_students_raises_and_does_not_end_the_process_when_a_file_cannot_grow(trained_family, stripes, tmp_path):
    with pytest.raises(OSError, match="File too large"):
        stripes.write_family(tmp_path, trained_family)


def test_load_model_returns_the_written_model(written, trained_family, stripes, tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (5, *stripes.SHAPE)).astype(np.float32)
    family = load_model(tmp_path, written.family)

    for ours, theirs in zip(family(images), trained_family(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for student, model in zip(written.students, cut_students(family, stripes.SPEC.students).values(), strict=True):
        np.testing.assert_array_equal(load_model(tmp_path, student.model)(images), model(images))


def test_module_of_keeps_line_ends(written, tmp_path):
    (tmp_path / "my.py").write_bytes(b"def build():\r\n    pass\r\n")
    file = File.of(tmp_path, "my.py")

    source = module_of(tmp_path, written.model_copy(update={"module": file}))

    assert (source.name, source.text, source.sha256) == ("my.py", "def build():\r\n    pass\r\n", file.sha256)


def test_load_model_refuses_a_changed_file(written, tmp_path):
    path = tmp_path / written.students[0].model.path
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(TrainingError, match=r"small/student\.h5 must have the SHA-256 \w{16}… of its manifest; got"):
        load_model(tmp_path, written.students[0].model)


def test_load_model_refuses_a_missing_file(written, tmp_path):
    (tmp_path / written.family.path).unlink()

    with pytest.raises(TrainingError, match=r"family/family\.h5 must be readable; No such file"):
        load_model(tmp_path, written.family)


def test_read_curves_refuses_other_contents(written, tmp_path):
    (tmp_path / written.curves.path).write_text('[{"stage": "distilled"}]')

    with pytest.raises(TrainingError, match=r"curves\.json must be a list of epochs; "):
        read_curves(tmp_path)
