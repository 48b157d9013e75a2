# SPDX-License-Identifier: Apache-2.0
"""Tests records of real executions from ML Metadata, and of executions that are described explicitly."""

import hashlib
import json
from pathlib import Path

import pytest

from learn2compress.lineage.records.provenance import describe_output, record_of, save_record, write_record
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import TREE, Statement, is_sealed, parse_statement, validate_statement
from learn2compress.storage.location import open_location


def read(path: str) -> Statement:
    raw = Path(path).read_bytes()
    statement = parse_statement(raw, path)
    assert is_sealed(raw, statement)
    return statement


def test_describe_output_computes_the_digests_of_files_and_tree(tmp_path: Path) -> None:
    folder = tmp_path / "Node" / "models" / "3"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x.tflite").write_bytes(b"abc")
    (folder / "empty").write_bytes(b"")

    output = describe_output(open_location(tmp_path), str(folder), "models", "T")

    assert output.uri == "Node/models/3"
    assert output.digest == tree_sha256(folder)
    assert output.files["a/x.tflite"].sha256 == hashlib.sha256(b"abc").hexdigest()
    assert {path: file.bytes for path, file in output.files.items()} == {"a/x.tflite": 3, "empty": 0}


def test_describe_output_keeps_a_uri_outside_the_pipeline_root(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"abc")

    output = describe_output(open_location(tmp_path / "root"), str(tmp_path / "elsewhere"), "x", "T")

    assert output.uri == str(tmp_path / "elsewhere")
    assert output.is_file
    assert output.digest == hashlib.sha256(b"abc").hexdigest()


def test_describe_output_refuses_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "link").symlink_to(tmp_path / "nowhere")

    with pytest.raises(LineageError, match=r"^The files of artifact x at broken must be readable"):
        describe_output(open_location(tmp_path), "broken", "x", "T")


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_save_record_writes_a_record_without_a_store(tmp_path: Path, place: str) -> None:
    location = open_location(tmp_path if place == "folder" else f"memory://{tmp_path.name}")
    location.write("Node/out/1/file", b"abc")
    output = describe_output(location, "Node/out/1", "out", "T")

    statement = record_of("Node", [], [output], {"epochs": 3, "seed": 5}, pipeline="p", run="r", execution="1")
    save_record(location, statement)

    [found] = location.records()
    assert found.path == "Node/provenance/1.intoto.json"
    kept = parse_statement(location.read(found.path), found.path)
    assert kept.outputs == [output]
    assert kept.internal["seed"] == 5
    assert kept.packages["python"]
    assert kept.packages["numpy"]
    assert kept.internal["code"][TREE]


@pytest.mark.e2e
def test_write_record_writes_a_valid_record_for_every_execution(tiny_run) -> None:
    statements = [read(path) for path in tiny_run.records]

    assert [statement.node for statement in statements] == ["Gen", "TeacherImporter", "Train", "Convert"] * 2
    assert [statement.run for statement in statements] == ["run-1"] * 4 + ["run-2"] * 4
    assert [statement.cached for statement in statements] == [False] * 4 + [True] * 4
    for path, statement in zip(tiny_run.records, statements, strict=True):
        validate_statement(statement)
        assert Path(path) == tiny_run.out / "pipeline" / statement.path
        assert statement.started <= statement.finished
        assert statement.packages["tfx"]


@pytest.mark.e2e
def test_write_record_includes_the_contents_of_ml_metadata(tiny_run) -> None:
    train = read(tiny_run.records[2])

    assert train.parameters == {"rate": 4.0}
    assert isinstance(train.parameters["rate"], float)
    [students] = train.outputs
    assert students.uri == "Train/students/3"
    assert students.digest == tree_sha256(tiny_run.out / "pipeline" / "Train" / "students" / "3")
    assert students.properties["small_accuracy"] == 1.0
    assert students.properties["students"] == 1
    assert [found.key for found in train.inputs] == ["examples", "teacher"]
    for found, made in zip(train.inputs, tiny_run.records, strict=False):
        assert tiny_run.out / "pipeline" / found.record == Path(made)
        assert found.record_sha256 == hashlib.sha256(Path(made).read_bytes()).hexdigest()


@pytest.mark.e2e
def test_write_record_gives_a_cached_execution_the_same_outputs(tiny_run) -> None:
    for fresh, cached in zip(map(read, tiny_run.records[:4]), map(read, tiny_run.records[4:]), strict=True):
        for again, once in zip(cached.outputs, fresh.outputs, strict=True):
            assert (again.uri, again.digest, again.files) == (once.uri, once.digest, once.files)
        assert [found.record for found in cached.inputs] == [found.record for found in fresh.inputs]


@pytest.mark.e2e
def test_write_record_sets_digest_and_record_of_each_artifact_in_the_store(tiny_run, open_store) -> None:
    artifacts = open_store(tiny_run.out / "metadata.db").get_artifacts()

    assert len(artifacts) == 4
    for artifact in artifacts:
        assert artifact.custom_properties["tree_sha256"].string_value == tree_sha256(artifact.uri)
        record = read(str(tiny_run.out / "pipeline" / artifact.custom_properties["provenance"].string_value))
        assert artifact.custom_properties["tree_sha256"].string_value in [output.digest for output in record.outputs]


@pytest.mark.e2e
def test_write_record_writes_the_missing_record_of_a_killed_run(tiny_dag, tmp_path, open_store) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model").write_text("t")
    written = []

    def record(execution: int) -> None:
        written.append(write_record(open_store(tmp_path / "db"), execution, tmp_path / "root"))

    tiny_dag.run(tmp_path / "root", tmp_path / "teacher", tmp_path / "db", "killed", lambda _: None)
    tiny_dag.run(tmp_path / "root", tmp_path / "teacher", tmp_path / "db", "next", record)

    late = read(str(tmp_path / "root" / "Gen" / "provenance" / "1.intoto.json"))
    assert late.internal["recorded_late"] is True
    assert late.run == "killed"
    # Setting the digests late changes the artifacts, so the downstream nodes miss the cache once.
    assert [read(path).node for path in written] == ["Gen", "TeacherImporter", "Train", "Convert"]
    train = read(written[2])
    assert {found.record for found in train.inputs} == {
        "Gen/provenance/1.intoto.json",
        "TeacherImporter/provenance/2.intoto.json",
    }


@pytest.mark.e2e
def test_write_record_keeps_records_of_an_earlier_store(tiny_dag, tmp_path, open_store) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model").write_text("t")
    written = []
    for number in (1, 2):
        database = tmp_path / f"{number}.db"

        def record(execution: int, database: Path = database) -> None:
            written.append(write_record(open_store(database), execution, tmp_path / "root"))

        # The artifacts of the second run would have the same paths as those of the first.
        if (tmp_path / "root" / "Gen" / "examples").exists():
            (tmp_path / "root" / "Gen" / "examples").rename(tmp_path / "moved")
        tiny_dag.run(tmp_path / "root", tmp_path / "teacher", database, f"run-{number}", record, text=str(number))

    assert len(set(written)) == 8
    assert read(written[0]).run == "run-1"
    assert read(written[4]).run == "run-2"


@pytest.mark.e2e
def test_write_record_refuses_a_missing_execution(tiny_run, open_store) -> None:
    with pytest.raises(LineageError, match=r"^Execution 99 must be in the metadata store"):
        write_record(open_store(tiny_run.out / "metadata.db"), 99, tiny_run.out / "pipeline")


@pytest.mark.e2e
def test_write_record_refuses_an_unfinished_execution(tiny_dag, tmp_path, open_store) -> None:  # noqa: ARG001
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    store = open_store(tmp_path / "db")
    kind = store.put_execution_type(mlmd.ExecutionType(name="T"))
    [number] = store.put_executions([mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.RUNNING)])

    with pytest.raises(LineageError, match=r"^Execution 1 must be finished before it is recorded; got RUNNING"):
        write_record(store, number, tmp_path)


def test_record_file_is_formatted_json(make_run, tmp_path: Path) -> None:
    run = make_run(tmp_path)

    tree = json.loads((tmp_path / run.records["Quantizer"]).read_text())

    assert tree["predicate"]["buildDefinition"]["internalParameters"]["node"] == "Quantizer"
