# SPDX-License-Identifier: Apache-2.0
"""submit and the connection on the command line: kfp's real client over HTTP against a small api-server."""

import re
import subprocess
import sys

import pytest
from support.servers import api_server

from learn2compress.kubeflow.client import Endpoint, connect
from learn2compress.kubeflow.schedule import Schedule
from learn2compress.schemas.errors import ClusterError, ConfigError


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


def test_namespace_of_others_is_refused_with_the_way_to_ones_own(submit, api):
    api.multi_user, api.namespaces = True, {"team"}

    assert submit("-n", "team")[0] == 0
    status, _, err = submit("-n", "others")

    assert status == 2
    assert "is not authorized with reason: (request: namespace others). Pass the namespace in which you have" in err


def test_token_of_a_pod_is_found_by_kfps_own_variable(submit, api, tmp_path, monkeypatch):
    api.token = "projected"
    (tmp_path / "token").write_text("projected\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))

    assert submit()[0] == 0


def test_upload_is_told_only_where_something_is_uploaded(submit):
    _, first, _ = submit()
    _, second, _ = submit()

    assert "teacher.keras to minio://bucket/runs/inputs/" in first
    assert "teacher.keras" not in second


@pytest.mark.parametrize(
    ("every", "trigger"),
    [
        ("6h", {"periodic_schedule": {"interval_second": 21600}}),
        ("0 30 2 * * *", {"cron_schedule": {"cron": "0 30 2 * * *"}}),
    ],
)
def test_every_makes_a_schedule_that_reads_the_data_anew(submit, api, store, every, trigger):
    (store.root / "bucket" / "images.npz").write_bytes(b"images")

    status, out, err = submit("--every", every, "--set", "kubeflow.data=s3://bucket/images.npz")

    assert (status, err) == (0, "")
    [made] = api.recurring.values()
    assert made["trigger"] == trigger
    assert f"every {every}: recurring run {made['recurring_run_id']}." in out
    assert api.runs == {}
    values = made["runtime_config"]["parameters"]
    assert values["data_digest"].startswith("unread-")
    [version] = [v for v in api.versions.values() if v["display_name"] != "learn2compress"]
    tasks = version["pipeline_spec"]["root"]["dag"]["tasks"]
    cached = {name: task["cachingOptions"]["enableCache"] for name, task in tasks.items()}
    # The teacher lies in the store once and for all, where submit has put it.
    assert {name for name, taken in cached.items() if not taken} == {"ImageExampleGen", "StudentSelector"}


@pytest.mark.parametrize("every", ["", "6", "0h", "hourly", "* * * * *", "6 hours", "0 30 2 * * ; x"])
def test_every_that_is_no_schedule_is_refused(every):
    with pytest.raises(ConfigError, match=r"--every must be an interval as 30m, 6h, 1d or 2w, or six cron fields"):
        Schedule.parse(every)


def test_schedule_is_not_waited_for(submit):
    assert "--every must be given without --wait and --output" in submit("--every", "1d", "--wait")[2]


def test_submit_looks_for_the_image_first(submit, api, monkeypatch):
    def missing(name, _):
        raise ClusterError(f"image {name} must be in its registry; it gives HTTP 404.")

    monkeypatch.setattr("learn2compress.kubeflow.checks.doctor.look_up_image", missing)

    status, _, err = submit()

    assert status == 2
    assert "must be in its registry; it gives HTTP 404" in err
    assert api.requests == ["GET /healthz"]
    assert submit("--no-check")[0] == 0


@pytest.mark.parametrize(
    "arguments", [("status", "r"), ("cancel", "r"), ("doctor", "--root", "s3://b/r", "--image", "x")]
)
def test_no_warning_of_a_library_reaches_the_screen(api, arguments):
    command = [sys.executable, "-m", "learn2compress.cli.main", *arguments, "--host", api.url]
    done = subprocess.run(command, capture_output=True, text=True)

    assert "Warning" not in done.stderr
    assert done.returncode == 2


def test_host_that_does_not_respond_is_named_with_the_way_to_one(run):
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


def test_certificate_is_checked_unless_told_otherwise(certificate):
    with api_server.serving(certificate=certificate) as api:
        with pytest.raises(ClusterError, match=r"the certificate of https://localhost:\d+ must be trusted"):
            connect(Endpoint(api.url))
        for endpoint in (Endpoint(api.url, ca_cert=certificate[0]), Endpoint(api.url, verify_tls=False)):
            assert connect(endpoint).list_experiments().experiments == []
