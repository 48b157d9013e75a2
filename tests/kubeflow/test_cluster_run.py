# SPDX-License-Identifier: Apache-2.0
"""The compiled digits pipeline on the emulated backend, against the same run on this machine."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support import forked
from support.servers import api_server, s3_server

from learn2compress.schemas.config import load_config
from learn2compress.schemas.reports import Evaluation

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
SETTINGS = [
    "students.sizes={small: , large: }",
    "distill.epochs=25",
    "prune.epochs=2",
    "quantize.epochs=1",
    "teacher.views=2",
    "evaluate.latency_runs=5",
    "select.max_size=null",
    "select.max_accuracy_drop=null",
]
LIMIT = 200


def run_step(command: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a step's command: that of the Distiller in a new process, as a pod does, the others forked from one."""
    if command[command.index("--node") + 1] == "Distiller":
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    return forked.run_step(command, folder, env)


@dataclass(frozen=True)
class Runs:
    """Attributes:
    store: Folder of the object store.
    made: Artifacts of the emulated run, by task.
    logs: Output of its steps.
    folder: Folder of the pipeline in the store.
    local: The output folder of the run on this machine.
    """

    store: Path
    made: dict
    logs: dict[str, str]
    folder: Path
    local: Path

    def path(self, node: str, output: str) -> Path:
        return self.store / self.made[node][output]["uri"].removeprefix("minio://")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    done = forked.run(str(DIGITS / "train_teacher.py"), ["--output", str(path), "--epochs", "15"])
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def backend(tmp_path_factory, teacher, load):
    """A backend with the teacher in its object store, and how to compile for it."""
    from learn2compress.kubeflow.spec.compile import compile_pipeline

    folder = tmp_path_factory.mktemp("cluster")
    (folder / "store" / "bucket").mkdir(parents=True)
    (folder / "store" / "bucket" / "teacher.keras").write_bytes(teacher.read_bytes())
    with s3_server.serving(folder / "store") as server:
        environment = json.dumps(server.environment)
        settings = [*SETTINGS, "kubeflow.teacher=minio://bucket/teacher.keras", f"kubeflow.env={environment}"]
        text = compile_pipeline(load_config(DIGITS / "config.yaml", settings), "registry.example/learn2compress:0.1.0")
        (folder / "pipeline.yaml").write_text(text)
        emulator = load("emulator").Emulator(folder / "store", folder / "pods", run_process=run_step)
        yield emulator, folder / "pipeline.yaml"


@pytest.fixture(scope="module")
def runs(backend, teacher, tmp_path_factory):
    from learn2compress.pipeline.local_run import collect_outputs, run_pipeline

    emulator, pipeline = backend
    made = emulator.run(pipeline, {"limit": LIMIT, "teacher_sha256": "the first"})
    local = tmp_path_factory.mktemp("local") / "out"
    config = load_config(DIGITS / "config.yaml", [*SETTINGS, f"teacher.path={teacher}"])
    collect_outputs(run_pipeline(config, local, LIMIT), local)
    return Runs(emulator.store, made, emulator.logs, emulator.store / "bucket" / "runs" / "learn2compress", local)


def read_evaluation(folder: Path) -> Evaluation:
    return Evaluation.model_validate_json((folder / "evaluation.json").read_text())


def local_record(runs: Runs, node: str) -> dict:
    [path] = (runs.local / "pipeline" / node / "provenance").glob("*.intoto.json")
    return json.loads(path.read_text())


def cluster_record(runs: Runs, node: str) -> dict:
    [path] = (runs.folder / "run-1" / node).glob("**/provenance/*.intoto.json")
    return json.loads(path.read_text())


def without_unset(value: object) -> object:
    """A parameter without unset fields, whose list depends on the version of a library."""
    return (
        {key: without_unset(part) for key, part in value.items() if part is not None}
        if isinstance(value, dict)
        else value
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_figures_equal_those_of_a_run_on_this_machine(runs):
    cluster = read_evaluation(runs.path("TFLiteEvaluator", "evaluation"))
    [folder] = (runs.local / "pipeline" / "TFLiteEvaluator" / "evaluation").iterdir()
    local = read_evaluation(folder)

    assert [c.name for c in cluster.candidates] == [c.name for c in local.candidates]
    assert max(c.figures["test"].top1 for c in local.candidates) > 0.3  # chance is 0.1
    for one, other in zip(cluster.candidates, local.candidates, strict=True):
        assert one.bytes == pytest.approx(other.bytes, rel=0.02)
        assert one.macs == other.macs
        for split in ("validation", "test"):
            assert one.figures[split].top1 == pytest.approx(other.figures[split].top1, abs=0.05)


@pytest.mark.e2e
@pytest.mark.slow
def test_records_differ_only_in_place_host_and_times(runs):
    for node in sorted(runs.made):
        here, there = local_record(runs, node), cluster_record(runs, node)
        mine, theirs = (one["predicate"]["buildDefinition"] for one in (here, there))
        assert theirs["externalParameters"].keys() == mine["externalParameters"].keys()
        for name, value in mine["externalParameters"].items():
            if name not in ("teacher_path",):
                other = theirs["externalParameters"][name]
                if name.endswith("_json"):
                    value, other = without_unset(json.loads(value)), without_unset(json.loads(other))
                assert other == value, (node, name)
        for name in ("node", "pipeline", "seed", "code"):
            assert theirs["internalParameters"].get(name) == mine["internalParameters"].get(name)
        assert subjects(there) == subjects(here), node
        assert (
            there["predicate"]["runDetails"]["builder"]["version"]
            == here["predicate"]["runDetails"]["builder"]["version"]
        )


def subjects(record: dict) -> list[tuple]:
    """The artifacts by name, type and the kinds of their properties."""
    return sorted(
        (
            one["name"],
            one["annotations"]["type"],
            sorted(
                (key, type(value).__name__)
                for key, value in one["annotations"]["properties"].items()
                if key != "is_external"  # a mark of the local launcher's
            ),
        )
        for one in record["subject"]
        if "output" in one.get("annotations", {})
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_chain_is_whole_from_the_chosen_file_to_the_data(runs):
    from learn2compress.lineage.graph import open_graph
    from learn2compress.lineage.queries.trace import lineage_of_file

    [chosen] = runs.path("StudentSelector", "model").rglob("*.tflite")
    report = lineage_of_file(open_graph(runs.folder), chosen)

    assert report.status == "whole", report


@pytest.mark.e2e
@pytest.mark.slow
def test_cluster_root_is_audited_like_a_local_one(runs, tmp_path):
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from learn2compress.lineage.graph import open_graph
    from learn2compress.lineage.mlmd.rebuild import rebuild_metadata
    from learn2compress.lineage.queries.verify import open_for_verifying, verify_place

    report = verify_place(*open_for_verifying(str(runs.folder)))
    assert (report.status, report.records) == ("whole", len(runs.made))
    rebuild_metadata(open_graph(runs.folder), tmp_path / "metadata.db")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "metadata.db")
    store = MetadataStore(config)
    assert len(store.get_executions()) == len(runs.made)
    assert {one.name.split(".")[-1] for one in store.get_contexts_by_type("node")} == set(runs.made)


@pytest.mark.e2e
@pytest.mark.slow
def test_metadata_of_the_cluster_agrees_with_the_records(runs, backend, load, tmp_path, monkeypatch):
    """Tests that records and Kubeflow's ML Metadata of a run agree, and that the latter alone is sufficient."""
    import s3fs

    from learn2compress.kubeflow.records.cluster_records import ClusterRecords
    from learn2compress.lineage.graph import open_graph
    from learn2compress.lineage.queries.trace import lineage_of_file
    from learn2compress.lineage.queries.verify import open_for_verifying, verify_place

    kfp, spec = load("kfp_metadata"), next(iter(yaml.load_all(backend[1].read_text(), yaml.CSafeLoader)))
    [chosen] = runs.path("StudentSelector", "model").rglob("*.tflite")
    with kfp.serving(tmp_path / "cluster.db") as (address, client):
        given = {"limit": LIMIT, "teacher_sha256": "the first"}
        kfp.record_emulated_run(client, spec, given, runs.made, "run-1")
        records = ClusterRecords(address)

    graph, place, inside = open_for_verifying(str(runs.folder))
    report = records.judge(verify_place(graph, place, inside), graph)
    assert (report.status, report.problems) == ("whole", [])
    with s3_server.serving(runs.store) as server:
        server.refuse = {"GET", "HEAD"}
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        traced = lineage_of_file(records.open_graph(), chosen)
    known = lineage_of_file(open_graph(runs.folder), chosen)
    assert [(step.node, step.parameters.keys()) for step in traced.chains[0].steps] == [
        (step.node, step.parameters.keys()) for step in known.chains[0].steps
    ]


@pytest.mark.e2e
@pytest.mark.slow
def test_fetched_run_is_like_a_local_one(runs, tmp_path, monkeypatch):
    import s3fs

    from learn2compress.cli.main import main
    from learn2compress.lineage.graph import open_graph
    from learn2compress.lineage.queries.trace import lineage_of_file
    from learn2compress.schemas.reports import Report

    with s3_server.serving(runs.store) as server, api_server.serving() as api:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        # The root is looked up at the endpoint.
        runtime = {"pipeline_root": "minio://bucket/runs"}
        api.runs["run-1"] = {
            "run_id": "run-1", "display_name": "digits", "state": "SUCCEEDED", "done": 0, "nodes": [],
            "runtime_config": runtime,
        }  # fmt: skip
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["fetch", "run-1", "--host", api.url, "--output", str(tmp_path / "out")])

    selected = tmp_path / "out" / "selected.tflite"
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert {path.name for path in (tmp_path / "out" / "models").iterdir()} == {
        path.name for path in (runs.local / "models").iterdir()
    }
    assert report.config["distill"]["epochs"] == 25
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert not list((tmp_path / "out" / "pipeline").glob("ImageExampleGen/**/*.gz"))
    assert lineage_of_file(open_graph(tmp_path / "out"), selected).status == "whole"


@pytest.mark.e2e
@pytest.mark.slow
def test_run_from_the_cache_is_fetched_with_what_an_earlier_one_made(runs, backend, tmp_path, monkeypatch):
    import s3fs

    from learn2compress.kubeflow.fetch import fetch_run
    from learn2compress.lineage.graph import open_graph
    from learn2compress.lineage.queries.trace import lineage_of_file

    emulator, pipeline = backend
    cached = {node: made for node, made in runs.made.items() if node != "StudentSelector"}
    given = {"limit": LIMIT, "teacher_sha256": "the first"}
    emulator.run(pipeline, given, "run-3", cached=cached)
    with s3_server.serving(runs.store) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        _, selected = fetch_run("minio://bucket/runs", "run-3", tmp_path / "out")

    for place in (tmp_path / "out", runs.folder):
        assert lineage_of_file(open_graph(place), selected).status == "whole", place


@pytest.mark.e2e
@pytest.mark.slow
def test_step_that_fails_says_why_in_its_last_line(backend, load):
    emulator, pipeline = backend
    wrong = {"limit": LIMIT, "teacher_sha256": "x", "data_digest": "0" * 64}

    with pytest.raises(load("emulator").StepFailedError, match="ImageExampleGen ended with 2") as failed:
        emulator.run(pipeline, wrong, "run-2")

    assert (
        failed.value.log.strip()
        .splitlines()[-1]
        .startswith("learn2compress: ImageExampleGen: digits must have the digest 0000000000000000…")
    )
