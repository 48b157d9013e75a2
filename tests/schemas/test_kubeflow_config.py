# SPDX-License-Identifier: Apache-2.0
"""The section kubeflow of the configuration."""

import pytest

from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.parameters import decode, encode

PATHS = {"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}


def parse(**kubeflow):
    return parse_config({**PATHS, "kubeflow": kubeflow}).kubeflow


def test_resources_are_read_by_node():
    found = parse(resources={"Distiller": {"cpu": 4, "memory": "8Gi", "gpu": 1}}).resources["Distiller"]

    assert (found.cpu, found.memory, found.gpu, found.accelerator) == (4.0, "8Gi", 1, "nvidia.com/gpu")


@pytest.mark.parametrize(
    ("kubeflow", "message"),
    [
        ({"resources": {"Distiller": {"gpus": 1}}}, r"kubeflow\.resources\.Distiller\.gpus .* Did you mean gpu\?"),
        ({"resources": {"Distiller": {"memory": "8GB"}}}, r"memory is wrong: .* got '8GB'"),
        ({"volume": {"claim": "data", "mount": "data"}}, r"kubeflow\.volume\.mount is wrong"),
        ({"volume": {"claim": "data", "path": "/x"}}, r"kubeflow\.volume\.path is no known key"),
        ({"retry": {}}, r"kubeflow\.retry is no known key\. Did you mean retries\?"),
    ],
)
def test_parse_config_names_a_wrong_value(kubeflow, message):
    with pytest.raises(ConfigError, match=message):
        parse(**kubeflow)


@pytest.mark.parametrize(
    ("flink", "expected"),
    [
        ({}, "localhost:50000"),
        ({"environment_config": None}, "localhost:50000"),
        ({"environment_config": "pool:50001"}, "pool:50001"),
        ({"environment": "LOOPBACK"}, None),
        ({"environment": "DOCKER", "environment_config": "image"}, "image"),
    ],
)
def test_worker_pool_is_beside_the_task_manager_unless_python_runs_elsewhere(flink, expected):
    section = parse(flink=flink)

    assert section.flink.environment_config == expected
    assert decode(type(section), "kubeflow", encode(kubeflow=section)) == section


def test_fan_out_needs_students_with_known_names():
    students = {"module": "mine.py:build"}

    with pytest.raises(ConfigError, match=r"kubeflow\.fan_out needs students\.sizes: a module's student names"):
        parse_config({**PATHS, "students": students, "kubeflow": {"fan_out": True}})
