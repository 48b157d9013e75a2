# SPDX-License-Identifier: Apache-2.0
"""The manifests are valid Kubernetes, by the schemas of its releases, and fit one another and the compiler."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from learn2compress.kubeflow.checks.namespace import RIGHTS
from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.schemas.config import load_config
from learn2compress.schemas.config.runners import ClusterFlinkConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "kubeflow" / "manifests"
RELEASES = ["1.27", kubernetes_validate.latest_version()]
DOCUMENTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}")
    for path in sorted(FOLDER.rglob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_manifest_is_valid(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_validator_refuses_a_wrong_field():
    document = yaml.safe_load((FOLDER / "volume" / "volume-claim.yaml").read_text())
    document["spec"]["accessMode"] = "ReadWriteMany"

    with pytest.raises(kubernetes_validate.ValidationError, match="accessMode"):
        kubernetes_validate.validate(document, "1.27", strict=True)


def test_bindings_name_roles_and_accounts_that_are_there():
    documents = [one.values[0] for one in DOCUMENTS]
    there = {(one["kind"], one["metadata"]["name"]) for one in documents}
    bindings = [one for one in documents if one["kind"] == "RoleBinding"]

    assert bindings
    for binding in bindings:
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in there
        assert {(one["kind"], one["name"]) for one in binding["subjects"]} <= there


def test_role_allows_what_doctor_looks_for():
    [role] = [one.values[0] for one in DOCUMENTS if one.values[0]["kind"] == "Role"][:1]

    assert role["metadata"]["name"] == "learn2compress"
    for group, resource, name, verb in RIGHTS:
        assert any(
            group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            and name in rule.get("resourceNames", [name])
            for rule in role["rules"]
        ), (resource, verb)


def build(folder: Path) -> list[dict]:
    """Builds the objects that `kubectl apply -k` would apply."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    if not shutil.which(command[0]):
        pytest.skip("needs kustomize or kubectl")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture
def overlay(tmp_path):
    """The overlay as a user copies and changes it: another namespace, keys, a volume, a pull secret."""
    shutil.copytree(FOLDER, tmp_path / "manifests")
    folder = tmp_path / "manifests" / "team"
    (tmp_path / "manifests" / "overlay").rename(folder)
    text = (folder / "kustomization.yaml").read_text().replace("namespace: kubeflow", "namespace: team")
    (folder / "kustomization.yaml").write_text(
        re.sub(r"^# ((components|images|patches|  ).*)$", r"\1", text, flags=re.MULTILINE)
    )
    (folder / "store.env").write_text("AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\n")
    return folder


@pytest.mark.parametrize("version", RELEASES)
def test_overlay_as_it_is_gives_valid_objects(version):
    documents = build(FOLDER / "overlay")

    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    assert {one["metadata"]["namespace"] for one in documents} == {"kubeflow"}


def test_changed_overlay_has_all_in_its_namespace(overlay):
    documents = build(overlay)

    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert {one["metadata"]["namespace"] for one in documents} == {"team"}
    for binding in (one for one in documents if one["kind"] == "RoleBinding"):
        assert {one["namespace"] for one in binding["subjects"]} == {"team"}
    assert found["ServiceAccount", "learn2compress"]["imagePullSecrets"] == [{"name": "learn2compress-pull"}]
    assert ("PersistentVolumeClaim", "learn2compress-data") in found
    for document in documents:
        kubernetes_validate.validate(document, RELEASES[-1], strict=True)


def test_flink_is_found_where_the_default_settings_look_for_it(overlay):
    found = {(one["kind"], one["metadata"]["name"]): one for one in build(overlay)}
    host, _, port = ClusterFlinkConfig().master.partition(":")
    ports = [one["port"] for one in found["Service", host]["spec"]["ports"]]
    pods = found["Deployment", "learn2compress-flink-taskmanager"]["spec"]["template"]["spec"]["containers"]
    workers = next(one for one in pods if one["name"] == "workers")

    assert int(port) in ports
    assert workers["image"] == "registry.example/learn2compress:1"
    assert workers["command"][-1].rpartition("=")[2] == ClusterFlinkConfig().environment_config.rpartition(":")[2]
    selector = found["Service", host]["spec"]["selector"]
    assert found["Deployment", "learn2compress-flink-jobmanager"]["spec"]["template"]["metadata"]["labels"] == selector
    reached = [one["ports"][0]["port"] for one in found["NetworkPolicy", "learn2compress-flink-taskmanager"]["spec"][
        "ingress"
    ]]  # fmt: skip
    assert 50000 not in reached


def test_compiled_pipeline_takes_the_keys_that_the_secret_has():
    overlay = yaml.safe_load((FOLDER / "overlay" / "kustomization.yaml").read_text())
    [secret] = overlay["secretGenerator"]
    keys = {line.partition("=")[0] for line in (FOLDER / "overlay" / "store.env").read_text().splitlines()}
    config = load_config(ROOT / "examples" / "digits" / "config.yaml", [f"kubeflow.secret={secret['name']}"])
    platform = list(yaml.safe_load_all(compile_pipeline(config, "registry.example/steps:1")))[1]
    [step] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["Pruner_executor"]["secretAsEnv"]

    assert step["secretName"] == secret["name"]
    assert {one["secretKey"] for one in step["keyToEnv"]} == keys
