# SPDX-License-Identifier: Apache-2.0
import http.server
import json
import socket
import threading

import pytest

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.beam.runners import beam_args, check_runner, merge_args
from learn2compress.schemas.config import PipelineConfig, parse_config
from learn2compress.schemas.errors import ConfigError, EngineError


@pytest.fixture
def job_manager():
    """Starts a server that answers as a JobManager of a version; returns its address."""
    servers = []

    def start(content):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("localhost", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"localhost:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def jar(tmp_path):
    path = tmp_path / "beam-runners-flink-1.20-job-server-2.74.0.jar"
    path.touch()
    return str(path)


@pytest.fixture
def closed_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def test_beam_args_of_the_default_runner_are_those_of_one_machine():
    assert beam_args(PipelineConfig()) == direct_runner_args(1)
    assert beam_args(PipelineConfig(workers=2)) == direct_runner_args(2)


def test_beam_args_of_flink_name_master_jar_and_environment(jar):
    flink = {
        "master": "jobs:8081",
        "job_server_jar": jar,
        "parallelism": 4,
        "environment": "EXTERNAL",
        "environment_config": "localhost:50000",
    }

    assert beam_args(PipelineConfig(runner="flink", flink=flink)) == [
        "--runner=FlinkRunner", "--flink_master=jobs:8081", "--flink_submit_uber_jar", f"--flink_job_server_jar={jar}",
        "--parallelism=4", "--environment_cache_millis=10000", "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000", "--sdk_container_image=unused",
    ]  # fmt: skip


def test_beam_args_of_dataflow_name_the_image_of_the_workers():
    dataflow = {"project": "p", "region": "r", "temp_location": "gs://b/t", "image": "registry/learn2compress:1"}

    assert "--sdk_container_image=registry/learn2compress:1" in beam_args(
        PipelineConfig(runner="dataflow", dataflow=dataflow)
    )


def test_beam_args_of_the_user_are_added_and_replace_by_name():
    config = PipelineConfig(workers=2, beam_args=["--direct_num_workers=3", "--experiments=x"])

    args = beam_args(config)

    assert [arg for arg in args if "num_workers" in arg] == ["--direct_num_workers=3"]
    assert args[-1] == "--experiments=x"
    assert "--sdk_container_image=unused" in args
    assert merge_args(["--a=1", "--flag"], ["--flag", "--a=2"]) == ["--flag", "--a=2"]


@pytest.mark.parametrize("runner", ["prism", "flink", "spark", "dataflow"])
def test_workers_are_refused_with_another_runner(runner):
    with pytest.raises(ConfigError, match=f"workers must be left out with the runner {runner}") as caught:
        parse_config({"teacher": {"path": "t"}, "data": {"path": "d"}, "pipeline": {"runner": runner, "workers": 2}})
    assert "instead" in str(caught.value)


def test_check_runner_names_a_missing_prism():
    with pytest.raises(EngineError, match=r"prism\.location must be .* got nowhere, .* go install .*prism@v2\."):
        check_runner(PipelineConfig(runner="prism", prism={"location": "nowhere"}))


def test_check_runner_names_a_missing_jar():
    with pytest.raises(EngineError, match=r"pipeline\.flink\.job_server_jar must be the jar .*; got /no/such\.jar"):
        check_runner(PipelineConfig(runner="flink", flink={"job_server_jar": "/no/such.jar"}))
    with pytest.raises(EngineError, match=r"pipeline\.spark\.job_server_jar must be the jar .*; got None"):
        check_runner(PipelineConfig(runner="spark"))


def test_check_runner_names_a_closed_port(jar, closed_port):
    flink = {"job_server_jar": jar, "master": f"localhost:{closed_port}"}

    with pytest.raises(EngineError, match=rf"got localhost:{closed_port}: Connection refused\. Start it"):
        check_runner(PipelineConfig(runner="flink", flink=flink))


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}"])
def test_check_runner_names_a_service_that_is_no_flink(jar, job_manager, content):
    flink = {"job_server_jar": jar, "master": job_manager(content)}

    with pytest.raises(EngineError, match=r"must be the REST address of a JobManager; .* is something else"):
        check_runner(PipelineConfig(runner="flink", flink=flink))


def test_check_runner_names_a_version_that_beam_does_not_support(jar, job_manager):
    flink = {"job_server_jar": jar, "master": job_manager(json.dumps({"flink-version": "1.3.2"}).encode())}

    with pytest.raises(EngineError, match=r"supports, .*; got 1\.3\.2\. Use such a cluster"):
        check_runner(PipelineConfig(runner="flink", flink=flink))


def test_check_runner_accepts_a_flink_cluster_and_names_a_missing_worker_pool(jar, job_manager, closed_port):
    flink = {"job_server_jar": jar, "master": job_manager(json.dumps({"flink-version": "1.20.5"}).encode())}

    check_runner(PipelineConfig(runner="flink", flink=flink))

    with pytest.raises(EngineError, match="environment_config must be given with environment EXTERNAL"):
        check_runner(PipelineConfig(runner="flink", flink={**flink, "environment": "EXTERNAL"}))
    pool = {"environment": "EXTERNAL", "environment_config": f"localhost:{closed_port}"}
    with pytest.raises(EngineError, match=r"flink\.environment_config must be the address of a service that runs"):
        check_runner(PipelineConfig(runner="flink", flink={**flink, **pool}))


def test_check_runner_names_missing_settings_of_dataflow():
    with pytest.raises(EngineError, match=r"pipeline\.dataflow must have region, temp_location, image"):
        check_runner(PipelineConfig(runner="dataflow", dataflow={"project": "p"}))
