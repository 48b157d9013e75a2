# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.pipeline.local_run import resolve_inputs
from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import FamilyError


@pytest.fixture
def job(tmp_path):
    """A configuration of the digits with a teacher on disk, sizes, and settings of pruning."""
    import tf_keras as keras

    path = tmp_path / "teacher.keras"
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save(path)

    def job(sizes=None, **prune):
        sections = {"students": {"sizes": sizes} if sizes else {}, "prune": prune}
        return parse_config({"teacher": {"path": str(path)}, "data": {"path": "digits"}} | sections)

    return job


def test_resolve_inputs_refuses_a_size_out_of_reach_before_anything_runs(job):
    with pytest.raises(FamilyError, match=r"student 'small' must be feasible within 1 KB; the nearest .* \d\.\d+ KB"):
        resolve_inputs(job(sizes={"small": {"size_bytes": "1KB"}, "large": {}}), None)


def test_resolve_inputs_refuses_a_pruning_target_out_of_reach_before_anything_runs(job):
    with pytest.raises(FamilyError, match=r"prune\.channels must be within reach of student 'large'; .* is \d+\.\d KB"):
        resolve_inputs(job(channels={"bytes": "2KB"}), None)


def test_resolve_inputs_takes_a_pruning_target_within_reach(job):
    config, inputs = resolve_inputs(job(channels={"bytes": "50%"}), 100)

    assert (config.data.height, config.data.width, config.data.channels) == (8, 8, 1)
    assert inputs.limit == 100
