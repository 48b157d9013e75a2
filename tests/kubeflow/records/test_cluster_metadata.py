# SPDX-License-Identifier: Apache-2.0
"""Lineage, verify and impact with a cluster's ML Metadata, over gRPC, beside and in place of the records."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.runs import synthetic
from support.servers import s3_server

from learn2compress.cli.main import main
from learn2compress.kubeflow.records.cluster_metadata import read_steps
from learn2compress.kubeflow.records.cluster_records import ClusterRecords, _same
from learn2compress.kubeflow.records.step_record import Place, write_step_record
from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.impact import impact_of
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import ConfigError, LineageError
from learn2compress.schemas.provenance import parse_statement

HOME = "minio://bucket/runs/learn2compress"
MODEL_ID = 4720130174268696484  # of more digits than a double has
NODES = ["Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen"]


@dataclass
class Artifact:
    """The part of a tfx artifact that a step's record uses."""

    uri: str
    type_name: str
    mlmd_artifact: object


def cluster_run(store: Path, launcher, **settings):
    """The nodes of a synthetic run as steps on a cluster: files and records in the store, the rest in ML Metadata."""

    class ClusterRun(synthetic.SyntheticRun):
        def node(self, name, inputs, outputs, parameters, properties=None):
            folder = f"{HOME}/{self.run}/{name}/a1b2"
            made, titles = {}, {}
            for key, (kind, files) in outputs.items():
                local = store / f"{folder}/{key}".removeprefix("minio://")
                for path, content in files.items():
                    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                    (local / path).parent.mkdir(parents=True, exist_ok=True)
                    (local / path).write_bytes(raw)
                artifact = mlmd.Artifact(uri=str(local))
                figures = dict((properties or {}).get(key, {}))
                if key == "models":
                    figures["models"] = ",".join(Path(path).stem for path in files if path.endswith(".tflite"))
                    for model in figures["models"].split(","):
                        figures[f"sha256_{model.replace('-', '_')}"] = file_sha256(local / f"{model}.tflite")
                        figures[f"bytes_{model.replace('-', '_')}"] = (local / f"{model}.tflite").stat().st_size
                if kind == "Model":
                    figures["chosen"] = settings.get("chosen", "large-int8")
                if key == "evaluation":
                    figures["share"] = 1 / 3
                    artifact.custom_properties["rates"].struct_value["test"] = 1.0
                    artifact.custom_properties["told"].struct_value["__value__"] = '{"a": 1}'
                for figure, value in figures.items():
                    field = {int: "int_value", float: "double_value", str: "string_value"}[type(value)]
                    setattr(artifact.custom_properties[figure], field, value)
                if key == "selection":
                    # As tfx numbers an artifact by the hash of its name.
                    artifact.custom_properties["current_model_id"].int_value = MODEL_ID
                    figures["current_model_id"] = MODEL_ID
                if key == "evaluation":
                    figures |= {"rates": {"test": 1.0}, "told": '{"a": 1}'}
                made[key] = (Artifact(str(local), kind, artifact), figures)
                titles[key] = kind if "." in kind else f"tfx.{kind}"
            read = {one.split(".")[1]: self.made_by[one] for one in inputs}
            added = write_step_record(
                Place.of(name, f"{folder}/provenance"),
                {key: {"uri": uri, "metadata": metadata} for key, (uri, metadata, _, _) in read.items()},
                {key: kind for key, (_, _, _, kind) in read.items()},
                {key: artifact for key, (artifact, _) in made.items()},
                parameters,
                1.0e9 + self.execution,
            )
            self.execution += 1
            # The run was given the compiled version, and any text for a digest.
            given = {**parameters, "code_version": "0.1.0", "limit": -1}
            given |= {key: "listing-7" for key in ("data_digest", "teacher_sha256") if key in given}
            described = {
                key: (titles[key], f"{folder}/{key}", {**figures, **added[key]}) for key, (_, figures) in made.items()
            }
            described["provenance"] = ("system.Artifact", f"{folder}/provenance", {})
            numbers = launcher.step(name, given, {key: one[2] for key, one in read.items()}, described)
            for key, (kind, _) in outputs.items():
                self.made_by[f"{name}.{key}"] = (*described[key][1:], numbers[key], kind)
            return name

    return ClusterRun(store, run=launcher.run, **settings)


@pytest.fixture
def cluster(tmp_path, monkeypatch, load):
    """A store with one run, and the ML Metadata that knows it.

    Gives the store's folder, the service's address, a client of it, and the run.
    """
    monkeypatch.setenv("LEARN2COMPRESS_LAUNCHER_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "minio" / "bucket").mkdir(parents=True)
    kfp = load("kfp_metadata")
    with kfp.serving(tmp_path / "cluster.db") as (address, client), s3_server.serving(tmp_path / "minio") as s3:
        import s3fs

        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        run = cluster_run(tmp_path / "minio", kfp.Launcher(client, "learn2compress", "run-1"))
        yield Cluster(tmp_path / "minio" / "bucket" / "runs" / "learn2compress", address, client, run, s3, kfp)
    s3fs.S3FileSystem.clear_instance_cache()


@dataclass
class Cluster:
    folder: Path
    address: str
    client: object
    run: object
    s3: object
    kfp: object

    def model(self, name: str = "large-int8", run: str = "run-1") -> Path:
        return self.folder / run / "Quantizer" / "a1b2" / "models" / f"{name}.tflite"

    def forget_records(self) -> None:
        for record in self.folder.glob("*/*/*/provenance"):
            shutil.rmtree(record)

    def change(self, node: str, change) -> None:
        """Changes an execution behind the records' back."""
        [execution] = [
            one for one in self.client.get_executions() if one.custom_properties["task_name"].string_value == node
        ]
        change(execution)
        self.client.put_executions([execution])


@pytest.fixture
def type_in(capsys: pytest.CaptureFixture[str]):
    """Runs a command; gives its exit status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return ended.value.code or 0, capsys.readouterr().out

    return run


def trace(cluster, **options):
    cluster_records = ClusterRecords(cluster.address)
    graph = cluster_records.open_graph(**options)
    return cluster_records.judge(lineage_of_file(graph, cluster.model()), graph)


def described(step) -> dict:
    """A step without what only its own machine knows."""
    shown = step.model_dump(exclude={"packages", "platform", "code", "started", "finished", "seconds"})
    shown["parameters"].pop("code_version", None)
    for one in shown["outputs"]:
        one.pop("files"), one.pop("bytes")
        # ML Metadata keeps six places.
        one["properties"] = {k: round(v, 6) if isinstance(v, float) else v for k, v in one["properties"].items()}
    return shown


def test_report_with_metadata_equals_that_of_the_records(cluster):
    plain = lineage_of_file(open_graph("s3://bucket/runs/learn2compress"), cluster.model())

    found = trace(cluster)

    assert plain.status == "whole"
    assert found == plain


def test_metadata_alone_tells_the_same_steps(cluster):
    plain = lineage_of_file(open_graph("s3://bucket/runs/learn2compress"), cluster.model())
    cluster.forget_records()

    found = trace(cluster)

    [chain], [expected] = found.chains, plain.chains
    assert [step.node for step in chain.steps] == NODES
    assert [described(step) for step in chain.steps] == [described(step) for step in expected.steps]
    assert (chain.made_by, chain.uri, chain.run, chain.pipeline, chain.copies) == (
        expected.made_by, expected.uri, expected.run, expected.pipeline, expected.copies,
    )  # fmt: skip
    assert (chain.teacher.sha256, chain.data.digest) == (expected.teacher.sha256, expected.data.digest)
    assert found.status == "incomplete"
    assert [problem.where.split("/")[0] for problem in found.problems] == sorted(NODES)
    assert found.problems[0].reason.startswith("the record is missing; the step is described from grpc://127.0.0.1:")


def test_one_missing_record_breaks_no_link(cluster):
    shutil.rmtree(cluster.folder / "run-1" / "Pruner" / "a1b2" / "provenance")

    found = trace(cluster)

    assert [step.node for step in found.chains[0].steps] == NODES
    assert [(problem.kind, problem.where) for problem in found.problems] == [
        ("incomplete", "Pruner/a1b2/provenance/run-1.intoto.json")
    ]
    [told_of] = [step for step in found.chains[0].steps if step.node == "Pruner"]
    assert (told_of.parameters["prune_sparsity"], told_of.packages) == (0.5, {})


def test_metadata_is_used_when_the_store_refuses(cluster):
    cluster.s3.refuse = {"GET", "HEAD"}

    found = trace(cluster)

    assert [step.node for step in found.chains[0].steps] == NODES
    [problem] = found.problems
    assert problem.where == "s3://bucket/runs/learn2compress/run-1"
    assert "no record can be read" in problem.reason
    assert "Check the keys and what they allow" in problem.reason


def test_records_in_a_folder_are_named_with_at(cluster):
    found = trace(cluster, at=str(cluster.folder))

    assert found.status == "whole"
    assert found.location == str(cluster.folder / "run-1")


def test_parameter_that_differs_in_metadata_is_tampering(cluster):
    def more_epochs(execution):
        execution.custom_properties["inputs"].struct_value["distill_epochs"] = 31

    cluster.change("Distiller", more_epochs)

    found = trace(cluster)

    assert found.status == "tampered"
    [problem] = found.problems
    assert problem.where == "Distiller/a1b2/provenance/run-1.intoto.json"
    assert "has another value of the parameter distill_epochs of Distiller in run run-1" in problem.reason


def test_artifact_that_differs_in_metadata_is_tampering(cluster):
    [artifact] = cluster.client.get_artifacts_by_type("learn2compress.Teacher")
    artifact.custom_properties["test_accuracy"].double_value = 0.9601
    cluster.client.put_artifacts([artifact])
    assert "other figures of TeacherImporter" in trace(cluster).problems[0].reason

    artifact.custom_properties["provenance_sha256"].string_value = "0" * 64
    cluster.client.put_artifacts([artifact])
    assert "another record of TeacherImporter" in trace(cluster).problems[0].reason

    artifact.uri = "minio://bucket/elsewhere"
    cluster.client.put_artifacts([artifact])
    reasons = [problem.reason for problem in trace(cluster).problems]
    assert any("other outputs of TeacherImporter" in reason for reason in reasons)
    assert any("other inputs of Distiller" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"string_value": str(MODEL_ID)}, "whole"),
        ({"double_value": 4720130174268699968.0}, "whole"),  # of a run of an earlier version
        ({"string_value": str(MODEL_ID + 1)}, "tampered"),
        ({"double_value": MODEL_ID * 1.0001}, "tampered"),
    ],
)
def test_large_integer_is_compared_as_it_is_kept(cluster, type_in, value, status):
    [selection] = cluster.client.get_artifacts_by_type("learn2compress.Selection")
    assert selection.custom_properties["current_model_id"].string_value == str(MODEL_ID)
    selection.custom_properties["current_model_id"].CopyFrom(mlmd.Value(**value))
    cluster.client.put_artifacts([selection])

    _, output = type_in("verify", HOME, "--metadata-grpc", cluster.address, "--json")

    assert json.loads(output)["status"] == status


def test_steps_log_is_a_known_file(cluster, type_in):
    folder = cluster.folder / "run-1" / "Pruner" / "a1b2"
    (folder / "executor-logs-0").write_text("a log")
    (folder / "executor-logs").write_text("an older backend's")
    (folder / "executor-logs.txt").write_text("something else")

    _, output = type_in("verify", HOME, "--metadata-grpc", cluster.address, "--json")

    found = json.loads(output)
    assert found["status"] == "whole"
    assert found["unrecorded"] == ["run-1/Pruner/a1b2/executor-logs.txt"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (10**14, float(10**14), True),
        (10**14, float(10**14 + 1), False),
        (MODEL_ID, 4720130174268699968.0, True),
        (MODEL_ID, str(MODEL_ID), True),
        (MODEL_ID, str(MODEL_ID + 1), False),
        (1 / 3, 0.333333, True),
        (0.96, 0.9601, False),
        (1e12 / 3, 1e12 / 3 * (1 + 1e-13), True),
        (True, 1, True),
        ("1", 1, False),
        ([1, 2], [1.0, 2.0], True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_values_are_compared_as_ml_metadata_keeps_them(one, other, same):
    assert _same(one, other) == same


def test_parameters_are_compared_without_places():
    assert _same(1e-7, 2e-7)
    assert not _same(1e-7, 2e-7, places=0.0)


def test_record_that_was_written_anew_is_found_out(cluster):
    path = next(cluster.folder.glob("run-1/Distiller/*/provenance/*.json"))
    statement = parse_statement(path.read_bytes(), "x")
    statement.parameters["distill_epochs"] = 300
    path.write_bytes(statement.to_bytes())

    reasons = [problem.reason for problem in trace(cluster).problems]

    assert any("it has another record of Distiller" in reason for reason in reasons)


def test_step_from_the_cache_leads_to_the_run_that_made_it(cluster):
    run, made = cluster.run, cluster.run.made_by
    again = cluster.kfp.Launcher(cluster.client, "learn2compress", "run-2")
    for node in ("ImageExampleGen", "Quantizer"):
        outputs = {key.split(".")[1]: one[2] for key, one in made.items() if key.startswith(f"{node}.")}
        again.cached(node, {}, {}, outputs)

    found = trace(cluster)

    assert [chain.run for chain in found.chains] == [run.run]
    assert found.status == "whole"
    assert len(read_steps(cluster.address)) == 7


def test_second_run_reads_what_the_first_made(cluster, tmp_path):
    launcher = cluster.kfp.Launcher(cluster.client, "learn2compress", "run-2")
    second = cluster_run(tmp_path / "minio", launcher, epochs=40)
    second.made_by["Distiller.students"] = cluster.run.made_by["Distiller.students"]
    second.node(
        "Pruner2", ["Distiller.students"], {"pruned_students": ("learn2compress.StudentSet", {"x.tflite": b"x"})}, {}
    )
    (tmp_path / "x").write_bytes(b"x")
    records = ClusterRecords(cluster.address)
    graph = records.open_graph()

    found = records.judge(lineage_of_file(graph, tmp_path / "x"), graph)

    assert found.status == "whole"
    steps = [(step.node, step.run) for step in found.chains[0].steps]
    assert steps[:2] == [("Pruner2", "run-2"), ("Distiller", "run-1")]


def test_impact_is_told_from_metadata_alone(cluster, type_in):
    teacher = cluster.run.made_by["TeacherImporter.teacher"][1]["sha256"]
    plain = impact_of(open_graph("s3://bucket/runs/learn2compress"), teacher)
    cluster.forget_records()

    status, output = type_in("impact", teacher, "--metadata-grpc", cluster.address, "--json")

    found = json.loads(output)
    assert status == 5
    assert [one["node"] for one in found["executions"]] == [one.node for one in plain.executions]
    assert [(one["file"], one["sha256"], one["bytes"]) for one in found["models"]] == [
        (one.file, one.sha256, one.bytes) for one in plain.models
    ]


def test_verify_finds_a_step_without_record_and_a_record_without_step(cluster, type_in):
    command = ["verify", "s3://bucket/runs/learn2compress", "--metadata-grpc", cluster.address, "--json"]
    assert type_in(*command)[0] == 0
    shutil.rmtree(cluster.folder / "run-1" / "StudentSelector" / "a1b2" / "provenance")
    cluster.change("Pruner", lambda one: setattr(one, "last_known_state", mlmd.Execution.FAILED))

    status, output = type_in(*command)

    problems = {one["where"]: (one["kind"], one["reason"]) for one in json.loads(output)["problems"]}
    assert status == 5
    kind, reason = problems["run-1/StudentSelector/a1b2/provenance/run-1.intoto.json"]
    assert (kind, reason.endswith("knows StudentSelector of run run-1, of which there is no record")) == (
        "incomplete", True,
    )  # fmt: skip
    kind, reason = problems["Pruner/a1b2/provenance/run-1.intoto.json"]
    assert (kind, reason.endswith("does not know this step")) == ("note", True)


def test_lineage_command_asks_the_service(cluster, tmp_path, monkeypatch, type_in):
    monkeypatch.chdir(tmp_path)
    file = Path(shutil.copy(cluster.model(), tmp_path / "renamed.bin"))

    status, output = type_in("lineage", str(file), "--metadata-grpc", cluster.address)

    assert status == 0, output
    assert "Quantizer" in output
    assert type_in("verify", str(file), "--metadata-grpc", cluster.address)[0] == 0


def test_runs_in_two_stores_need_a_place(cluster):
    launcher = cluster.kfp.Launcher(cluster.client, "other", "run-9", root="gs://elsewhere/runs")
    metadata = {"tree_sha256": "1" * 64, "provenance": "N/provenance/run-9.intoto.json", "provenance_sha256": "2" * 64}
    launcher.step("N", {}, {}, {"x": ("tfx.Examples", "gs://elsewhere/runs/other/run-9/N/x", metadata)})

    with pytest.raises(
        LineageError, match=r"must lie in one store; they lie at gs://elsewhere/runs/other, s3://bucket"
    ):
        ClusterRecords(cluster.address).open_graph()
    assert trace(cluster, at="minio://bucket/runs/learn2compress").status == "whole"


def test_store_without_steps_of_ours_is_refused(tmp_path, load):
    with load("kfp_metadata").serving(tmp_path / "empty.db") as (address, client):
        with pytest.raises(LineageError, match="must hold steps of learn2compress; it holds none"):
            read_steps(address)
        launcher = load("kfp_metadata").Launcher(client, "another", "run-1")
        launcher.step("train", {"x": 1}, {}, {"model": ("system.Model", "minio://bucket/x", {"framework": "other"})})
        with pytest.raises(LineageError, match="must hold steps of learn2compress; it holds none"):
            read_steps(address)


@pytest.mark.parametrize("address", ["host", "host:port", ":8080", ""])
def test_address_without_port_is_refused(address):
    with pytest.raises(ConfigError, match=r"--metadata-grpc must be HOST:PORT; got"):
        read_steps(address)


def test_service_that_does_not_respond_is_named():
    with pytest.raises(LineageError, match=r"grpc://127.0.0.1:1 must be a reachable metadata store"):
        read_steps("127.0.0.1:1")
