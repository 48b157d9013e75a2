# SPDX-License-Identifier: Apache-2.0
"""doctor on the command line: what it looks for, and the remedy of each fault."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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
