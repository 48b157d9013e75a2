# SPDX-License-Identifier: Apache-2.0
"""submit and the connection on the command line: kfp's real client over HTTP against a small api-server."""

import re
import subprocess

import pytest

from learn2compress.kubeflow.client import Endpoint, connect
from learn2compress.schemas.errors import ClusterError


def test_submit_uploads_passes_every_parameter_and_brings_the_teacher(submit, api, store):
    status, out, err = submit("--limit", 100, "--set", "distill.epochs=3")

    assert (status, err) == (0, "")
    [started] = api.runs.values()
    assert f"Started run {started['run_id']} of pipeline learn2compress" in out
    assert out.splitlines()[-1] == f"Follow it: learn2compress status {started['run_id']} --host {api.url} --wait"
    values = started["runtime_config"]["parameters"]
    [version] = [v for v in api.versions.values() if v["display_name"] != "learn2compress"]
    assert set(values) == set(version["pipeline_spec"]["root"]["inputDefinitions"]["parameters"])
    assert (values["distill_epochs"], values["limit"], values["data_path"]) == (3, 100, "digits")
    assert values["teacher_sha256"].startswith("97ff8a")
    assert started["runtime_config"]["pipeline_root"] == "minio://bucket/runs"
    assert (store.root / values["teacher_path"].removeprefix("minio://")).read_bytes() == b"a model"


def test_second_submit_takes_the_version_that_is_there(submit, api):
    submit()
    submit("--set", "distill.epochs=3")

    assert len(api.pipelines) == len(api.experiments) == 1
    assert len(api.versions) == 2  # the upload's own, and one by its digest
    assert len(api.runs) == 2
    assert api.requests.count("POST /pipelines/upload_version") == 1


def test_changed_pipeline_becomes_a_version(submit, api):
    submit()
    submit("--set", "quantize.calibration_images=17")

    assert api.requests.count("POST /pipelines/upload_version") == 2


@pytest.mark.parametrize("root", ["/srv/runs", "runs", "file:///srv", "https://bucket/runs"])
def test_local_root_is_refused_before_anything_is_sent(run, api, config, root):
    status, _, err = run("submit", config, "--host", api.url, "--root", root, "--image", "registry.example/steps:1")

    assert status == 2
    assert "the pipeline root must be an s3://, gs:// or minio:// address, which every pod can reach" in err
    assert f"got {root}. Pass --root" in err
    assert api.requests == []


@pytest.mark.parametrize(
    "call", ["/pipelines/upload", "/pipelines/upload_version", "/experiments", "/runs"], ids=lambda call: call[1:]
)
def test_each_refused_call_is_one_line(submit, api, call):
    api.failures[("POST", call)] = (500, "the database is full")

    status, _, err = submit()

    assert status == 2
    assert err.startswith(
        f"learn2compress: {api.url} must accept the request; it says: the database is full (HTTP 500)"
    )
    assert len(err.splitlines()) == 1
    assert api.runs == {}


def test_teacher_that_is_nowhere_is_named(submit, config):
    (config.parent / "teacher.keras").unlink()

    status, _, err = submit()

    assert status == 2
    assert re.search(r"teacher\.path must be a file or folder here, or an address; there is no .*teacher\.keras", err)


def test_store_that_refuses_is_named_and_nothing_is_started(submit, api, store):
    store.refuse = {"PUT"}

    status, _, err = submit()

    assert status == 2
    assert "must be writable and readable; the object store refuses" in err
    assert api.runs == {}


def test_token_is_sent_and_a_wrong_one_refused(submit, api, tmp_path):
    api.token = "right"
    (tmp_path / "token").write_text("right\n")

    assert submit("--token-file", tmp_path / "token")[0] == 0
    status, _, err = submit("--token", "wrong")
    assert status == 2
    assert "must accept the caller; it says: HTTP 401. Pass a token that is valid" in err


def test_namespace_must_be_given_where_there_are_several_users(submit, api):
    api.multi_user = True

    status, _, err = submit()

    assert status == 2
    assert "so a namespace must be given; got none. Pass -n NAME" in err
    assert submit("-n", "team")[0] == 0
    assert submit("-n", "team")[0] == 0
    assert len(api.pipelines) == 1
    assert {one["namespace"] for one in api.experiments.values()} == {"team"}


def test_host_that_does_not_answer_is_named_with_the_way_to_one(run):
    status, _, err = run("status", "r", "--host", "http://localhost:9")

    assert status == 2
    assert "http://localhost:9 must be reachable" in err
    assert "kubectl port-forward" in err


def test_host_that_is_something_else_is_named(store):
    with pytest.raises(ClusterError, match=r"must be a Kubeflow Pipelines endpoint of version 2; .* HTTP 404|HTTP 403"):
        connect(Endpoint(store.url))


@pytest.fixture
def certificate(tmp_path):
    names = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", names[0], "-keyout", names[1]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(names)


def test_certificate_is_checked_unless_told_otherwise(load, certificate):
    with load("api_server").serving(certificate=certificate) as api:
        with pytest.raises(ClusterError, match=r"the certificate of https://localhost:\d+ must be trusted"):
            connect(Endpoint(api.url))
        for endpoint in (Endpoint(api.url, ca_cert=certificate[0]), Endpoint(api.url, verify_tls=False)):
            assert connect(endpoint).list_experiments().experiments == []
