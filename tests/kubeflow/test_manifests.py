# SPDX-License-Identifier: Apache-2.0
"""The manifests are valid Kubernetes, by the schemas of its releases, and fit one another and the compiler."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from learn2compress.kubeflow.compile import compile_pipeline
from learn2compress.schemas.config import load_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "kubeflow" / "manifests"
DOCUMENTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


@pytest.mark.parametrize("version", ["1.27", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_manifest_is_valid(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_validator_refuses_a_wrong_field():
    document = yaml.safe_load((FOLDER / "volume-claim.yaml").read_text())
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


def test_compiled_pipeline_takes_the_keys_that_the_secret_has():
    secret = yaml.safe_load((FOLDER / "secret.yaml").read_text())
    config = load_config(
        ROOT / "examples" / "digits" / "config.yaml", [f"kubeflow.secret={secret['metadata']['name']}"]
    )
    platform = list(yaml.safe_load_all(compile_pipeline(config, "registry.example/steps:1")))[1]
    [step] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["Pruner_executor"]["secretAsEnv"]

    assert step["secretName"] == secret["metadata"]["name"]
    assert {one["secretKey"] for one in step["keyToEnv"]} == set(secret["stringData"])
