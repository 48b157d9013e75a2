# SPDX-License-Identifier: Apache-2.0
"""doctor on the command line: what it looks for, and the remedy of each fault."""

import json
import re

import pytest
from support.servers.local_server import Handler, LocalServer


def described(tag, architecture, user):
    """A manifest and its configuration, by path."""
    config = {"architecture": architecture, "os": "linux", "config": {"User": user}}
    return {f"manifests/{tag}": {"config": {"digest": f"sha256:{tag}"}}, f"blobs/sha256:{tag}": config}


IMAGES = {
    **described("1", "amd64", "10001"),
    **described("arm", "arm64", "10001"),
    **described("root", "amd64", ""),
    **described("named", "amd64", "learn2compress"),
    "manifests/many": {"manifests": [{"platform": {"os": "linux", "architecture": one}} for one in ("amd64", "arm64")]},
}


class RegistryHandler(Handler):
    def do_GET(self):
        realm = f"{self.owner.url}/token"
        if self.path.startswith("/token"):
            self.respond(200, {"token": "anybody"})
        elif self.headers.get("Authorization") != "Bearer anybody":
            self.respond(401, {}, WWW_Authenticate=f'Bearer realm="{realm}",service="r",scope="pull"')
        elif self.path.startswith("/v2/private/"):
            self.respond(403, {})
        else:
            found = IMAGES.get(self.path.removeprefix("/v2/team/steps/"))
            self.respond(404 if found is None else 200, found or {})


class Registry(LocalServer):
    """A container registry that holds some images and requires a token, which anybody gets."""

    handler = RegistryHandler


@pytest.fixture
def registry():
    """The address of a container registry."""
    with Registry().running() as server:
        yield server.url.removeprefix("http://")


@pytest.mark.usefixtures("store")
def test_doctor_finds_all_well(run, api, registry, config):
    status, out, err = run(
        "doctor", config, "--host", api.url, "--root", "minio://bucket/runs", "--image", f"{registry}/team/steps:1"
    )

    assert (status, err) == (0, "")
    assert [line[:5] for line in out.splitlines()] == ["ok   "] * 6
    assert "version 2.17.0" in out


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
        ("{registry}/team/steps:1", r"ok    image: .* is in its registry, linux/amd64, user 10001"),
        ("{registry}/team/steps:many", r"ok    image: .* is in its registry, linux/amd64"),
        ("{registry}/team/steps:arm", r"FAULT image: .* must be for linux/amd64, .* it is for linux/arm64\. Build it"),
        ("{registry}/team/steps:root", r"FAULT image: .* must have a user that is a number other than 0, .* got none"),
        ("{registry}/team/steps:named", r"FAULT image: .* a user that is a number other than 0, .* got learn2compress"),
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
        r"endpoint: .* must accept the caller; .* Pass a token",
        r"authorization: .* must accept the caller",
        r"object store: s3://bucket/runs must be writable and readable; .* Check the keys",
        r"image: an image must be given; got none\. Pass --image",
        r"teacher: teacher\.path must exist; .* set kubeflow\.teacher",
        r"data: kubeflow\.data must exist; there is nothing at s3://bucket/none\. Upload it",
    ):
        assert re.search(f"^FAULT {pattern}", out, re.MULTILINE), out


ROOT = "minio://mlpipeline/v2/artifacts/runs"
CLUSTER_DEFAULT = {"limit": 2, "retryPolicy": "OnError"}


@pytest.fixture
def namespace(kube):
    """A namespace that has all that a run needs."""
    kube.put("configmaps", "kfp-launcher", data={"defaultPipelineRoot": "minio://mlpipeline/v2/artifacts"})
    controller = {"executor": "imagePullPolicy: IfNotPresent", "note": "{no: yaml"}
    kube.put("configmaps", "workflow-controller-configmap", data=controller)
    kube.put("deployments", "ml-pipeline", spec=deployment())
    kube.put("serviceaccounts", "learn2compress", imagePullSecrets=[{"name": "pull"}])
    kube.put("secrets", "store", data={"AWS_ACCESS_KEY_ID": "a2V5", "AWS_SECRET_ACCESS_KEY": "a2V5"})
    kube.put("persistentvolumeclaims", "data", spec={"accessModes": ["ReadWriteMany"]}, status={"phase": "Bound"})
    kube.put("nodes", "one", None, metadata={"labels": {"kubernetes.io/arch": "amd64"}})
    return kube


def deployment(*env):
    container = {"name": "ml-pipeline-api-server", "env": [{"name": name, "value": value} for name, value in env]}
    labels = {"app": "ml-pipeline"}
    return {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }


@pytest.fixture
def examine(run, api, store, registry, config):
    """Runs doctor with --kube; gives status and output."""
    (store.root / "mlpipeline").mkdir()

    def call(*more, image="team/steps:1", root=ROOT):
        arguments = ("--host", api.url, "--root", root, "--image", f"{registry}/{image}", "--kube")
        settings = (
            "kubeflow.secret=store",
            "kubeflow.volume={claim: data, mount: /data}",
            "kubeflow.retries={Pruner: 1}",
        )
        return run("doctor", config, *arguments, *(part for one in settings for part in ("--set", one)), *more)[:2]

    return call


@pytest.mark.usefixtures("namespace")
def test_doctor_finds_the_cluster_well(examine):
    status, out = examine()

    assert status == 0, out
    assert [line.split(":")[0].split(None, 1) for line in out.splitlines()[6:]] == [
        ["ok", name]
        for name in (
            "pipeline root", "retries", "logs", "your rights", "service account", "its rights", "secret", "volume",
            "machines",
        )
    ]  # fmt: skip


FLINK = ("--set", "kubeflow.runner=flink", "--set", "kubeflow.flink.job_server_jar=s3://bucket/server.jar")


def test_doctor_looks_for_the_engine_and_its_jar(examine, namespace, store):
    status, out = examine(*FLINK)

    assert status == 2
    assert "FAULT job server: kubeflow.flink.job_server_jar must exist; there is nothing at s3://bucket" in out
    assert "FAULT engine: service learn2compress-flink must be in namespace" in out

    (store.root / "bucket" / "server.jar").write_bytes(b"a jar")
    namespace.put("services", "learn2compress-flink", spec={"ports": [{"port": 8081}]})
    status, out = examine(*FLINK)

    assert status == 0, out
    assert re.search(r"^ok +engine: learn2compress-flink:8081 is there$", out, re.MULTILINE)


def break_root(kube):
    kube.put("configmaps", "kfp-launcher", data={"defaultPipelineRoot": "s3://other/runs"})


def break_retries(kube):
    defaults = f"spec:\n  templateDefaults:\n    retryStrategy: {json.dumps(CLUSTER_DEFAULT)}\n"
    kube.put("configmaps", "workflow-controller-configmap", data={"workflowDefaults": defaults})


def break_logs(kube):
    kube.put("deployments", "ml-pipeline", spec=deployment(("PUBLISH_LOGS", "false")))


def break_secret(kube):
    kube.put("secrets", "store", data={"AWS_ACCESS_KEY_ID": "a2V5"})


def break_machines(kube):
    kube.put("nodes", "one", None, metadata={"labels": {"kubernetes.io/arch": "arm64"}})


def break_volume(kube):
    kube.put("persistentvolumeclaims", "data", spec={"accessModes": ["ReadWriteOnce"]}, status={"phase": "Bound"})


BROKEN = [
    (
        break_root,
        r"note  pipeline root: versions later than 2\.17 will refuse this: .*below the cluster's s3://other/runs",
    ),
    (
        break_retries,
        r"note  retries: the cluster's own rule wins over kubeflow\.retries: 2 retries, policy OnError, .*again",
    ),
    (break_logs, r"note  logs: the cluster keeps no logs of steps \(PUBLISH_LOGS is false\)"),
    (break_secret, r"FAULT secret: secret store must have the keys .*; it lacks AWS_SECRET_ACCESS_KEY"),
    (break_machines, r"FAULT machines: the cluster must have machines of architecture amd64"),
    (break_volume, r"note  volume: data is ReadWriteOnce: steps .* must be on one machine"),
    (
        lambda kube: kube.objects.pop("namespaces/kubeflow/secrets/store"),
        r"FAULT secret: secret store must be in namespace",
    ),
    (
        lambda kube: kube.objects.pop("namespaces/kubeflow/persistentvolumeclaims/data"),
        r"FAULT volume: volume claim data must be in namespace kubeflow; it is not",
    ),
    (
        lambda kube: kube.objects.pop("namespaces/kubeflow/serviceaccounts/learn2compress"),
        r"FAULT service account: service account learn2compress must be in namespace kubeflow; .*apply -k",
    ),
    (
        lambda kube: kube.forbidden.update({"get configmaps", "create workflowtaskresults"}),
        r"FAULT its rights: .* must be allowed to create workflowtaskresults, get configmaps kfp-launcher; it is not",
    ),
    (
        lambda kube: kube.forbidden.add("list pods"),
        r"note  your rights: you may not read pods: why a container does not start",
    ),
    (lambda kube: kube.forbidden.add("list nodes"), r"note  machines: cannot be seen: .* Kubernetes says 403"),
]


@pytest.mark.parametrize(("damage", "line"), BROKEN, ids=[line[6:24] for _, line in BROKEN])
def test_doctor_tells_what_the_cluster_lacks(examine, namespace, damage, line):
    damage(namespace)

    status, out = examine()

    assert re.search(f"^{line}", out, re.MULTILINE), out
    assert status == (2 if line.startswith("FAULT") else 0)


@pytest.mark.parametrize("override", [{"bucketName": "bucket", "keyPrefix": "runs"}, {"bucketName": "bucket"}])
def test_doctor_takes_a_root_with_an_override(examine, namespace, override):
    providers = json.dumps({"minio": {"default": {}, "overrides": [override]}})
    namespace.put("configmaps", "kfp-launcher", data={"providers": providers})

    assert "minio://bucket/runs/x has a provider of its own" in examine(root="minio://bucket/runs/x")[1]


def test_doctor_refuses_a_root_elsewhere_where_there_is_no_ml_metadata(examine, namespace, api):
    break_root(namespace)
    api.facts["version"] = "3.0.0"

    status, out = examine()

    assert status == 2
    assert f"FAULT pipeline root: the pipeline root must lie at or below the cluster's s3://other/runs, {''}" in out


def test_doctor_wants_a_pull_secret_for_a_private_image(examine, namespace):
    namespace.put("serviceaccounts", "learn2compress")

    _, out = examine(image="private/steps:1")

    assert re.search(
        r"^FAULT service account: .* must have a pull secret, since the image is private", out, re.MULTILINE
    )


def test_probe_runs_a_pod_as_a_step_is_and_removes_it(examine, namespace, monkeypatch):
    monkeypatch.setattr("learn2compress.kubeflow.checks.probe.POLL_SECONDS", 0.01)
    namespace.pod_status = [{"phase": "Pending"}, {"phase": "Running"}, {"phase": "Succeeded"}]

    status, out = examine("--probe")

    [pod] = namespace.created
    container = pod["spec"]["containers"][0]
    assert status == 0
    assert f"ok    probe: a pod in namespace kubeflow wrote to {ROOT} and read it back" in out
    assert pod["spec"]["securityContext"] == {"runAsNonRoot": True}
    assert pod["spec"]["serviceAccountName"] == "learn2compress"
    assert container["env"][-1]["valueFrom"]["secretKeyRef"] == {"name": "store", "key": "AWS_SECRET_ACCESS_KEY"}
    assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
    assert f"namespaces/kubeflow/pods/{pod['metadata']['name']}" not in namespace.objects


def test_probe_that_fails_says_what_the_pod_said(examine, namespace):
    terminated = {"reason": "Error", "exitCode": 2, "message": "learn2compress: minio://x must be writable; refused."}
    status = {"name": "main", "ready": False, "restartCount": 0, "image": "i", "imageID": ""}
    namespace.pod_status = [{"phase": "Failed", "containerStatuses": [{**status, "state": {"terminated": terminated}}]}]

    status, out = examine("--probe")

    assert status == 2
    assert re.search(
        r"^FAULT probe: .*; it failed \(Error learn2compress: minio://x must be writable; refused\.\)",
        out,
        re.MULTILINE,
    )
    assert not any("/pods/" in place for place in namespace.objects)


def test_probe_needs_kube(run, api):
    assert "--probe must go with --kube" in run("doctor", "--host", api.url, "--probe")[2]


def test_pods_own_probe_tries_the_store(store, capsys):
    from learn2compress.kubeflow.checks.store_probe import main

    assert main(["minio://bucket/runs"]) == 0
    store.refuse = {"PUT"}
    assert main(["minio://bucket/runs"]) == 2
    assert capsys.readouterr().err.startswith("learn2compress: minio://bucket/runs must be writable and readable;")


@pytest.mark.parametrize("tag", ["1.8.5", "2.4.0"])
def test_old_version_is_refused_or_told_what_it_lacks(run, api, store, tag):  # noqa: ARG001 - the store is up
    api.facts["version"] = tag

    _, out, _ = run("doctor", "--host", api.url, "--root", "s3://bucket/runs", "--image", "localhost:9/x:1")

    expected = (
        "FAULT endpoint: .* must be Kubeflow Pipelines 2.0" if tag == "1.8.5" else "ok    endpoint: .*keeps no logs"
    )
    assert re.search(f"^{expected}", out, re.MULTILINE), out
