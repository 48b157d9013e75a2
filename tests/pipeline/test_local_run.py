# SPDX-License-Identifier: Apache-2.0
import pytest
from support.latency import PER_MAC

from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import solve_family
from learn2compress.compression.family.spec import family_costs
from learn2compress.compression.students.earlier_run import students_sha256
from learn2compress.compression.students.files import write_students
from learn2compress.evaluation.latency.table import model_text
from learn2compress.pipeline.local_run import resolve_inputs
from learn2compress.schemas.config import StudentSize, parse_config
from learn2compress.schemas.errors import FamilyError, TeacherError
from learn2compress.schemas.manifests import Task


@pytest.fixture
def job(tmp_path):
    """Makes a configuration for the digits, with a teacher on disk, sizes, and pruning settings."""
    import tf_keras as keras

    path = tmp_path / "teacher.keras"
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save(path)

    def job(sizes=None, init="none", **prune):
        sections = {"students": {"sizes": sizes} if sizes else {}, "prune": prune, "distill": {"init": str(init)}}
        return parse_config({"teacher": {"path": str(path)}, "data": {"path": "digits"}} | sections)

    return job


def test_resolve_inputs_refuses_an_unreachable_size_before_anything_runs(job):
    with pytest.raises(FamilyError, match=r"student 'small' must be feasible within 1,000 B; the nearest .* \d,\d+ B"):
        resolve_inputs(job(sizes={"small": {"size_bytes": "1KB"}, "large": {}}), None)


def test_resolve_inputs_refuses_an_unreachable_pruning_target_before_anything_runs(job):
    with pytest.raises(FamilyError, match=r"prune\.channels must be within reach of student 'large'; .* is \d+,\d+ B"):
        resolve_inputs(job(channels={"bytes": "2KB"}), None)


def test_resolve_inputs_accepts_a_reachable_pruning_target(job):
    config, inputs = resolve_inputs(job(channels={"bytes": "50%"}), 100)

    assert (config.data.height, config.data.width, config.data.channels) == (8, 8, 1)
    assert inputs.limit == 100


def test_resolve_inputs_refuses_students_of_another_family_before_anything_runs(job, tmp_path):
    spec = solve_family({"small": StudentSize(), "large": StudentSize()}, (8, 8, 1), 10)
    write_students(
        tmp_path / "earlier",
        build_family(spec, seed=0),
        task=Task(input_shape=(8, 8, 1), classes=list("0123456789")),
        stage="distilled",
        teacher_sha256="7" * 64,
        spec=spec,
        costs=family_costs(spec),
        accuracy={"small": 0.5, "large": 0.5},
        curves=[],
        seed=0,
    )

    with pytest.raises(
        FamilyError, match=r"must be of the family that is requested; .*Set students\.sizes and students\.blocks as"
    ):
        resolve_inputs(job(init=tmp_path / "earlier"), None)
    _, inputs = resolve_inputs(job(sizes={"small": {}, "large": {}}, init=tmp_path / "earlier"), None)
    assert inputs.init_sha256 == students_sha256(tmp_path / "earlier")


def test_resolve_inputs_passes_on_the_latencies_for_which_students_are_limited(job, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(model_text(PER_MAC))
    limited = job(sizes={"small": {"latency_ms": 0.1}, "large": {"latency_ms": 0.4}})
    phone = limited.model_copy(update={"students": limited.students.model_copy(update={"latency_table": str(table)})})

    assert resolve_inputs(phone, None)[1].latency_model == table.read_text()
    assert resolve_inputs(job(), None)[1].latency_model is None
    with pytest.raises(FamilyError, match=r"feasible within 1e-05 ms; the nearest feasible is [\d.]+ ms"):
        resolve_inputs(job(sizes={"small": {"latency_ms": 1e-5}, "large": {}}), None)


def test_resolve_inputs_refuses_features_of_a_saved_model_before_anything_runs(job, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    config = job(init="features")
    teacher = config.teacher.model_copy(update={"path": str(tmp_path / "saved")})
    with pytest.raises(TeacherError, match="got a SavedModel, whose layers are not accessible"):
        resolve_inputs(config.model_copy(update={"teacher": teacher}), None)
