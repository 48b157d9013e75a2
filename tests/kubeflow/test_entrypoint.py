# SPDX-License-Identifier: Apache-2.0
"""Tests how the entrypoint converts the launcher's arguments and the output of tfx."""

import hashlib

import pytest

from learn2compress.kubeflow import entrypoint
from learn2compress.kubeflow.local_copies import to_local, to_uri, without_local_paths
from learn2compress.kubeflow.records.step_record import Place
from learn2compress.pipeline.code_version import code_version
from learn2compress.schemas.errors import ClusterError, DataError, TeacherError

SPEC = {
    "artifacts": {"examples": {"artifactType": {"schemaTitle": "tfx.Examples"}}},
    "parameters": {
        "limit": {"parameterType": "NUMBER_INTEGER"},
        "select_max_size": {"parameterType": "NUMBER_INTEGER"},
        "distill_learning_rate": {"parameterType": "NUMBER_DOUBLE"},
        "code_version": {"parameterType": "STRING"},
        "teacher_path": {"parameterType": "STRING"},
        "teacher_sha256": {"parameterType": "STRING"},
        "data_path": {"parameterType": "STRING"},
        "data_digest": {"parameterType": "STRING"},
    },
}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://bucket/runs/a", "/minio/bucket/runs/a"),
        ("s3://bucket/a?region=x", "/s3/bucket/a"),
        ("gs://bucket/a", "/gcs/bucket/a"),
        ("/data/a", "/data/a"),
    ],
)
def test_address_becomes_the_launchers_copy(uri, path):
    assert to_local(uri) == path
    assert to_uri(path) == uri.partition("?")[0]


def test_metadata_loses_nulls_and_local_paths():
    assert without_local_paths({"a": None, "b": "/s3/bucket/x", "c": 1.0}) == {"b": "s3://bucket/x", "c": 1.0}


@pytest.mark.parametrize("salt", ["", "0f-1a/"])
def test_place_of_a_step_is_read_from_its_address(salt):
    place = Place.of("Pruner", f"minio://bucket/runs/digits/run-7/Pruner/{salt}provenance")

    assert (place.home, place.pipeline, place.run) == ("minio://bucket/runs/digits", "digits", "run-7")


def test_address_without_the_node_is_refused():
    with pytest.raises(ClusterError, match=r"the output of Pruner must lie at ROOT/PIPELINE/RUN/Pruner"):
        Place.of("Pruner", "minio://bucket/runs/digits/provenance")


def test_unset_limits_are_left_out_and_numbers_get_their_type(tmp_path):
    values = {"limit": -1.0, "select_max_size": 40000.0, "distill_learning_rate": 1, "code_version": "0.1.0"}

    told, used = entrypoint.settle_parameters(values, SPEC, tmp_path)

    assert told == used == {
        "select_max_size": 40000, "distill_learning_rate": 1.0, "code_version": code_version(),
    }  # fmt: skip
    assert isinstance(told["select_max_size"], int)
    assert isinstance(told["distill_learning_rate"], float)


@pytest.mark.usefixtures("example_pass")
def test_step_records_the_code_of_the_passes_that_it_has(tmp_path):
    texts = {name: {"parameterType": "STRING"} for name in ("prune_passes", "pass_versions")}
    values = {"prune_passes": "[channels, kernel_grid]", "pass_versions": "as compiled"}

    told, used = entrypoint.settle_parameters(values, {"parameters": texts}, tmp_path)

    assert told == used
    assert told["pass_versions"].startswith("kernel_grid: learn2compress-kernel-grid 0.2.0+")


def test_teacher_is_fetched_and_its_digest_found(store, tmp_path):
    (store.root / "bucket" / "t.keras").write_bytes(b"a model")
    values = {"teacher_path": "minio://bucket/t.keras", "teacher_sha256": "listing-1"}

    told, used = entrypoint.settle_parameters(values, SPEC, tmp_path)

    assert told["teacher_path"] == "minio://bucket/t.keras"
    assert used["teacher_path"] == str(tmp_path / "teacher_path" / "t.keras")
    assert told["teacher_sha256"] == used["teacher_sha256"] == hashlib.sha256(b"a model").hexdigest()


def test_teacher_that_is_another_is_refused(tmp_path):
    (tmp_path / "t.keras").write_bytes(b"another")
    values = {"teacher_path": str(tmp_path / "t.keras"), "teacher_sha256": "0" * 64}

    with pytest.raises(DataError, match=r"t\.keras must have the digest 0{16}… that the run was submitted with; got "):
        entrypoint.settle_parameters(values, SPEC, tmp_path)


def test_teacher_that_is_not_there_is_named(tmp_path):
    values = {"teacher_path": "/data/t.keras", "teacher_sha256": "x"}

    with pytest.raises(TeacherError, match=r"teacher /data/t\.keras must be readable in the container"):
        entrypoint.settle_parameters(values, SPEC, tmp_path)


def test_inputs_get_types_and_outputs_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2COMPRESS_LAUNCHER_ROOT", str(tmp_path))
    invocation = {
        "inputs": {"artifacts": {"examples": {"artifacts": [{"uri": "minio://b/in", "type": {}}]}}},
        "outputs": {"artifacts": {"students": {"artifacts": [{"uri": "minio://b/out"}]}}, "outputFile": "/tmp/o"},
    }

    local = entrypoint.localize(invocation, SPEC, {"seed": 1})

    [read] = local["inputs"]["artifacts"]["examples"]["artifacts"]
    assert read == {"uri": f"{tmp_path}/minio/b/in", "type": {"schemaTitle": "tfx.Examples"}}
    assert (tmp_path / "minio" / "b" / "out").is_dir()
    assert local["inputs"]["parameterValues"] == {"seed": 1}


def test_outputs_that_the_component_does_not_declare_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2COMPRESS_LAUNCHER_ROOT", str(tmp_path))
    log = tmp_path / "minio" / "b" / "executor-logs-0"
    log.parent.mkdir(parents=True)
    log.touch()  # as the launcher does before the step starts
    passed = {
        "students": {"artifacts": [{"uri": "minio://b/out", "type": {"schemaTitle": "learn2compress.StudentSet"}}]},
        "executor-logs": {
            "artifacts": [{"uri": "minio://b/executor-logs-0", "type": {"schemaTitle": "system.Artifact"}}]
        },
        "more": {"artifacts": [{"uri": "minio://b/more", "type": {"schemaTitle": "system.Metrics"}}]},
        "untyped": {"artifacts": [{"uri": "minio://b/untyped"}]},
    }

    declared = entrypoint.declared_outputs(passed)
    local = entrypoint.localize({"outputs": {"artifacts": declared, "outputFile": "/tmp/o"}}, SPEC, {})

    assert set(local["outputs"]["artifacts"]) == {"students"}
    assert (tmp_path / "minio" / "b" / "out").is_dir()
    assert log.is_file()
    assert not (tmp_path / "minio" / "b" / "more").exists()


def test_output_gets_addresses_and_what_the_record_adds():
    artifact = {"uri": "/minio/b/m", "metadata": {"x": None, "n": 1}, "name": None}
    left = {"artifacts": {"model": {"artifacts": [artifact]}}}

    assert entrypoint.globalize(left, {"model": {"tree_sha256": "ab"}}) == {
        "artifacts": {"model": {"artifacts": [{"uri": "minio://b/m", "metadata": {"n": 1, "tree_sha256": "ab"}}]}}
    }


def test_record_of_a_step_names_what_an_earlier_run_made(tmp_path, monkeypatch):
    from learn2compress.kubeflow.records.step_record import write_step_record
    from learn2compress.schemas.artifacts import StudentSet
    from learn2compress.schemas.provenance import parse_statement

    monkeypatch.setenv("LEARN2COMPRESS_LAUNCHER_ROOT", str(tmp_path))
    place = Place.of("Pruner", "s3://bucket/runs/digits/run-2/Pruner/provenance")
    students = StudentSet()
    students.uri = to_local("s3://bucket/runs/digits/run-2/Pruner/pruned_students")
    students.set_int_custom_property("small_parameters", 7)
    students.set_int_custom_property("model_id", 4720130174268696484)
    (tmp_path / "s3/bucket/runs/digits/run-2/Pruner/pruned_students").mkdir(parents=True)
    (tmp_path / "s3/bucket/runs/digits/run-2/Pruner/pruned_students/manifest.json").write_text("{}")
    known = {"tree_sha256": "ab" * 32, "provenance": "Distiller/provenance/run-1.intoto.json", "provenance_sha256": "c"}
    inputs = {"students": {"uri": "s3://bucket/runs/digits/run-1/Distiller/students", "metadata": known}}

    added = write_step_record(
        place, inputs, {"students": "learn2compress.StudentSet"}, {"pruned_students": students}, {"seed": 3}, 0.0
    )

    path = "Pruner/provenance/run-2.intoto.json"
    raw = (tmp_path / "s3/bucket/runs/digits/run-2" / path).read_bytes()
    statement = parse_statement(raw, path)
    assert added["pruned_students"] == {
        "model_id": "4720130174268696484",  # a double would make another number of it
        "tree_sha256": statement.outputs[0].digest,
        "provenance": path,
        "provenance_sha256": hashlib.sha256(raw).hexdigest(),
    }
    [read] = statement.inputs
    assert (read.uri, read.record) == ("../run-1/Distiller/students", "../run-1/Distiller/provenance/run-1.intoto.json")
    assert statement.outputs[0].properties["small_parameters"] == 7
    assert statement.outputs[0].properties["model_id"] == 4720130174268696484
    assert statement.internal["seed"] == 3


def test_input_without_a_record_is_digested(tmp_path, monkeypatch):
    from learn2compress.kubeflow.records.step_record import _input
    from learn2compress.schemas.digests import tree_sha256

    monkeypatch.setenv("LEARN2COMPRESS_LAUNCHER_ROOT", str(tmp_path))
    folder = tmp_path / "gcs/bucket/runs/digits/run-1/X/examples"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    place = Place.of("Pruner", "gs://bucket/runs/digits/run-1/Pruner/provenance")

    found = _input(place.location, place, "examples", {"uri": "gs://bucket/runs/digits/run-1/X/examples"}, "Examples")

    assert (found.uri, found.digest, found.record) == ("X/examples", tree_sha256(folder), None)


def test_error_of_the_step_is_the_last_line(capsys, tmp_path, monkeypatch):
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(entrypoint, "TERMINATION_LOG", log)
    invocation = '{"outputs": {"artifacts": {}, "outputFile": "x"}}'
    arguments = ["--node", "Pruner", "--executor_class_path", "x", "--json_serialized_invocation_args", invocation]

    status = entrypoint.main([*arguments, "--json_serialized_inputs_spec_args", "{}", "--runner=x"])

    line = "learn2compress: Pruner: step Pruner must have an output provenance; it has none. Compile again."
    assert status == 2
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert log.read_text() == line


@pytest.fixture
def end(capsys, tmp_path, monkeypatch):
    """Runs a step; gives its status, the last line of its log and the termination message."""
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(entrypoint, "TERMINATION_LOG", log)

    def run(*arguments):
        status = entrypoint.main(list(arguments))
        return status, capsys.readouterr().err.splitlines()[-1], log.read_text()

    return run


ARGUMENTS = ("--node", "Pruner", "--executor_class_path", "x", "--json_serialized_inputs_spec_args", "{}")


@pytest.mark.parametrize(
    ("invocation", "message"),
    [
        ("{", "JSONDecodeError: "),
        ("{}", "KeyError: 'outputs'"),
        ('{"outputs": {"artifacts": {"provenance": {"artifacts": []}}}}', "IndexError: "),
    ],
)
def test_fault_before_the_executor_reaches_the_termination_message(end, invocation, message):
    status, line, told = end(*ARGUMENTS, "--json_serialized_invocation_args", invocation)

    assert status == 1
    assert line.startswith(f"learn2compress: Pruner: {message}")
    assert told == line


def test_wrong_arguments_reach_the_termination_message(end):
    status, line, told = end(*ARGUMENTS)

    assert status == 2
    assert line.startswith("learn2compress: step: the step's arguments must be those that were compiled; ")
    assert told == line


def test_fault_of_the_executor_reaches_the_termination_message(end, monkeypatch):
    def fail(*_):
        raise RuntimeError("first line\nsecond " + "x" * 9000)

    monkeypatch.setattr(entrypoint, "run_step", fail)

    status, line, told = end(*ARGUMENTS, "--json_serialized_invocation_args", "{}")

    assert status == 1
    assert line.startswith("learn2compress: Pruner: RuntimeError: first line second xxx")
    assert line.startswith(told)
    assert len(told) == 4096
