# SPDX-License-Identifier: Apache-2.0
"""A small job on the emulation of each recorded version, against the same job on this machine; and with fan_out."""

import hashlib
import json
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml
from support import forked
from support.digits_job import FEW_LAYERS, write_job
from support.servers import api_server, kubeflow_facts, s3_server

from learn2compress.kubeflow.spec.compile import compile_pipeline
from learn2compress.schemas.config import load_config
from learn2compress.schemas.reports import Evaluation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VERSIONS = kubeflow_facts.VERSIONS
LIMIT = 150
SETTINGS = [
    FEW_LAYERS, "distill.epochs=3", "prune.epochs=1", "quantize.epochs=0", "quantize.variants=[int8]",
    "quantize.teacher_variants=[]", "evaluate.latency_runs=2", "select.max_size=null",
]  # fmt: skip
PLACES = ["kubeflow.teacher=minio://bucket/teacher.keras", "kubeflow.data=minio://bucket/digits.npz"]
GIVEN = {"teacher_sha256": "the first", "data_digest": "the first", "limit": LIMIT}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The job's configuration, and an object store with its teacher and data."""
    folder = tmp_path_factory.mktemp("versions")
    config = write_job(folder / "job")
    bucket = folder / "store" / "bucket"
    bucket.mkdir(parents=True)
    for name in ("teacher.keras", "digits.npz"):
        (bucket / name).write_bytes((config.parent / name).read_bytes())
    with s3_server.serving(folder / "store") as server:
        yield config, server


def backend(load, job, folder, version="2.17", *more):
    """A backend of a version, and the pipeline for it."""
    config, server = job
    settings = [*SETTINGS, *PLACES, f"kubeflow.env={json.dumps(server.environment)}", *more]
    pipeline = folder / "pipeline.yaml"
    folder.mkdir(exist_ok=True)
    pipeline.write_text(compile_pipeline(load_config(config, settings), "registry.example/steps:1"))
    emulator = load("emulator").Emulator(
        server.root, folder / "pods", f"minio://bucket/{folder.name}", salted=version != "2.4",
        run_process=forked.run_step, version=version, default_root="minio://bucket",
    )  # fmt: skip
    return emulator, pipeline


@pytest.fixture(scope="module")
def cluster(load, job, tmp_path_factory):
    """By version, the backend, the pipeline and what a run made.

    Steps run once for all versions whose driver passes the same to them.
    """
    drivers = {version: kubeflow_facts.load_facts(version)["driver"] for version in VERSIONS}

    @cache
    def run(version):
        first = next(one for one in VERSIONS if drivers[one] == drivers[version])
        if first != version:
            emulator, pipeline, made = run(first)
            emulator = replace(emulator, version=version)
            return emulator, pipeline, emulator.run(pipeline, GIVEN, cached=made)
        emulator, pipeline = backend(load, job, tmp_path_factory.mktemp(f"kfp{version.replace('.', '-')}-"), version)
        return emulator, pipeline, emulator.run(pipeline, GIVEN)

    return run


@pytest.fixture(scope="module")
def local(job, tmp_path_factory):
    """The output folder of the run on this machine."""
    output = tmp_path_factory.mktemp("local") / "out"
    options = [f"--limit={LIMIT}", "--allow-near-chance", *(f"--set={setting}" for setting in SETTINGS)]
    done = forked.run(forked.CLI, ["run", str(job[0]), "--output", str(output), *options], job[0].parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture
def places(job, monkeypatch):
    """The object store for this process."""
    import s3fs

    for name, value in job[1].environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def cached_artifacts(made: dict, pipeline: Path, other: Path) -> dict:
    """What the backend's cache has for a pipeline of another one's run: artifacts of tasks that are equal in both.

    Args:
        made: Artifacts by task, in the order in which the tasks of `pipeline` ran.
    """
    one, two = (next(iter(yaml.load_all(path.read_text(), yaml.CSafeLoader))) for path in (pipeline, other))
    found: dict = {}
    for name, artifacts in made.items():
        task = describe_task(one, name)
        if task == describe_task(two, name) and task["producers"] <= set(found):
            found[name] = artifacts
    return found


def describe_task(spec: dict, name: str) -> dict | None:
    """What the cache's key of a task is made of, and the tasks whose artifacts it takes."""
    task = spec["root"]["dag"]["tasks"].get(name)
    if task is None:
        return None
    component = spec["components"][task["componentRef"]["name"]]
    inputs = task.get("inputs", {})
    given = {one["componentInputParameter"] for one in inputs["parameters"].values() if "runtimeValue" not in one}
    return {
        "inputs": inputs,
        "parameters": {one: spec["root"]["inputDefinitions"]["parameters"][one] for one in given},
        "producers": {one["taskOutputArtifact"]["producerTask"] for one in inputs.get("artifacts", {}).values()},
        "outputs": component["outputDefinitions"],
        "executor": spec["deploymentSpec"]["executors"][component["executorLabel"]],
    }


def folder_of(emulator, made, node, output) -> Path:
    return emulator.store / made[node][output]["uri"].removeprefix("minio://")


def figures(folder: Path) -> dict:
    evaluation = Evaluation.model_validate_json((folder / "evaluation.json").read_text())
    return {
        one.name: (one.bytes, one.sha256, {split: found.top1 for split, found in one.figures.items()})
        for one in evaluation.candidates
    }


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tflite"))}


@pytest.mark.parametrize("version", VERSIONS)
def test_figures_are_those_of_the_run_on_this_machine(cluster, local, version):
    emulator, _, made = cluster(version)

    [folder] = (local / "pipeline" / "TFLiteEvaluator" / "evaluation").iterdir()
    assert figures(folder_of(emulator, made, "TFLiteEvaluator", "evaluation")) == figures(folder)


def comparable(parameters):
    """Parameters without places; options of statistics without null fields, of which each stack writes others."""
    kept = {key: value for key, value in parameters.items() if not key.endswith("_path")}
    if text := kept.get("stats_options_json"):
        kept["stats_options_json"] = {key: value for key, value in json.loads(text).items() if value is not None}
    return kept


@pytest.mark.parametrize("version", VERSIONS)
def test_records_differ_in_place_host_and_times_alone(cluster, local, version):
    emulator, _, made = cluster(version)
    run = emulator.store / f"{emulator.root.removeprefix('minio://')}/tiny/run-1"

    for node in made:
        [here] = (local / "pipeline" / node / "provenance").glob("*.intoto.json")
        [there] = (run / node).glob("**/provenance/*.intoto.json")
        mine, theirs = (json.loads(path.read_text())["predicate"]["buildDefinition"] for path in (here, there))
        ours = comparable(mine["externalParameters"])
        assert {key: comparable(theirs["externalParameters"]).get(key) for key in ours} == ours, node
        for name in ("node", "pipeline", "seed", "code"):
            assert theirs["internalParameters"].get(name) == mine["internalParameters"].get(name)


@pytest.mark.parametrize("version", VERSIONS)
def test_verify_finds_all_known_and_whole(cluster, places, version):  # noqa: ARG001 - the store is up
    from learn2compress.lineage.queries.verify import open_for_verifying, verify_place

    emulator, _, made = cluster(version)
    report = verify_place(*open_for_verifying(f"{emulator.root}/tiny"))

    assert (report.status, report.problems, report.unrecorded) == ("whole", [], [])
    assert report.records == len(made)
    run = emulator.store / f"{emulator.root.removeprefix('minio://')}/tiny/run-1"
    logs = list(run.glob("**/executor-logs*"))
    assert len(logs) == (0 if version == "2.4" else len(made))


@pytest.mark.parametrize("version", ["2.4", "2.17"])
def test_verify_with_ml_metadata_is_whole_until_something_is_changed(cluster, places, load, tmp_path, version):  # noqa: ARG001
    from learn2compress.kubeflow.records.cluster_records import ClusterRecords
    from learn2compress.lineage.queries.verify import open_for_verifying, verify_place

    emulator, pipeline, made = cluster(version)
    spec = next(iter(yaml.safe_load_all(pipeline.read_text())))
    kfp = load("kfp_metadata")
    with kfp.serving(tmp_path / "cluster.db") as (address, client):
        kfp.record_emulated_run(client, spec, GIVEN, made, "run-1", emulator.root)

        def judge():
            records = ClusterRecords(address)
            graph, place, inside = open_for_verifying(f"{emulator.root}/tiny")
            return records.judge(verify_place(graph, place, inside), graph)

        report = judge()
        assert (report.status, report.problems) == ("whole", [])
        [blessing] = client.get_artifacts_by_type("tfx.ModelBlessing")
        number = blessing.custom_properties["current_model_id"].string_value
        if version == "2.17":
            assert int(number) > 2**53
            blessing.custom_properties["current_model_id"].string_value = str(int(number) + 1)
            client.put_artifacts([blessing])
            assert "other figures of StudentSelector" in judge().problems[0].reason


@pytest.mark.parametrize("version", VERSIONS)
def test_step_that_fails_is_told_in_one_line_with_its_log(cluster, places, load, type_in, version):  # noqa: ARG001
    emulator, pipeline, _ = cluster(version)
    run = f"run-of-{version}"
    with pytest.raises(load("emulator").StepFailedError, match="ImageExampleGen ended with 2"):
        emulator.run(pipeline, {**GIVEN, "data_digest": "0" * 64}, run)

    with api_server.serving(version=version) as api:
        api.fail_node = ("ImageExampleGen", "executor failed: exit status 2")
        api.runs[run] = {
            "run_id": run, "display_name": "tiny", "state": "PENDING", "state_history": [], "done": 1,
            "nodes": ["ImageExampleGen", "StatisticsGen"], "pipeline": "tiny",
            "runtime_config": {"pipeline_root": emulator.root},
        }  # fmt: skip
        status, _, err = type_in("status", run, "--host", api.url)
        assert (status, len(err.splitlines())) == (3, 1)
        assert f"run {run} must succeed; ImageExampleGen failed: " in err
        if version == "2.4":  # which publishes no log
            assert f"Its log: kubectl logs -n kubeflow -l pipeline/runid={run} -c main" in err
            return
        assert "ImageExampleGen failed: learn2compress: ImageExampleGen: " in err
        assert "must have the digest 0000000000000000…" in err
        assert f"Its log: {emulator.root}/tiny/{run}/ImageExampleGen/" in err
        status, out, _ = type_in("status", run, "--host", api.url, "--log", "ImageExampleGen")
        assert status == 0
        assert out.splitlines()[-1].startswith("learn2compress: ImageExampleGen: ")


def killed(command, folder, env):  # noqa: ARG001
    """What is left of a step that ran out of memory."""
    return subprocess.CompletedProcess(command, 137, "ImageExampleGen 3/25: written\n", "")


MAIN = {"name": "main", "ready": False, "restartCount": 0, "image": "i", "imageID": ""}
OUT_OF_MEMORY = {
    "phase": "Failed",
    "containerStatuses": [{**MAIN, "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}],
}
NO_IMAGE = {
    "phase": "Pending",
    "containerStatuses": [{**MAIN, "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}}],
}


@pytest.mark.parametrize("version", ["2.17", "without-mlmd"])
@pytest.mark.parametrize(
    ("pod", "is_started", "without", "line"),
    [
        (OUT_OF_MEMORY, True, "its log ends with 'ImageExampleGen 3/25: written'", "it ran out of memory (OOMKilled"),
        (
            NO_IMAGE,
            False,
            "it left no log",
            "its image cannot be pulled (ErrImagePull: manifest unknown). Push the image",
        ),
    ],
    ids=["memory", "image"],
)
@pytest.mark.usefixtures("places")
def test_step_that_cannot_say_why_is_explained(
    load, job, kube, type_in, tmp_path, version, pod, is_started, without, line
):
    emulator, pipeline = backend(load, job, tmp_path / f"killed-{version[:4]}-{is_started}", version)
    if is_started:
        with pytest.raises(load("emulator").StepFailedError):
            replace(emulator, run_process=killed).run(pipeline, GIVEN, "run-3")
    kube.put_pod("ImageExampleGen", "run-3", **pod)
    with api_server.serving(version=version) as api:
        api.fail_node = ("ImageExampleGen", "")
        api.runs["run-3"] = {
            "run_id": "run-3", "display_name": "tiny", "state": "PENDING", "done": 1,
            "nodes": ["ImageExampleGen", "SchemaGen"], "pipeline": "tiny",
            "runtime_config": {"pipeline_root": emulator.root},
        }  # fmt: skip
        for more, expected in (((), without), (("--kube",), line)):
            status, _, err = type_in("status", "run-3", "--host", api.url, *more)
            assert (status, len(err.splitlines())) == (3, 1)
            assert f"ImageExampleGen failed: {expected}" in err
            assert "Its log: " in err


def test_root_elsewhere_is_refused_where_there_is_no_ml_metadata(load, job, tmp_path):
    emulator, pipeline = backend(load, job, tmp_path / "elsewhere", "without-mlmd")

    with pytest.raises(load("emulator").RefusedError, match="is not at or below minio://other"):
        replace(emulator, default_root="minio://other").run(pipeline, GIVEN)


def test_data_on_a_volume_is_read_where_it_is_mounted(load, job, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits.npz").write_bytes((job[0].parent / "digits.npz").read_bytes())
    volume = f"kubeflow.volume={{claim: images, mount: {tmp_path / 'data'}}}"
    data = f"kubeflow.data={tmp_path / 'data' / 'digits.npz'}"
    emulator, pipeline = backend(load, job, tmp_path / "volume", "2.17", volume, data)

    made = emulator.run(pipeline, GIVEN, only=1)

    platform = list(yaml.safe_load_all(pipeline.read_text()))[1]
    mounts = [one["pvcMount"] for one in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()]
    assert mounts[0] == [{"constant": "images", "mountPath": str(tmp_path / "data")}]
    assert made["ImageExampleGen"]["examples"]["metadata"]["images"] > LIMIT


def test_fan_out_gives_the_files_that_each_student_alone_gives(cluster, load, job, tmp_path):
    emulator, pipeline = backend(load, job, tmp_path / "fan-out", "2.17", "kubeflow.fan_out=true")
    _, without, earlier = cluster("2.17")
    cached = cached_artifacts(earlier, without, pipeline)
    assert set(cached) == {
        "ImageExampleGen",
        "StatisticsGen",
        "SchemaGen",
        "ExampleValidator",
        "TeacherImporter",
        "Distiller",
    }
    made = emulator.run(pipeline, GIVEN, cached=cached)

    together = digests(folder_of(emulator, made, "StudentCollector", "models"))
    alone: dict[str, str] = {}
    students = [node.removeprefix("Pruner-") for node in made if node.startswith("Pruner-")]
    for student in students:
        own = (f"Pruner-{student}", f"Quantizer-{student}")
        others = {node: artifacts for node, artifacts in made.items() if node not in own}
        again = replace(emulator, logs={}).run(pipeline, GIVEN, f"run-{student}", cached=others)
        assert again[own[1]] != made[own[1]]
        alone |= digests(folder_of(emulator, again, own[1], "models"))
    assert alone == together
    assert len(students) > 1
    assert set(together) == {f"{student}-int8.tflite" for student in students}
