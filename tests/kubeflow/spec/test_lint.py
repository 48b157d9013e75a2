# SPDX-License-Identifier: Apache-2.0
"""Each fault that the backend would refuse is found in an otherwise good pipeline."""

import copy
from pathlib import Path

import pytest
import yaml

from learn2compress.kubeflow.spec.lint import check_spec, find_faults, lint_file
from learn2compress.schemas.errors import ClusterError

GOLDEN = Path(__file__).parent.parent / "golden" / "digits.yaml"


@pytest.fixture(scope="module")
def good():
    return list(yaml.load_all(GOLDEN.read_text(), yaml.CSafeLoader))


def faults_after(good, change, platform=None):
    documents = copy.deepcopy(good) + ([platform] if platform else [])
    change(documents[0])
    return list(find_faults(documents))


def test_golden_pipeline_has_no_fault(good):
    assert list(find_faults(good)) == []


def tasks(spec):
    return spec["root"]["dag"]["tasks"]


def set_parameter(spec, value):
    tasks(spec)["ImageExampleGen"]["inputs"]["parameters"]["data_format"]["runtimeValue"]["constant"] = value


CHANGES = {
    "schemaVersion must be 2.1.0; got '2.0.0'": lambda spec: spec.update(schemaVersion="2.0.0"),
    "must have pipelineInfo": lambda spec: spec.pop("components"),
    "Task Pruner must refer to a component; 'Other' is none": lambda spec: tasks(spec)["Pruner"].update(
        componentRef={"name": "Other"}
    ),
    "Task Pruner must depend on tasks of the pipeline; 'Other' is none": lambda spec: tasks(spec)["Pruner"][
        "dependentTasks"
    ].append("Other"),
    "Task Pruner must depend on Distiller, whose output": lambda spec: tasks(spec)["Pruner"]["dependentTasks"].remove(
        "Distiller"
    ),
    "must come from a task of the pipeline; 'Distiller' is none": lambda spec: tasks(spec).pop("Distiller"),
    "Task Distiller has no output 'wrong'": lambda spec: tasks(spec)["Pruner"]["inputs"]["artifacts"]["students"][
        "taskOutputArtifact"
    ].update(outputArtifactKey="wrong"),
    "Task Pruner must give artifact 'students'": lambda spec: tasks(spec)["Pruner"]["inputs"]["artifacts"].pop(
        "students"
    ),
    "must have no condition": lambda spec: tasks(spec)["Pruner"].update(triggerPolicy={"condition": "1 == 1"}),
    "must not come from another task's output": lambda spec: tasks(spec)["Pruner"]["inputs"]["parameters"].update(
        seed={"taskOutputParameter": {"producerTask": "Distiller", "outputParameterKey": "seed"}}
    ),
    "it has no 'epochs'": lambda spec: tasks(spec)["Pruner"]["inputs"]["parameters"].update(
        seed={"componentInputParameter": "epochs"}
    ),
    "depend on one another in a circle": lambda spec: tasks(spec)["ImageExampleGen"].update(dependentTasks=["Pruner"]),
    "Component Pruner must have an executor": lambda spec: spec["components"]["Pruner"].update(executorLabel="x"),
    "Parameter seed of component Pruner must have one of the types": lambda spec: spec["components"]["Pruner"][
        "inputDefinitions"
    ]["parameters"].update(seed={"type": "INT"}),
    "cannot import|has no attribute|No module": lambda spec: spec["components"]["Pruner"]["inputDefinitions"][
        "artifacts"
    ]["students"]["artifactType"].update(schemaTitle="learn2compress.Pupils"),
    "must be a container or an importer; got resolver": lambda spec: spec["deploymentSpec"]["executors"].update(
        Pruner_executor={"resolver": {}}
    ),
    "must have an image": lambda spec: spec["deploymentSpec"]["executors"]["Pruner_executor"]["container"].pop("image"),
    "must have a command": lambda spec: spec["deploymentSpec"]["executors"]["Pruner_executor"]["container"].pop(
        "command"
    ),
    "No path of a single machine .* is '/home/me/t.npz'": lambda spec: set_parameter(spec, "/home/me/t.npz"),
    "No path of a single machine .* is '--temp=~/x'": lambda spec: set_parameter(spec, "--temp=~/x"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_fault_is_found(good, message):
    documents = copy.deepcopy(good)
    CHANGES[message](documents[0])

    with pytest.raises(ClusterError, match=message):
        check_spec(documents)


def test_path_on_the_mounted_volume_is_no_fault(good):
    mount = {"pvcMount": [{"constant": "data", "mountPath": "/data"}]}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"Pruner_executor": mount}}}}}

    assert faults_after(good, lambda spec: set_parameter(spec, "/data/t.npz"), platform) == []
    assert len(faults_after(good, lambda spec: set_parameter(spec, "/database/t.npz"), platform)) == 1


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ClusterError, match=r"none\.yaml must be a readable file"):
        lint_file(tmp_path / "none.yaml")


def test_file_that_is_no_yaml_is_named(tmp_path):
    (tmp_path / "p.yaml").write_text("a: [")

    with pytest.raises(ClusterError, match=r"p\.yaml must be YAML"):
        lint_file(tmp_path / "p.yaml")


def test_file_of_something_else_is_a_fault(tmp_path):
    (tmp_path / "p.yaml").write_text("- 1\n")

    assert "one or two YAML mappings" in lint_file(tmp_path / "p.yaml")[0]
