# SPDX-License-Identifier: Apache-2.0
"""Tests that a failed run is reported in one line: the step, the reason, the remedy, its log."""

import pytest

from learn2compress.kubeflow.client import Endpoint
from learn2compress.kubeflow.runs import following
from learn2compress.kubeflow.runs.reasons import REASONS, find_reason
from learn2compress.kubeflow.runs.states import parse_run

OWN = "learn2compress: SchemaGen: data must be good; got bad. Mend it."


@pytest.fixture
def fail(run, api, started, store):  # noqa: ARG001 - the store is up
    """Follows a run in which SchemaGen fails; gives the error."""

    def call(message: str = "", *more: str) -> str:
        api.fail_node = ("SchemaGen", message)
        status, _, err = run("status", started, "--host", api.url, "--wait", *more)
        assert (status, len(err.splitlines())) == (3, 1), err
        return err

    return call


@pytest.fixture
def publish(store):
    """Leaves a log as the launcher does."""

    def call(text: str, attempt: int = 0, node: str = "SchemaGen") -> str:
        path = f"bucket/runs/learn2compress/run-1/{node}/a1b2/executor-logs-{attempt}"
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_text(text)
        return f"minio://{path}"

    return call


def test_published_log_tells_why_where_the_api_server_does_not(fail, publish):
    url = publish(f"INFO:absl:…\n{OWN}\n")

    assert fail() == f"learn2compress: run run-1 must succeed; SchemaGen failed: {OWN.rstrip('.')}. Its log: {url}\n"


def test_log_of_the_last_try_counts(fail, publish):
    publish("learn2compress: SchemaGen: the first.\n", 0)
    publish("learn2compress: SchemaGen: the tenth.\n", 9)
    url = publish("learn2compress: SchemaGen: the eleventh.\n", 10)

    err = fail()

    assert "the eleventh. Its log:" in err
    assert err.rstrip().endswith(url)


@pytest.mark.parametrize("version", ["without-mlmd"], indirect=True)
def test_message_of_the_task_tells_why_without_ml_metadata(fail, version):  # noqa: ARG001
    err = fail(f"executor failed: {OWN}")

    assert f"SchemaGen failed: {OWN.rstrip('.')}. Its log: kubectl logs -n kubeflow schemagen-impl-0 -c main" in err


def test_log_endpoints_error_as_json_is_no_log(fail, version):  # noqa: ARG001
    err = fail()

    assert "the log is not there" not in err
    assert "SchemaGen failed: it left no log." in err


@pytest.mark.usefixtures("version")
def test_run_without_any_source_says_how_to_find_out(fail):
    err = fail()

    assert "--kube shows which" in err
    assert "Its log: kubectl logs -n kubeflow " in err


def test_log_that_ends_in_the_middle_is_shown_with_what_that_may_mean(fail, publish):
    publish("Distiller 3/25: small 0.91\n")

    assert (
        "its log ends with 'Distiller 3/25: small 0.91', as that of a container does which runs out of memory" in fail()
    )


WAITING = {"phase": "Pending"}


def waiting(reason, message):
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        **WAITING,
        "containerStatuses": [
            {"name": "main", "ready": False, "restartCount": 0, "image": "i", "imageID": "", "state": state}
        ],
    }


def ended(reason, code, message=None):
    state = {"terminated": {"reason": reason, "exitCode": code, "message": message}}
    status = {"ready": False, "restartCount": 0, "image": "i", "imageID": ""}
    return {"phase": "Failed", "containerStatuses": [{"name": "main", **status, "state": state}]}


UNSCHEDULABLE = {
    **WAITING,
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes: 3 Insufficient memory.",
        }
    ],
}
FAILURES = [
    (waiting("ImagePullBackOff", "Back-off pulling image"), "its image cannot be pulled", "Push the image"),
    (
        waiting("CreateContainerConfigError", 'secret "x" not found'),
        "its container cannot be set up",
        "kubeflow.secret",
    ),
    (waiting("CreateContainerError", "exec: python not found"), "its container cannot be started", "make image"),
    (UNSCHEDULABLE, "no machine of the cluster has room", "Lower kubeflow.resources.SchemaGen"),
    (ended("OOMKilled", 137), "it ran out of memory", "Raise kubeflow.resources.SchemaGen.memory"),
    ({"phase": "Failed", "reason": "DeadlineExceeded"}, "it was ended at its deadline", "activeDeadlineSeconds"),
    (
        {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
        "it was evicted",
        "kubeflow.retries",
    ),
]


@pytest.mark.parametrize(("status", "fault", "remedy"), FAILURES, ids=[fault[1] for fault in FAILURES])
def test_kubernetes_reason_is_told_with_its_remedy(fail, kube, status, fault, remedy):
    kube.put_pod("StatisticsGen", **ended("Error", 1, "learn2compress: StatisticsGen: another step."))
    name = kube.put_pod("SchemaGen", **status)

    err = fail("", "--kube")

    assert f"SchemaGen failed: {fault}" in err
    assert remedy in err
    assert f"Its log: kubectl logs -n kubeflow {name} -c main" in err


def test_termination_message_of_the_last_try_is_the_reason(fail, kube):
    kube.put_pod("SchemaGen", attempt=0, **ended("Error", 2, "learn2compress: SchemaGen: the first try."))
    kube.put_pod("SchemaGen", attempt=1, **ended("Error", 2, OWN))

    assert f"SchemaGen failed: {OWN.rstrip('.')}." in fail("", "--kube")


@pytest.mark.parametrize(("status", "fault", "remedy"), FAILURES[:4], ids=[fault[1] for fault in FAILURES[:4]])
def test_waiting_container_is_explained_while_it_waits(run, api, started, kube, monkeypatch, status, fault, remedy):
    api.stuck_node = "SchemaGen"
    kube.put_pod("SchemaGen", **status)
    monkeypatch.setattr(following, "KUBE_SECONDS", 0.0)
    sleep, asked = following.time.sleep, iter(range(20))

    def pause(seconds):
        if next(asked, None) is None:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(following.time, "sleep", pause)

    status, _, err = run("status", started, "--host", api.url, "--wait", "--kube")

    assert status == 130
    assert err.splitlines()[0].startswith(f"SchemaGen waits: {fault}")
    assert remedy in err.splitlines()[0]
    assert err.count("SchemaGen waits") == 1


def test_message_of_a_waiting_task_is_explained_without_kubernetes(monkeypatch):
    """Without ML Metadata a task runs while its container waits, and has the message of Kubernetes."""
    found = {
        "state": "RUNNING",
        "tasks": [{"name": "A", "state": "RUNNING", "lifecycle_message": "Unschedulable: 0/3 nodes are available"}],
    }
    states = iter([found, found, {"state": "SUCCEEDED"}])
    monkeypatch.setattr(following, "get_state", lambda _, run: parse_run(next(states), run))
    monkeypatch.setattr(following, "KUBE_SECONDS", 0.0)
    told: list[str] = []

    following.follow(Endpoint("http://localhost:9"), "r", lambda _: None, told.append, seconds=0.0)

    [sentence] = told
    assert sentence.startswith(
        "A waits: no machine of the cluster has room for it (Unschedulable: 0/3 nodes are available"
    )


def test_kubernetes_that_refuses_leaves_the_other_sources(fail, kube, publish):
    kube.forbidden = {"list pods"}
    publish(f"{OWN}\n")

    assert f"SchemaGen failed: {OWN.rstrip('.')}." in fail("", "--kube")


def test_kube_without_a_kubeconfig_is_named(run, api, started, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    status, _, err = run("status", started, "--host", api.url, "--kube")

    assert status == 2
    assert "--kube needs a kubeconfig as kubectl has" in err


def test_log_of_a_step_is_printed(run, api, started, publish):
    publish("line 1\nline 2\n", node="ImageExampleGen")

    assert run("status", started, "--host", api.url, "--log", "ImageExampleGen")[:2] == (0, "line 1\nline 2\n")


def test_log_of_a_running_step_comes_from_its_pod(run, api, started, store, kube):  # noqa: ARG001 - the store is up
    kube.logs[kube.put_pod("ImageExampleGen", phase="Running")] = "so far\n"

    assert run("status", started, "--host", api.url, "--log", "ImageExampleGen", "--kube")[:2] == (0, "so far\n")


def test_log_that_is_nowhere_and_step_that_is_none_are_named(run, api, started, store):  # noqa: ARG001
    status, _, err = run("status", started, "--host", api.url, "--log", "ImageExampleGen")
    assert status == 2
    assert "ImageExampleGen must have left a log below minio://bucket/runs; there is none" in err

    status, _, err = run("status", started, "--host", api.url, "--log", "Other")
    assert status == 2
    assert "--log must name a step of run run-1; got Other. They are ImageExampleGen, " in err


def test_each_reason_has_a_remedy_that_can_be_filled_in():
    for reason in REASONS:
        assert "{" not in reason.remedy.format(node="Pruner", namespace="team")


@pytest.mark.parametrize("text", [None, "", "learn2compress: x: data must be good; got bad.", "exit status 2"])
def test_unknown_message_has_no_reason(text):
    assert find_reason(text) is None
