# SPDX-License-Identifier: Apache-2.0
"""What a configuration compiles to: the committed pipeline, and in it only what a changed field should change."""

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from support.latency import PER_MAC

from learn2compress.evaluation.latency.table import model_text
from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.kubeflow.spec.lint import find_faults
from learn2compress.schemas.config import load_config
from learn2compress.schemas.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "examples" / "digits" / "config.yaml"
GOLDEN = Path(__file__).parent.parent / "golden" / "digits.yaml"
IMAGE = "registry.example/learn2compress:0.1.0"


@cache
def compiled(*settings):
    """The documents, to be read alone."""
    return list(yaml.load_all(compile_pipeline(load_config(CONFIG, settings), IMAGE), yaml.CSafeLoader))


def differences(one, other, place=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{place}.{key}" if place else key)
    elif one != other:
        yield place


def changed(*settings):
    return list(differences(compiled()[0], compiled(*settings)[0]))


def test_digits_compile_to_the_committed_file():
    # After a wanted change: learn2compress compile examples/digits/config.yaml --image IMAGE -o THIS FILE
    assert compile_pipeline(load_config(CONFIG), IMAGE) == GOLDEN.read_text()


def test_pipeline_loads_with_kfp():
    from kfp import components

    loaded = components.load_component_from_file(str(GOLDEN))

    parameters = yaml.load(GOLDEN.read_text(), yaml.CSafeLoader)["root"]["inputDefinitions"]["parameters"]
    assert set(loaded.component_spec.inputs) == set(parameters)


def test_epochs_change_their_default_alone():
    assert changed("distill.epochs=3") == ["root.inputDefinitions.parameters.distill_epochs.defaultValue"]


def test_limit_that_was_not_set_changes_its_default_alone():
    assert changed("select.max_macs=2M") == ["root.inputDefinitions.parameters.select_max_macs.defaultValue"]


def test_field_that_is_no_run_parameter_changes_its_constant_alone():
    assert changed("quantize.calibration_images=17") == [
        "root.dag.tasks.Quantizer.inputs.parameters.quantize_calibration_images.runtimeValue.constant"
    ]


def test_resources_are_written_as_the_backend_reads_them():
    setting = "kubeflow.resources={Distiller: {cpu: 4, memory: 8Gi, memory_limit: 16G, gpu: 1}}"
    container = compiled(setting)[0]["deploymentSpec"]["executors"]["Distiller_executor"]["container"]

    assert container["resources"] == {
        "cpuRequest": 4.0,
        "cpuLimit": 4.0,
        "memoryRequest": 8.589934592,
        "memoryLimit": 16.0,
        "accelerator": {"type": "nvidia.com/gpu", "count": "1"},
    }
    assert changed(setting) == ["deploymentSpec.executors.Distiller_executor.container.resources"]


def test_a_module_travels_as_its_text_and_its_path_does_not(tmp_path):
    module = tmp_path / "mine.py"
    module.write_text("def make(input_shape, classes):\n    return {}\n")
    config = load_config(CONFIG)
    students = config.students.model_validate({"module": f"{module}:make"})
    text = compile_pipeline(config.model_copy(update={"students": students}), IMAGE)

    given = yaml.safe_load(text)["root"]["dag"]["tasks"]["Distiller"]["inputs"]["parameters"]
    values = {key: one["runtimeValue"]["constant"] for key, one in given.items() if "runtimeValue" in one}
    assert values["module_text"] == module.read_text()
    assert values["module_sha256"] == hashlib.sha256(module.read_bytes()).hexdigest()
    assert (values["module_name"], values["module_function"]) == ("mine.py", "make")
    assert "students_sizes" not in values
    assert str(tmp_path) not in text


def test_a_latency_model_travels_as_its_text_and_its_path_does_not(tmp_path):
    table = tmp_path / "phone.json"
    table.write_text(model_text(PER_MAC))
    students = {"sizes": {"a": {"latency_ms": 0.1}, "b": {"latency_ms": 0.4}}, "latency_table": str(table)}
    config = load_config(CONFIG)
    config = config.model_copy(update={"students": config.students.model_validate(students)})
    text = compile_pipeline(config, IMAGE)

    given = yaml.safe_load(text)["root"]["dag"]["tasks"]["Distiller"]["inputs"]["parameters"]
    assert given["latency_model"]["runtimeValue"]["constant"] == table.read_text()
    assert str(tmp_path) not in text


def test_limits_of_latency_need_the_table_of_a_device_on_a_cluster():
    config = load_config(CONFIG)
    students = config.students.model_validate({"sizes": {"a": {"latency_ms": 0.1}, "b": {"latency_ms": 0.4}}})
    with pytest.raises(
        ConfigError, match=r"students\.latency_table must name a file on a cluster .*bench --operations"
    ):
        compile_pipeline(config.model_copy(update={"students": students}), IMAGE)


def test_retries_and_caching_are_by_node():
    tasks = compiled("kubeflow.retries={default: 1, Pruner: 3}", "kubeflow.cache={Distiller: false}")[0]["root"]["dag"][
        "tasks"
    ]

    assert {name: task["retryPolicy"]["maxRetryCount"] for name, task in tasks.items()} == dict.fromkeys(tasks, 1) | {
        "Pruner": 3
    }
    cached = {name: task["cachingOptions"]["enableCache"] for name, task in tasks.items()}
    assert cached == dict.fromkeys(tasks, True) | {"Distiller": False, "StudentSelector": False}


def test_fan_out_gives_each_student_tasks_of_its_own():
    spec = compiled(
        "kubeflow.fan_out=true", "kubeflow.retries={Pruner: 2, Pruner-small: 3}", "kubeflow.cache={Quantizer: false}"
    )[0]
    tasks = spec["root"]["dag"]["tasks"]

    for student in ("small", "medium", "large"):
        pruner, quantizer = tasks[f"Pruner-{student}"], tasks[f"Quantizer-{student}"]
        assert pruner["inputs"]["parameters"]["student"]["runtimeValue"]["constant"] == student
        assert pruner["inputs"]["parameters"]["prune_epochs"] == {"componentInputParameter": "prune_epochs"}
        assert not [other for other in pruner["dependentTasks"] if other.startswith(("Pruner", "Quantizer"))]
        assert quantizer["inputs"]["artifacts"]["students"]["taskOutputArtifact"]["producerTask"] == f"Pruner-{student}"
        assert pruner["retryPolicy"]["maxRetryCount"] == (3 if student == "small" else 2)
        assert quantizer["cachingOptions"] == {"enableCache": False}
    given = [
        tasks[f"Quantizer-{student}"]["inputs"]["parameters"]["quantize_teacher_variants"]["runtimeValue"]["constant"]
        for student in ("small", "medium", "large")
    ]
    assert given == ["[float16, dynamic, int8]", "[]", "[]"]
    for task in ("TFLiteEvaluator", "StudentSelector"):
        assert tasks[task]["inputs"]["artifacts"]["models"]["taskOutputArtifact"]["producerTask"] == "StudentCollector"
    assert not {"Pruner", "Quantizer"} & set(tasks)
    assert list(find_faults([spec])) == []


def test_secret_and_volume_make_a_second_document():
    _, platform = compiled("kubeflow.secret=store", "kubeflow.volume={claim: data}", "kubeflow.teacher=/data/t.keras")
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    assert steps["Pruner_executor"]["pvcMount"] == [{"constant": "data", "mountPath": "/data"}]
    assert steps["Pruner_executor"]["secretAsEnv"][0]["secretName"] == "store"
    assert len(steps) == 10


def test_environment_reaches_every_container():
    executors = compiled("kubeflow.env={AWS_ENDPOINT_URL: 'http://store:9000'}")[0]["deploymentSpec"]["executors"]

    assert {str(e["container"]["env"]) for e in executors.values()} == {
        "[{'name': 'AWS_ENDPOINT_URL', 'value': 'http://store:9000'}]"
    }


FLINK = ("kubeflow.runner=flink", "kubeflow.flink.job_server_jar=s3://bucket/server.jar")


def test_engine_reaches_the_beam_steps_in_their_environment_alone():
    executors = compiled(*FLINK, "kubeflow.flink.parallelism=4")[0]["deploymentSpec"]["executors"]
    engines = {
        label.removesuffix("_executor"): json.loads(one["value"])
        for label, executor in executors.items()
        for one in executor["container"].get("env", [])
    }

    assert set(engines) == {"Distiller", "ImageExampleGen", "TeacherImporter", "TFLiteEvaluator"}
    assert engines["ImageExampleGen"] == {
        "runner": "flink",
        "flink": {
            "master": "learn2compress-flink:8081",
            "job_server_jar": "s3://bucket/server.jar",
            "parallelism": 4,
            "environment": "EXTERNAL",
            "environment_config": "localhost:50000",
        },
    }
    # The arguments are part of the backend's cache key, and stay.
    assert {place.rpartition(".")[2] for place in changed(*FLINK)} == {"env"}


def test_engine_of_this_machine_is_not_that_of_the_cluster():
    assert changed("pipeline.runner=prism", "pipeline.exchange=s3://bucket/x") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["kubeflow.runner=flink"], r"kubeflow\.flink\.job_server_jar must be an s3://.*; got None"),
        (["kubeflow.runner=flink", "kubeflow.flink.job_server_jar=jar"], r"job_server_jar must be .*; got jar\."),
        ([*FLINK, "kubeflow.flink.environment=LOOPBACK"], r"flink\.environment must be EXTERNAL.* got LOOPBACK"),
        (["kubeflow.runner=dataflow"], r"pipeline\.dataflow must have project, region"),
    ],
)
def test_engine_that_no_step_could_use_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        compiled(*settings)


def test_location_of_this_machine_has_no_default_and_an_address_has():
    local = compiled()[0]["root"]["inputDefinitions"]["parameters"]
    remote = compiled("kubeflow.teacher=s3://bucket/t.keras", "teacher.path=/none")[0]["root"]["inputDefinitions"][
        "parameters"
    ]

    assert "defaultValue" not in local["teacher_path"]
    assert "defaultValue" not in local["teacher_sha256"]
    assert remote["teacher_path"]["defaultValue"] == "s3://bucket/t.keras"
    assert "defaultValue" not in remote["teacher_sha256"]


def test_digest_has_a_default_where_a_copy_is_here(tmp_path):
    (tmp_path / "t.keras").write_bytes(b"a model")
    parameters = compiled(f"teacher.path={tmp_path}/t.keras", "kubeflow.teacher=s3://bucket/t.keras")[0]["root"][
        "inputDefinitions"
    ]["parameters"]

    assert parameters["teacher_sha256"]["defaultValue"].startswith("97ff8a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["kubeflow.teacher=t.keras"], r"kubeflow\.teacher must be an s3://.* got t\.keras"),
        (["kubeflow.retries={Pruners: 1}"], r"kubeflow\.retries must name nodes of the pipeline; got 'Pruners'"),
        (["distill.init=out"], r"distill\.init must be an address or lie on kubeflow\.volume for a cluster; got out"),
        (["distill.strategy=multi_worker"], r"distill\.strategy must be none or mirrored .* got multi_worker"),
        (["pipeline.push_to=/srv"], r"pipeline\.push_to must be an address or lie on kubeflow\.volume"),
        (["evaluate.device_results=phone.json"], r"evaluate\.device_results must be an address or lie on"),
    ],
)
def test_what_no_step_could_do_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        compiled(*settings)


def test_image_must_be_given():
    with pytest.raises(ConfigError, match="an image must be given"):
        compile_pipeline(load_config(CONFIG))
