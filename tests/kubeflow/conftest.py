# SPDX-License-Identifier: Apache-2.0
"""Provides the fixtures of the tests of the cluster side."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.servers import api_server, kube_server, kubeflow_facts


def load_beside(name: str) -> ModuleType:
    """Imports a file of this folder, once."""
    full = f"kubeflow_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def load():
    """Imports a file of this folder."""
    return load_beside


@pytest.fixture(params=kubeflow_facts.VERSIONS)
def version(request):
    """Each version that facts are recorded of."""
    return request.param


@pytest.fixture
def api(request):
    """An api-server: of the test's version if it has one, else of 2.17."""
    version = request.getfixturevalue("version") if "version" in request.fixturenames else "2.17"
    with api_server.serving(version=version) as server:
        yield server


@pytest.fixture
def run(type_in, monkeypatch):
    """Runs the command line; returns status, output and error."""
    from learn2compress.kubeflow.runs import following

    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    return type_in


@pytest.fixture
def config(tmp_path):
    """The digits' configuration with a teacher of its own beside it."""
    path = tmp_path / "config.yaml"
    path.write_text((Path(__file__).resolve().parents[2] / "examples" / "digits" / "config.yaml").read_text())
    (tmp_path / "teacher.keras").write_bytes(b"a model")
    return path


@pytest.fixture
def submit(run, api, store, config, monkeypatch):  # noqa: ARG001 - the store is up
    """Submits the digits; the registry is not queried."""
    from learn2compress.kubeflow.checks import doctor

    monkeypatch.setattr(doctor, "_QUICK_SECONDS", 0.2)
    image = "localhost:9/learn2compress:0.1.0"

    def call(*more):
        return run("submit", config, "--host", api.url, "--root", "minio://bucket/runs", "--image", image, *more)

    return call


NODES = ("ImageExampleGen", "StatisticsGen", "SchemaGen", "Pruner-small", "StudentSelector")


@pytest.fixture
def started(api):
    """Puts a run of five nodes into the api-server, as if it had been submitted; returns its id."""
    api.runs["run-1"] = {
        "run_id": "run-1", "display_name": "digits", "state": "PENDING", "state_history": [], "done": 0,
        "nodes": list(NODES), "pipeline": "learn2compress", "runtime_config": {"pipeline_root": "minio://bucket/runs"},
    }  # fmt: skip
    return "run-1"


@pytest.fixture
def kube(tmp_path, monkeypatch):
    """Kubernetes itself, which --kube finds by its kubeconfig."""
    with kube_server.serving() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server
