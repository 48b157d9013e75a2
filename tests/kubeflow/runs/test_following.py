# SPDX-License-Identifier: Apache-2.0
"""status, status --wait and cancel on the command line, on each recorded version of the api-server."""

import re
import signal
import subprocess
import sys

import pytest

from learn2compress.kubeflow.runs import following

NODES = ("ImageExampleGen", "StatisticsGen", "SchemaGen", "Pruner-small", "StudentSelector")


def states(out: str) -> list[tuple[str, str]]:
    return re.findall(r"^  ([\w-]+): (.+)$", out, re.MULTILINE)


@pytest.fixture
def wait(run, api, started):
    return lambda *more: run("status", started, "--host", api.url, "--wait", *more)


@pytest.mark.usefixtures("version")
def test_wait_follows_node_by_node(wait):
    status, out, err = wait()

    assert (status, err) == (0, "")
    assert states(out) == [(node, state) for node in NODES for state in ("running", "succeeded")]
    assert out.splitlines()[-2:] == [
        "Run run-1 has succeeded.",
        "Fetch its models and report: learn2compress fetch run-1 --root minio://bucket/runs --output OUT",
    ]


@pytest.mark.usefixtures("version")
def test_wait_tells_a_cached_step_from_one_that_ran(wait, api):
    api.cached = {"StatisticsGen", "Pruner-small"}

    status, out, _ = wait()

    shown = dict(states(out))
    assert status == 0
    assert shown["StatisticsGen"] == shown["Pruner-small"] == "unchanged, from the cache"
    assert shown["ImageExampleGen"] == shown["SchemaGen"] == shown["StudentSelector"] == "succeeded"


@pytest.mark.usefixtures("version")
def test_wait_tells_which_try_a_step_is_at(wait, api):
    api.attempts = {"SchemaGen": 2}

    _, out, _ = wait()

    shown = states(out)
    assert ("SchemaGen", "running, try 2") in shown
    assert ("SchemaGen", "succeeded, try 2") in shown
    assert ("Pruner-small", "succeeded") in shown


@pytest.mark.usefixtures("version", "store")
def test_failed_run_names_the_step_and_not_the_workflow(wait, api):
    api.fail_node = ("SchemaGen", "learn2compress: SchemaGen: data must be good; got bad.")

    status, _, err = wait()

    assert status == 3
    assert err.startswith("learn2compress: run run-1 must succeed; SchemaGen failed: ")
    assert "af672" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("store")
def test_steps_that_never_started_are_told_so(run, wait, api, started):
    api.fail_node = ("SchemaGen", "")
    wait()

    status, out, _ = run("status", started, "--host", api.url)

    assert status == 3
    assert dict(states(out)) == {
        "ImageExampleGen": "succeeded",
        "StatisticsGen": "succeeded",
        "SchemaGen": "failed",
        "Pruner-small": "not started",
        "StudentSelector": "not started",
    }


@pytest.mark.usefixtures("version")
def test_cancel_waits_for_an_end_that_is_a_cancellation(run, api, started):
    run("status", started, "--host", api.url)

    status, out, err = run("cancel", started, "--host", api.url, "--wait")

    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "Run run-1 is being cancelled."
    assert out.splitlines()[-1].startswith("Run run-1 was cancelled.")
    assert ("StatisticsGen", "cancelled") in states(out)
    assert api.runs[started]["state"] == "FAILED"  # what the cluster calls it


@pytest.mark.usefixtures("version")
def test_cancelled_run_is_cancelled_once_and_told_so(run, api, started):
    run("cancel", started, "--host", api.url, "--wait")

    status, _, err = run("cancel", started, "--host", api.url)
    assert status == 2
    assert "must be running to be cancelled; it is CANCELED" in err
    status, _, err = run("status", started, "--host", api.url)
    assert status == 3
    assert "must succeed; it is CANCELED" in err


def test_container_that_does_not_start_is_told_with_the_way_to_its_reason(wait, api, monkeypatch):
    api.stuck_node = "StatisticsGen"
    api.attempts = {"StatisticsGen": 1}
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.05)
    sleep, asked = following.time.sleep, iter(range(30))

    def pause(seconds):
        if next(asked, None) is None:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(following.time, "sleep", pause)

    status, out, err = wait()

    assert status == 130
    assert ("StatisticsGen", "pending") in states(out)
    assert err.splitlines()[0] == (
        "StatisticsGen still waits for its container to start. An image that cannot be pulled looks like that, and so "
        "does a cluster without room for it: kubectl describe pod -n kubeflow -l pipeline/runid=run-1"
    )
    assert err.count("still waits") == 1


def test_endpoint_that_is_away_for_a_moment_ends_nothing(wait, api, started):
    api.failures[("GET", f"/runs/{started}")] = (503, "upstream connect error")
    api.once.add(("GET", f"/runs/{started}"))

    status, out, _ = wait()

    assert status == 0
    assert "has succeeded" in out


def test_endpoint_that_stays_away_is_named(wait, api, started):
    api.failures[("GET", f"/runs/{started}")] = (503, "upstream connect error")

    status, _, err = wait()

    assert status == 2
    assert "upstream connect error (HTTP 503)" in err


def test_interrupt_says_how_to_attach_again(api, started):
    api.stuck_node = "ImageExampleGen"
    arguments = ["status", started, "--host", api.url, "--wait"]
    command = [sys.executable, "-u", "-m", "learn2compress.cli.main", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "ImageExampleGen" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    again = f"learn2compress {' '.join(arguments)}"
    assert err == f"Interrupted; {again} attaches again, and the run continues on the cluster.\n"
    assert api.runs[started]["state"] == "RUNNING"


@pytest.mark.usefixtures("version")
def test_status_shows_the_nodes_alone(run, api, started):
    status, out, err = run("status", started, "--host", api.url)

    assert (status, err) == (0, "")
    assert out.splitlines() == ["run-1 digits: RUNNING", "  ImageExampleGen: running"]


def test_token_file_is_read_again_for_each_call(wait, api, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("first\n")
    api.token = "first"
    sleep = following.time.sleep

    def rotate(seconds):
        api.token = "second"
        token.write_text("second\n")
        sleep(seconds)

    monkeypatch.setattr(following.time, "sleep", rotate)

    status, out, err = wait("--token-file", str(token))

    assert (status, err) == (0, "")
    assert "has succeeded" in out


def test_run_that_is_not_there_is_named(api, run):
    status, _, err = run("status", "nowhere", "--host", api.url)

    assert status == 2
    assert "it says: Run nowhere not found" in err
