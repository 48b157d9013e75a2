# SPDX-License-Identifier: Apache-2.0
"""How a step finds its engine and gives it to tfx."""

import pytest

from learn2compress.kubeflow.engine import on_engine, read_engine
from learn2compress.kubeflow.spec.engine import ENGINE_VARIABLE, write_engine
from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import ClusterError, EngineError

OUTPUT = "minio://bucket/root/pipeline/run/TeacherImporter/provenance"


def engine(monkeypatch, **kubeflow):
    config = parse_config({"teacher": {"path": "t"}, "data": {"path": "d"}, "kubeflow": kubeflow})
    monkeypatch.setenv(ENGINE_VARIABLE, write_engine(config))


def test_step_without_an_engine_runs_on_its_own_machine(monkeypatch, tmp_path):
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)

    assert read_engine(OUTPUT, tmp_path) is None


def test_step_reads_what_was_compiled_and_exchanges_files_beside_its_outputs(monkeypatch, tmp_path):
    engine(monkeypatch, runner="flink", flink={"job_server_jar": "/opt/server.jar", "parallelism": 3})

    found = read_engine(OUTPUT, tmp_path)

    assert (found.runner, found.flink.master, found.flink.parallelism) == ("flink", "learn2compress-flink:8081", 3)
    assert found.flink.environment == "EXTERNAL"
    assert found.exchange == "minio://bucket/root/pipeline/run/TeacherImporter/exchange"


def test_step_fetches_the_jar_and_takes_the_exchange_that_is_given(store, monkeypatch, tmp_path):
    (store.root / "bucket" / "server.jar").write_bytes(b"a jar")
    flink = {"job_server_jar": "s3://bucket/server.jar"}
    engine(monkeypatch, runner="flink", flink=flink, exchange="s3://bucket/exchange")

    found = read_engine(OUTPUT, tmp_path)

    assert found.exchange == "s3://bucket/exchange"
    with open(found.flink.job_server_jar, "rb") as jar:
        assert jar.read() == b"a jar"


def test_step_names_an_engine_that_it_cannot_read(monkeypatch, tmp_path):
    monkeypatch.setenv(ENGINE_VARIABLE, '{"runner": "abacus"}')

    with pytest.raises(ClusterError, match=f"{ENGINE_VARIABLE} must be what was compiled"):
        read_engine(OUTPUT, tmp_path)


def test_step_names_an_engine_that_is_not_there(monkeypatch, tmp_path):
    engine(monkeypatch, runner="flink", flink={"job_server_jar": str(tmp_path / "none.jar")})
    config = read_engine(OUTPUT, tmp_path)

    with pytest.raises(EngineError, match=r"^kubeflow\.flink\.job_server_jar must be the jar"), on_engine(config):
        pass


def test_steps_of_our_own_run_on_the_engine_and_those_of_tfx_where_the_files_are(monkeypatch, tmp_path):
    from tfx.components.statistics_gen.executor import Executor

    from learn2compress.components.beam import runners
    from learn2compress.components.tflite_evaluator import TFLiteEvaluatorExecutor

    monkeypatch.setattr(runners, "check_runner", lambda *_, **__: None)
    engine(monkeypatch, runner="flink", flink={"job_server_jar": "/opt/server.jar"})

    with on_engine(read_engine(OUTPUT, tmp_path)):
        ours, theirs = (kind()._make_beam_pipeline().options for kind in (TFLiteEvaluatorExecutor, Executor))

    assert ours.get_all_options()["flink_master"] == "learn2compress-flink:8081"
    assert ours.get_all_options()["exchange"].endswith("/TeacherImporter/exchange")
    assert theirs.get_all_options()["direct_num_workers"] == 1
    assert theirs.get_all_options().get("exchange") is None
