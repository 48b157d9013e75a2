# SPDX-License-Identifier: Apache-2.0
"""Tests that a rebuilt database equals the original, and that faulty databases are refused."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.mlmd.rebuild import rebuild_metadata
from learn2compress.lineage.mlmd.store import open_sqlite, open_store
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.schemas.errors import LineageError
from learn2compress.storage.location import open_location


def contents(database: Path) -> dict[str, list]:
    """Return the contents of a store with all ids and times."""
    store = open_sqlite(database)
    found: dict[str, list] = {}
    for kind in ("artifact", "execution", "context"):
        nodes = sorted(getattr(store, f"get_{kind}s")(), key=lambda node: node.id)
        types = sorted(getattr(store, f"get_{kind}_types")(), key=lambda one: one.name)
        found |= {f"{kind}s": list(map(str, nodes)), f"{kind} types": list(map(str, types))}
    found["events"] = sorted(map(str, store.get_events_by_execution_ids([e.id for e in store.get_executions()])))
    found["links"] = [
        (context.name, *(sorted(one.id for one in getattr(store, f"get_{what}_by_context")(context.id))
                         for what in ("executions", "artifacts", "parent_contexts", "children_contexts")))
        for context in sorted(store.get_contexts(), key=lambda one: one.id)
    ]  # fmt: skip
    return found


@pytest.fixture
def out(tiny_run, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run.out, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.e2e
def test_rebuild_metadata_gives_an_equal_database(tiny_run, tmp_path: Path) -> None:
    report = rebuild_metadata(open_graph(tiny_run.out), tmp_path / "rebuilt.db")

    assert report.status == "whole"
    original, rebuilt = contents(tiny_run.out / "metadata.db"), contents(tmp_path / "rebuilt.db")
    assert len(original["executions"]) == 8
    assert len(original["events"]) == 14
    for what in original:
        assert rebuilt[what] == original[what], what
    assert (report.artifacts, report.executions, report.events) == (4, 8, 14)


@pytest.mark.e2e
def test_rebuild_metadata_gives_a_database_that_serves_the_cache(tiny_dag, tmp_path: Path, open_store) -> None:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from learn2compress.lineage.records.provenance import write_record

    run = tmp_path / "run"
    (run / "teacher").mkdir(parents=True)
    (run / "teacher" / "model").write_text("t")

    def record(execution: int) -> None:
        write_record(open_store(run / "metadata.db"), execution, run / "pipeline")

    tiny_dag.run(run / "pipeline", run / "teacher", run / "metadata.db", "first", record)
    (run / "metadata.db").unlink()
    rebuild_metadata(open_graph(run), run / "metadata.db")
    tiny_dag.run(run / "pipeline", run / "teacher", run / "metadata.db", "second", record)

    executions = open_store(run / "metadata.db").get_executions()
    states = [mlmd.Execution.State.Name(one.last_known_state) for one in sorted(executions, key=lambda one: one.id)]
    assert states == ["COMPLETE"] * 4 + ["CACHED"] * 4


@pytest.mark.e2e
def test_rebuild_metadata_uses_the_new_uris_of_a_moved_folder(out: Path, tmp_path: Path) -> None:
    rebuild_metadata(open_graph(out), tmp_path / "rebuilt.db")

    uris = {artifact.uri for artifact in open_sqlite(tmp_path / "rebuilt.db").get_artifacts()}
    assert str(out / "pipeline" / "Gen" / "examples" / "1") in uris


@pytest.mark.e2e
def test_rebuild_metadata_reports_a_missing_record_and_builds_the_rest(out: Path, tmp_path: Path) -> None:
    (out / "pipeline" / "Gen" / "provenance" / "1.intoto.json").unlink()

    report = rebuild_metadata(open_graph(out), tmp_path / "rebuilt.db")

    assert report.status == "incomplete"
    assert {problem.where for problem in report.problems} == {"Gen/provenance/1.intoto.json"}
    assert (report.executions, report.artifacts) == (7, 4)


@pytest.mark.e2e
def test_walking_ml_metadata_gives_the_nodes_of_the_lineage(tiny_run) -> None:
    from learn2compress.lineage.queries.trace import lineage_of_file

    model = tiny_run.out / "pipeline" / "Convert" / "models" / "4" / "small-int8.tflite"
    [chain] = lineage_of_file(open_graph(tiny_run.out), model).chains
    store = open_sqlite(tiny_run.out / "metadata.db")
    [start] = [artifact for artifact in store.get_artifacts() if artifact.uri == str(model.parent)]

    executions, artifacts, waiting = set(), set(), [start.id]
    while waiting:
        artifact = waiting.pop()
        artifacts.add(artifact)
        makers = [e.execution_id for e in store.get_events_by_artifact_ids([artifact]) if e.type == e.OUTPUT]
        for maker in store.get_executions_by_id(makers):
            if maker.last_known_state == maker.COMPLETE:
                executions.add(maker.id)
                events = store.get_events_by_execution_ids([maker.id])
                waiting += [e.artifact_id for e in events if e.type == e.INPUT]

    assert {int(step.execution) for step in chain.steps} == executions == {1, 2, 3, 4}
    names = {context.name.removeprefix("tiny.") for one in executions
             for context in store.get_contexts_by_execution(one) if context.type == "node"}  # fmt: skip
    assert {step.node for step in chain.steps} == names
    read = store.get_artifacts_by_id(artifacts)
    digests = {artifact.custom_properties["tree_sha256"].string_value for artifact in read}
    assert {output.digest for step in chain.steps for output in step.outputs} == digests


@pytest.mark.e2e
def test_verify_detects_a_database_that_differs_from_the_records(out: Path) -> None:
    assert verify_place(open_graph(out), open_location(out)).status == "whole"
    with sqlite3.connect(out / "metadata.db") as database:
        database.execute("UPDATE ExecutionProperty SET double_value = 5 WHERE name = 'rate' AND execution_id = 3")

    report = verify_place(open_graph(out), open_location(out))

    assert report.status == "tampered"
    [problem] = report.problems
    assert problem.where == "metadata.db"
    assert problem.reason == "its parameters of execution 3 differ from Train/provenance/3.intoto.json"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE Artifact SET uri = '/x' WHERE id = 3", "its URI or type of artifact 3"),
        ("UPDATE ArtifactProperty SET int_value = 9 WHERE name = 'students'", "its properties of artifact 3"),
        ("UPDATE Execution SET last_known_state = 2 WHERE id = 3", "its entry for execution 3 differs"),
        ("DELETE FROM Event WHERE execution_id = 3", "its events of execution 3 differ"),
    ],
)
def test_verify_compares_all_of_the_database(out: Path, statement: str, reason: str) -> None:
    with sqlite3.connect(out / "metadata.db") as database:
        database.execute(statement)

    report = verify_place(open_graph(out), open_location(out))

    assert report.status == "tampered"
    assert any(reason in problem.reason for problem in report.problems)


@pytest.mark.e2e
def test_verify_detects_an_execution_without_record(out: Path) -> None:
    (out / "pipeline" / "Convert" / "provenance" / "8.intoto.json").unlink()

    report = verify_place(open_graph(out), open_location(out))

    assert report.status == "incomplete"
    assert [problem.reason for problem in report.problems] == ["it holds a finished execution 8 that has no record"]


def test_rebuild_metadata_adds_the_contexts_of_tfx_to_records_from_a_cluster(make_run, tmp_path: Path) -> None:
    make_run(tmp_path / "pipeline").again("run-2")

    report = rebuild_metadata(open_graph(tmp_path), tmp_path / "rebuilt.db")

    assert report.status == "whole"
    assert (report.executions, report.artifacts) == (10, 9)
    store = open_sqlite(tmp_path / "rebuilt.db")
    contexts = {(context.type, context.name): context for context in store.get_contexts()}
    assert ("node", "learn2compress.Quantizer") in contexts
    run = contexts["pipeline_run", "run-1"]
    assert len(store.get_executions_by_context(run.id)) == 7
    assert [parent.name for parent in store.get_parent_contexts_by_context(run.id)] == ["learn2compress"]
    [quantizer, cached] = store.get_executions_by_context(contexts["node", "learn2compress.Quantizer"].id)
    assert {quantizer.last_known_state, cached.last_known_state} == {quantizer.COMPLETE, quantizer.CACHED}


def test_rebuild_metadata_skips_the_record_of_the_output_folder(make_run, tmp_path: Path) -> None:
    from learn2compress.lineage.records.output_record import record_output_folder

    make_run(tmp_path / "pipeline")
    (tmp_path / "report.html").write_text("x")
    record_output_folder(tmp_path, [])

    assert rebuild_metadata(open_graph(tmp_path), tmp_path / "rebuilt.db").executions == 7


def test_rebuild_metadata_refuses_an_existing_file(make_run, tmp_path: Path) -> None:
    make_run(tmp_path / "pipeline")
    (tmp_path / "there.db").write_text("mine")

    with pytest.raises(LineageError, match=r"there\.db must be a new file; it exists already"):
        rebuild_metadata(open_graph(tmp_path), tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"


def test_rebuild_metadata_refuses_a_missing_folder(make_run, tmp_path: Path) -> None:
    make_run(tmp_path / "pipeline")

    with pytest.raises(LineageError, match=r"must lie in an existing folder"):
        rebuild_metadata(open_graph(tmp_path), tmp_path / "none" / "x.db")


def test_rebuild_metadata_reports_a_broken_record_and_builds_the_rest(make_run, tmp_path: Path) -> None:
    run = make_run(tmp_path / "pipeline")
    (tmp_path / "pipeline" / run.records["StudentSelector"]).write_text("{")

    report = rebuild_metadata(open_graph(tmp_path), tmp_path / "rebuilt.db")

    assert report.status == "tampered"
    assert report.executions == 6


@pytest.fixture
def database(make_run, tmp_path: Path) -> Path:
    make_run(tmp_path / "pipeline")
    rebuild_metadata(open_graph(tmp_path), tmp_path / "metadata.db")
    return tmp_path / "metadata.db"


@pytest.mark.parametrize(("version", "age"), [(99, "a newer"), (6, "an older")])
def test_open_store_refuses_another_schema_version(database: Path, version: int, age: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE MLMDEnv SET schema_version = ?", (version,))

    with pytest.raises(LineageError, match=rf"schema version 10; it has {version}, of {age} ml-metadata"):
        open_sqlite(database)


@pytest.mark.parametrize("kept", [100, 5000, 60_000])
def test_open_store_refuses_a_truncated_database(database: Path, kept: int) -> None:
    database.write_bytes(database.read_bytes()[:kept])

    with pytest.raises(LineageError, match=r"must be a whole ML Metadata database; it is truncated or damaged"):
        open_sqlite(database)


def test_open_store_refuses_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database" * 1000)

    with pytest.raises(LineageError, match=r"must be a whole ML Metadata database"):
        open_sqlite(tmp_path / "x.db")


def test_open_store_refuses_a_database_with_other_tables(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")

    with pytest.raises(LineageError, match=r"must be an ML Metadata database; it has other tables \(mine"):
        open_sqlite(tmp_path / "x.db")


def test_open_sqlite_refuses_a_missing_database(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match=r"must be an ML Metadata database; it does not exist"):
        open_sqlite(tmp_path / "x.db")


def test_open_store_refuses_a_locked_database_within_seconds(database: Path) -> None:
    program = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(LineageError, match=r"must not be in use; another process has locked it"):
            open_sqlite(database)
        holder.stdin.close()


def test_open_store_names_an_unreachable_server_without_its_password() -> None:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.postgresql.host, config.postgresql.port, config.postgresql.dbname = "127.0.0.1", "1", "mlmd"
    config.postgresql.user, config.postgresql.password = "me", "secret"

    with pytest.raises(
        LineageError, match=r"^postgresql://127\.0\.0\.1:1/mlmd must be a reachable metadata store"
    ) as caught:
        open_store(config)
    assert "secret" not in str(caught.value)


def test_property_values_of_every_kind_survive_a_round_trip() -> None:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from learn2compress.lineage.records.mlmd_messages import value_from_json, value_to_json

    struct = mlmd.Value()
    struct.struct_value.update({"a": [1.0, "x"]})
    proto = mlmd.Value()
    proto.proto_value.type_url, proto.proto_value.value = "t", b"\x00\xff"
    values = [
        mlmd.Value(int_value=5), mlmd.Value(double_value=5.0), mlmd.Value(string_value="ü"),
        mlmd.Value(bool_value=True), mlmd.Value(double_value=float("inf")), struct, proto,
    ]  # fmt: skip

    for value in values:
        assert value_from_json(json.loads(json.dumps(value_to_json(value), allow_nan=False))) == value
