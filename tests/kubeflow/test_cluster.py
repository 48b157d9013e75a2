# SPDX-License-Identifier: Apache-2.0
"""submit, status, cancel and doctor on the command line: kfp's real client over HTTP against a small api-server."""

import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from learn2compress.kubeflow import watch
from learn2compress.kubeflow.client import Endpoint, connect
from learn2compress.schemas.errors import ClusterError

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "digits" / "config.yaml"
IMAGE = "registry.example/learn2compress:0.1.0"


@pytest.fixture
def api(load):
    with load("api_server").serving() as server:
        yield server


@pytest.fixture
def run(type_in, monkeypatch):
    """Runs the command line; returns status, output and error."""
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch.follow, "__defaults__", (lambda _: None, 0.01))

    return type_in


@pytest.fixture
def config(tmp_path):
    """The digits' configuration with a teacher of its own beside it."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.read_text())
    (tmp_path / "teacher.keras").write_bytes(b"a model")
    return path


@pytest.fixture
def submit(run, api, store, config):  # noqa: ARG001 - the store is up
    def call(*more):
        return run("submit", config, "--host", api.url, "--root", "minio://bucket/runs", "--image", IMAGE, *more)

    return call


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


def test_wait_follows_node_by_node(submit, api):
    status, out, _ = submit("--wait")

    assert status == 0
    states = re.findall(r"^  (\w+): (\w+)$", out, re.MULTILINE)
    assert states[:3] == [
        ("ImageExampleGen", "running"), ("ImageExampleGen", "succeeded"), ("StatisticsGen", "running"),
    ]  # fmt: skip
    assert states[-1] == ("StudentSelector", "succeeded")
    assert len(states) == 20
    [started] = api.runs
    assert out.splitlines()[-2:] == [
        f"Run {started} has succeeded.",
        f"Fetch its models and report: learn2compress fetch {started} --root minio://bucket/runs --output OUT",
    ]


def test_container_that_does_not_start_is_told_with_the_way_to_its_reason(submit, api, monkeypatch):
    api.stuck_node = "StatisticsGen"
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 0.05)
    asked = iter(range(30))
    sleep = watch.time.sleep

    def wait(seconds):
        if next(asked, None) is None:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(watch.time, "sleep", wait)

    status, out, err = submit("--wait")

    assert status == 130
    assert "  StatisticsGen: pending" in out
    assert err.splitlines()[0] == (
        "StatisticsGen still waits for its container to start. An image that cannot be pulled looks like that, and so "
        "does a cluster without room for it: kubectl describe pod -n kubeflow statisticsgen-impl-1"
    )
    assert err.count("still waits") == 1


def test_failed_step_says_its_own_error_and_where_its_log_is(submit, api):
    api.fail_node = ("SchemaGen", "Error (exit code 2): learn2compress: SchemaGen: data must be good; got bad.")

    status, _, err = submit("--wait")

    assert status == 3
    assert "SchemaGen failed: learn2compress: SchemaGen: data must be good; got bad. Its log: kubectl logs" in err
    assert "schemagen-impl-1 -c main" in err
    assert len(err.splitlines()) == 1


def test_failed_step_is_asked_for_its_log_where_the_cluster_gives_no_reason(submit, api):
    api.fail_node = ("SchemaGen", "Error (exit code 2)")
    api.logs["schemagen-impl-1"] = "INFO\nlearn2compress: SchemaGen: the log's own line.\n"

    status, _, err = submit("--wait")

    assert status == 3
    assert "SchemaGen failed: learn2compress: SchemaGen: the log's own line. Its log" in err


def test_endpoint_that_is_away_for_a_moment_ends_nothing(submit, api, run):
    _, out, _ = submit()
    [started] = api.runs
    api.failures[("GET", f"/runs/{started}")] = (503, "upstream connect error")
    api.once.add(("GET", f"/runs/{started}"))

    status, out, _ = run("status", started, "--host", api.url, "--wait")

    assert status == 0
    assert "has succeeded" in out


def test_endpoint_that_stays_away_is_named(submit, api, run):
    submit()
    [started] = api.runs
    api.failures[("GET", f"/runs/{started}")] = (503, "upstream connect error")

    status, _, err = run("status", started, "--host", api.url, "--wait")

    assert status == 2
    assert "upstream connect error (HTTP 503)" in err


def test_interrupt_says_how_to_attach_again(submit, api, run, monkeypatch):
    submit()
    [started] = api.runs

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupt)
    status, _, err = run("status", started, "--host", api.url, "--wait")

    assert status == 130
    assert f"The run goes on. Attach again: learn2compress status {started} --host {api.url} --wait" in err
    assert api.runs[started]["state"] == "RUNNING"


def test_status_shows_the_nodes(submit, api, run):
    submit()
    [started] = api.runs

    status, out, _ = run("status", started, "--host", api.url)

    assert status == 0
    assert out.splitlines()[0].endswith(": RUNNING")
    assert out.splitlines()[1:] == ["  ImageExampleGen: running"]


def test_cancel_ends_a_run_once(submit, api, run):
    submit()
    [started] = api.runs

    assert run("cancel", started, "--host", api.url)[0] == 0
    assert api.runs[started]["state"] == "CANCELED"
    status, _, err = run("cancel", started, "--host", api.url)
    assert status == 2
    assert "must be going on to be cancelled; it is CANCELED" in err
    status, _, err = run("status", started, "--host", api.url)
    assert status == 3
    assert "must succeed; it is CANCELED" in err


def test_run_that_is_not_there_is_named(api, run):
    status, _, err = run("status", "nowhere", "--host", api.url)

    assert status == 2
    assert "it says: Run nowhere not found" in err


@pytest.mark.parametrize("root", ["/srv/runs", "runs", "file:///srv", "https://bucket/runs"])
def test_local_root_is_refused_before_anything_is_sent(run, api, config, root):
    status, _, err = run("submit", config, "--host", api.url, "--root", root, "--image", IMAGE)

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
    assert err.startswith(f"learn2compress: {api.url} must do what is asked; it says: the database is full (HTTP 500)")
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
    assert "must be writable; the object store refuses" in err
    assert api.runs == {}


def test_token_is_sent_and_a_wrong_one_refused(submit, api, tmp_path):
    api.token = "right"
    (tmp_path / "token").write_text("right\n")

    assert submit("--token-file", tmp_path / "token")[0] == 0
    status, _, err = submit("--token", "wrong")
    assert status == 2
    assert "must accept who asks; it says: HTTP 401. Pass a token that is valid" in err


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


@pytest.fixture
def registry():
    """A container registry that holds one image and asks for a token, which anybody gets."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            realm = f"http://127.0.0.1:{self.server.server_port}/token"
            status, headers, body = 200, {}, b"{}"
            if self.path.startswith("/token"):
                body = b'{"token": "anybody"}'
            elif self.headers.get("Authorization") != "Bearer anybody":
                status, headers = 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="r",scope="pull"'}
            elif self.path.startswith("/v2/private/"):
                status = 403
            elif self.path != "/v2/team/steps/manifests/1":
                status = 404
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("store")
def test_doctor_finds_all_well(run, api, registry, config):
    status, out, err = run(
        "doctor", config, "--host", api.url, "--root", "minio://bucket/runs", "--image", f"{registry}/team/steps:1"
    )

    assert (status, err) == (0, "")
    assert [line[:5] for line in out.splitlines()] == ["ok   "] * 6
    assert "version 2.4.0" in out


@pytest.mark.usefixtures("store")
def test_doctor_does_without_a_configuration(run, api, registry):
    arguments = ("doctor", "--host", api.url, "--root", "s3://bucket/runs", "--image", f"{registry}/team/steps:1")

    status, out, _ = run(*arguments)

    assert (status, [line.split()[1] for line in out.splitlines()]) == (
        0, ["endpoint:", "authorization:", "object", "image:"],
    )  # fmt: skip
    assert "--set must go with a configuration" in run(*arguments, "--set", "distill.epochs=1")[2]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("{registry}/team/steps:2", r"FAULT image: .* must be in its registry; .* gives HTTP 404\. Push it"),
        ("{registry}/private/steps:1", r"ok    image: .* is private"),
        ("localhost:9/steps:1", r"FAULT image: registry localhost:9 must be reachable"),
        ("Steps:1", r"FAULT image: an image must be named as in registry\.example/name:tag; got 'Steps:1'"),
    ],
)
def test_doctor_asks_the_registry(run, api, registry, config, image, line):
    _, out, _ = run(
        "doctor", config, "--host", api.url, "--root", "s3://bucket/runs", "--image", image.format(registry=registry)
    )

    assert re.search(f"^{line}", out, re.MULTILINE), out


def test_doctor_names_each_fault_with_its_remedy(run, api, store, config):
    api.token = "right"
    store.refuse = {"PUT"}
    (config.parent / "teacher.keras").unlink()

    status, out, err = run(
        "doctor", config, "--host", api.url, "--root", "s3://bucket/runs", "--set", "kubeflow.data=s3://bucket/none"
    )

    assert status == 2
    assert "6 of the checks found a fault" in err
    for pattern in (
        r"endpoint: .* must accept who asks; .* Pass a token",
        r"authorization: .* must accept who asks",
        r"object store: s3://bucket/runs must be writable and readable; .* Check the keys",
        r"image: an image must be given; got none\. Pass --image",
        r"teacher: teacher\.path must exist; .* set kubeflow\.teacher",
        r"data: kubeflow\.data must exist; there is nothing at s3://bucket/none\. Upload it",
    ):
        assert re.search(f"^FAULT {pattern}", out, re.MULTILINE), out


def test_fetch_of_a_run_without_a_choice_says_what_is_there(run, store, tmp_path):
    record = store.root / "bucket" / "runs" / "digits" / "run-1" / "Distiller" / "provenance" / "run-1.intoto.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")

    status, _, err = run("fetch", "run-1", "--root", "s3://bucket/runs", "-o", tmp_path / "out")

    assert status == 2
    assert "run run-1 must have chosen a model to be fetched; it has not. Finished nodes: Distiller." in err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("store")
def test_fetch_of_a_run_that_left_nothing_is_named(run, tmp_path):
    status, _, err = run("fetch", "run-9", "--root", "s3://bucket/runs", "-o", tmp_path / "out")

    assert status == 2
    assert "run run-9 must have left one folder of artifacts below s3://bucket/runs; there are 0" in err


def test_fetch_needs_an_endpoint_or_a_root(run, tmp_path):
    status, _, err = run("fetch", "run-9", "-o", tmp_path / "out")

    assert status == 2
    assert "an endpoint or the pipeline root must be given; got neither" in err
