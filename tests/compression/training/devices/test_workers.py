# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from learn2compress.compression.training.devices.workers import Cluster, check_divisible, read_cluster
from learn2compress.schemas.errors import ConfigError


def tf_config(kind="worker", index=0, **cluster):
    cluster = cluster or {"worker": ["one:2222", "two:2222"]}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize(
    ("environment", "expected", "chief"),
    [
        (tf_config(), Cluster(("one:2222", "two:2222"), 0), True),
        (tf_config(index=1), Cluster(("one:2222", "two:2222"), 1), False),
        (tf_config(chief=["c:1"], worker=["w:2"]), Cluster(("c:1", "w:2"), 1), False),
        (tf_config("chief", chief=["c:1"], worker=["w:2"]), Cluster(("c:1", "w:2"), 0), True),
        (tf_config(worker=["[::1]:1", "[::1]:2"]), Cluster(("[::1]:1", "[::1]:2"), 0), True),
    ],
)
def test_read_cluster_returns_the_workers_and_the_index(environment, expected, chief):
    found = read_cluster(environment)

    assert found == expected
    assert found.is_chief is chief


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "must be set for distill.strategy multi_worker; it is not. Set it in each process, as TF_CONFIG='{"),
        ({"TF_CONFIG": " "}, "must be set"),
        ({"TF_CONFIG": "{"}, "must be JSON; got '{'"),
        ({"TF_CONFIG": "[]"}, "must have cluster.worker, task.type and task.index"),
        ({"TF_CONFIG": '{"cluster": {}}'}, "must have cluster.worker, task.type and task.index"),
        ({"TF_CONFIG": '{"cluster": [], "task": {"type": "worker", "index": 0}}'}, "must have cluster.worker"),
        (tf_config(index="x"), "must have cluster.worker, task.type and task.index"),
        (tf_config(index=2), "must have a task of the cluster; got 'worker' 2"),
        (tf_config(index=-1), "got 'worker' -1"),
        (tf_config("chief"), "got 'chief' 0"),
        (tf_config("evaluator"), "got 'evaluator' 0"),
        (tf_config(worker=["one:2222"]), "at least two workers; got 1. Set it"),
        (tf_config(worker=["one:2222", "one:2222"]), "each worker once"),
        (tf_config(worker=["one", "two:2222"]), "as HOST:PORT; got 'one'"),
        (tf_config(worker=["one:0", "two:2222"]), "as HOST:PORT; got 'one:0'"),
        (tf_config(chief=["a:1", "b:1"], worker=["c:1"]), "at most one chief"),
        (tf_config(worker=["a:1", "b:1"], ps=["c:1"]), "only workers and a chief; got ps as well"),
    ],
)
def test_read_cluster_refuses_an_invalid_tf_config(environment, message):
    with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("[", r"\[")) as error:
        read_cluster(environment)

    assert str(error.value).startswith("TF_CONFIG must ")
    assert str(error.value).endswith("or set distill.strategy to none.")


def test_check_divisible_names_the_next_smaller_size():
    check_divisible(128, 2)
    with pytest.raises(
        ConfigError, match=r"divisible by the 3 replicas .* got 128 images\. Set distill.batch_size to 126"
    ):
        check_divisible(128, 3)
    with pytest.raises(ConfigError, match=r"Set distill.batch_size to 4, or"):
        check_divisible(1, 4)
