# SPDX-License-Identifier: Apache-2.0
"""Tests tracing a file to the teacher and the data after renaming, moving, loss or damage."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from learn2compress.lineage.graph import find_records_near, open_graph
from learn2compress.lineage.index import INDEX_FILE
from learn2compress.lineage.queries.trace import lineage_of_file
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.provenance import parse_statement

STEPS = ["Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen"]


def rewrite(path: Path, change) -> None:
    """Change a record and seal it again, as in deliberate tampering."""
    tree = json.loads(path.read_text())
    change(tree)
    path.write_bytes(parse_statement(json.dumps(tree).encode(), str(path)).to_bytes())


def flip(path: Path, place: int = 2) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(bytes(raw))


@pytest.fixture
def run(make_run, tmp_path: Path):
    return make_run(tmp_path / "out" / "pipeline")


@pytest.fixture
def model(run, tmp_path: Path) -> Path:
    return Path(shutil.copy(run.path("Quantizer.models", "large-int8.tflite"), tmp_path / "renamed.bin"))


def test_lineage_of_file_finds_teacher_and_data_by_the_bytes_alone(model: Path, tmp_path: Path) -> None:
    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "whole"
    assert report.problems == []
    [chain] = report.chains
    assert [step.node for step in chain.steps] == STEPS
    assert chain.output == "models/large-int8.tflite"
    assert chain.uri == "Quantizer/models/5/large-int8.tflite"
    assert chain.teacher.sha256 == "1057a9604e04b274da5a4de0c8f4b4868d9b230989f8c8c6a28221143cc5a755"
    assert chain.teacher.manifest["accuracy"]["test"] == 0.96
    assert chain.data.manifest["counts"] == {"train": 5, "validation": 1, "test": 1}
    assert chain.calibration == {"images": 4, "split": "train", "digest": "c" * 64}
    assert chain.steps[2].parameters["distill_epochs"] == 30
    assert chain.steps[2].seed == 7
    assert chain.steps[2].seconds == 30.0
    assert chain.steps[2].packages["python"]


def test_lineage_of_file_includes_figures_and_reasons_of_the_choice(model: Path, tmp_path: Path) -> None:
    [chain] = lineage_of_file(open_graph(tmp_path / "out"), model).chains

    [measurement] = chain.measurements
    assert measurement.figures["name"] == "large-int8"
    assert measurement.figures["figures"]["validation"]["top1"] == 0.93
    [choice] = chain.choices
    assert (choice.status, choice.limits) == ("chosen", {"max_size": 50_000})
    assert [sibling.name for sibling in chain.siblings] == ["small-int8", "large-float32", "small-float32"]
    assert chain.siblings[0].validation_accuracy == 0.91
    assert chain.siblings[0].reason == "large-int8 is better"
    assert chain.copies == ["StudentSelector/model/7/Format-Serving/large-int8.tflite"]


@pytest.mark.parametrize(
    "place", ["out", "out/pipeline", "out/pipeline/Distiller", "out/pipeline/Distiller/provenance", "."]
)
def test_open_graph_accepts_any_folder_around_the_records(model: Path, tmp_path: Path, place: str) -> None:
    report = lineage_of_file(open_graph(tmp_path / place), model)

    assert report.status == "whole"
    assert [step.node for step in report.chains[0].steps] == STEPS


def test_lineage_of_file_is_unchanged_when_the_folder_was_moved(model: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "out", tmp_path / "moved")

    report = lineage_of_file(open_graph(tmp_path / "moved"), model)

    assert report.status == "whole"
    assert report.chains[0].teacher.manifest is not None


def test_lineage_of_file_is_the_same_in_a_bucket(model: Path, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    url = f"memory://bucket-{tmp_path.name}"
    files.put(str(tmp_path / "out"), f"/bucket-{tmp_path.name}", recursive=True)

    there, here = lineage_of_file(open_graph(url), model), lineage_of_file(open_graph(tmp_path / "out"), model)

    assert there.location == f"{url}/pipeline"
    assert there.model_dump(exclude={"location"}) == here.model_dump(exclude={"location"})


def test_lineage_of_file_lists_all_runs_with_the_same_bytes(make_run, model: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "out" / "pipeline", run="run-2", first=20, day=2)
    make_run(tmp_path / "other" / "pipeline", run="run-3", day=3)

    report = lineage_of_file(open_graph(tmp_path), model)

    assert report.status == "whole"
    assert [chain.run for chain in report.chains] == ["run-3", "run-2", "run-1"]
    for chain in report.chains:
        assert {step.run for step in chain.steps} == {chain.run}
    assert report.chains[0].steps[0].record == "other/pipeline/Quantizer/provenance/5.intoto.json"


def test_lineage_of_file_counts_runs_beyond_the_limit(make_run, model: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "out" / "pipeline", run="run-2", first=20, day=2)

    report = lineage_of_file(open_graph(tmp_path), model, max_chains=1)

    assert [chain.run for chain in report.chains] == ["run-2"]
    assert report.more_chains == 1


def test_lineage_of_file_does_not_count_a_cached_run_as_an_origin(run, model: Path, tmp_path: Path) -> None:
    run.again("run-2")

    [chain] = lineage_of_file(open_graph(tmp_path / "out"), model).chains

    assert chain.run == "run-1"
    assert chain.served == ["Quantizer/provenance/10.intoto.json"]


def test_lineage_of_an_unrecorded_file_is_unknown(run, tmp_path: Path) -> None:  # noqa: ARG001
    (tmp_path / "x.tflite").write_bytes(b"other")

    report = lineage_of_file(open_graph(tmp_path / "out"), tmp_path / "x.tflite")

    assert report.status == "unknown"
    assert report.chains == []


def test_lineage_of_a_changed_file_names_the_possible_original(run, tmp_path: Path) -> None:
    copy = Path(shutil.copy(run.path("Quantizer.models", "large-int8.tflite"), tmp_path / "x.tflite"))
    flip(copy)

    report = lineage_of_file(open_graph(tmp_path / "out"), copy)

    assert report.status == "unknown"
    [problem] = report.problems
    assert problem.where == str(copy)
    assert "so this may be a changed copy of it" in problem.reason


def test_lineage_of_file_names_a_record_with_a_flipped_byte(run, model: Path, tmp_path: Path) -> None:
    record = tmp_path / "out" / "pipeline" / run.records["Distiller"]
    flip(record, record.read_bytes().index(b"distill_epochs"))

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "tampered"
    assert {problem.where for problem in report.problems} == {"Distiller/provenance/3.intoto.json"}


def test_lineage_of_file_detects_a_resealed_record_by_the_next_record(run, model: Path, tmp_path: Path) -> None:
    record = tmp_path / "out" / "pipeline" / run.records["Distiller"]

    def change(tree) -> None:
        tree["predicate"]["buildDefinition"]["externalParameters"]["distill_epochs"] = 300

    rewrite(record, change)
    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == ["Distiller/provenance/3.intoto.json"]
    assert "replaced" in report.problems[0].reason


def test_lineage_of_file_detects_a_change_that_keeps_size_and_time(run, model: Path, tmp_path: Path) -> None:
    open_graph(tmp_path / "out").index.close()
    record = tmp_path / "out" / "pipeline" / run.records["Distiller"]
    times = record.stat()
    flip(record, record.read_bytes().index(b"distill_epochs"))
    os.utime(record, ns=(times.st_atime_ns, times.st_mtime_ns))

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "tampered"
    assert "Distiller/provenance/3.intoto.json" in {problem.where for problem in report.problems}


def test_lineage_of_file_notes_an_unrelated_broken_record(make_run, model: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "out" / "pipeline", run="run-2", first=20, teacher=b"other")
    (tmp_path / "out" / "pipeline" / other.records["Pruner"]).write_bytes(b'{"cut')

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "whole"
    assert len(report.chains) == 1
    [problem] = report.problems
    assert (problem.kind, problem.where) == ("note", "Pruner/provenance/23.intoto.json")
    assert "must be a provenance record" in problem.reason


def test_lineage_of_file_accepts_unknown_fields(run, model: Path, tmp_path: Path) -> None:
    record = tmp_path / "out" / "pipeline" / run.records["StudentSelector"]
    rewrite(record, lambda tree: tree["predicate"].update(theirs={"a": 1}))

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "whole"
    assert json.loads(record.read_text())["predicate"]["theirs"] == {"a": 1}


def test_lineage_of_file_is_incomplete_when_a_record_is_missing(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "pipeline" / run.records["Distiller"]).unlink()

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "incomplete"
    assert [problem.where for problem in report.problems] == ["Distiller/provenance/3.intoto.json"]
    # Pruner read the same examples and logits, so the teacher is still found.
    nodes = [step.node for step in report.chains[0].steps]
    assert nodes == ["Quantizer", "Pruner", "TeacherImporter", "ImageExampleGen"]
    assert report.chains[0].teacher is not None


def test_lineage_of_file_uses_another_record_with_the_same_output(make_run, run, model: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "out" / "pipeline", run="run-2", first=20)
    (tmp_path / "out" / "pipeline" / run.records["Distiller"]).unlink()

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "incomplete"
    chain = next(chain for chain in report.chains if chain.run == "run-1")
    assert "Distiller/provenance/22.intoto.json" in [step.record for step in chain.steps]


def test_lineage_of_file_reports_a_cycle_and_terminates(run, model: Path, tmp_path: Path) -> None:
    record = tmp_path / "out" / "pipeline" / run.records["ImageExampleGen"]
    pruned = run.outputs["Pruner.pruned_students"]

    def add_input(tree) -> None:
        tree["predicate"]["buildDefinition"]["resolvedDependencies"].append(
            {
                "name": "loop",
                "uri": pruned.uri,
                "digest": {"sha256Tree": pruned.digest},
                "annotations": {"input": "loop", "index": 0, "type": "T", "record": run.records["Pruner"]},
            }
        )

    rewrite(record, add_input)
    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "tampered"
    assert any("among its own sources" in problem.reason for problem in report.problems)
    assert sorted(step.node for step in report.chains[0].steps) == sorted(STEPS)


def test_lineage_of_file_ignores_a_changed_manifest(run, model: Path, tmp_path: Path) -> None:
    manifest = run.path("TeacherImporter.teacher", "manifest.json")
    manifest.write_text(manifest.read_text().replace("0.96", "0.99"))

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "tampered"
    assert [problem.where for problem in report.problems] == ["TeacherImporter/teacher/2/manifest.json"]
    assert report.chains[0].teacher.manifest is None
    assert report.chains[0].teacher.sha256 == "1057a9604e04b274da5a4de0c8f4b4868d9b230989f8c8c6a28221143cc5a755"


def test_lineage_of_file_needs_only_the_records(run, model: Path, tmp_path: Path) -> None:
    for node in run.records:
        for folder in (tmp_path / "out" / "pipeline" / node).iterdir():
            if folder.name != "provenance":
                shutil.rmtree(folder)

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "incomplete"
    assert [step.node for step in report.chains[0].steps] == STEPS


def test_open_graph_refuses_a_location_without_records(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match=r"must hold provenance records .*found none\. Name the location"):
        open_graph(tmp_path)


def test_open_graph_refuses_an_unknown_url_scheme() -> None:
    with pytest.raises(LineageError, match=r"^nosuch://x must be a folder or a URL that fsspec knows"):
        open_graph("nosuch://x")


def test_lineage_of_file_refuses_an_unreadable_file(run, tmp_path: Path) -> None:  # noqa: ARG001
    with pytest.raises(LineageError, match=r"none\.tflite must be a readable file"):
        lineage_of_file(open_graph(tmp_path / "out"), tmp_path / "none.tflite")


@pytest.mark.parametrize("damage", ["cut", "foreign", "gone", "version"])
def test_index_is_rebuilt_when_damaged(run, model: Path, tmp_path: Path, damage: str) -> None:  # noqa: ARG001
    index = tmp_path / "out" / "pipeline" / INDEX_FILE
    if damage == "cut":
        index.write_bytes(index.read_bytes()[:5000])
    elif damage == "foreign":
        index.write_bytes(b"no database at all" * 100)
    elif damage == "gone":
        index.unlink()
    else:
        import sqlite3

        with sqlite3.connect(index) as database:
            database.execute("PRAGMA user_version = 99")

    assert lineage_of_file(open_graph(tmp_path / "out"), model).status == "whole"
    assert index.exists() == (damage != "gone")


def test_lineage_of_file_detects_a_wrong_index(run, model: Path, tmp_path: Path) -> None:  # noqa: ARG001
    import sqlite3

    with sqlite3.connect(tmp_path / "out" / "pipeline" / INDEX_FILE) as database:
        database.execute("UPDATE files SET record = 1 WHERE path = 'large-int8.tflite'")

    report = lineage_of_file(open_graph(tmp_path / "out"), model)

    assert report.status == "whole"
    assert report.chains[0].made_by == "Quantizer/provenance/5.intoto.json"


def test_find_records_near_searches_above_the_file_and_in_the_working_directory(run, tmp_path: Path) -> None:
    models = tmp_path / "out" / "models"
    models.mkdir()
    shutil.copy(run.path("Quantizer.models", "large-int8.tflite"), models / "x.tflite")

    assert find_records_near(models / "x.tflite", tmp_path) == tmp_path / "out" / "pipeline"
    assert (
        find_records_near(run.path("Quantizer.models", "large-int8.tflite"), tmp_path) == tmp_path / "out" / "pipeline"
    )
    assert find_records_near(Path("/x.tflite"), tmp_path) == tmp_path
    assert find_records_near(Path("/x.tflite"), models) is None


def test_queries_import_neither_tensorflow_nor_tfx(model: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from learn2compress.lineage import graph\n"
        "from learn2compress.lineage.queries import diff, history, impact, trace, verify\n"
        f"opened = graph.open_graph({str(tmp_path / 'out')!r})\n"
        f"traced = trace.lineage_of_file(opened, Path({str(model)!r}))\n"
        f"print(traced.status, impact.impact_of(opened, {str(model)!r}).status)\n"
        "heavy = ('tensorflow', 'tfx', 'apache_beam', 'ml_metadata', 'keras', 'tf_keras', 'fsspec')\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["whole whole", "[]"]


def test_lineage_of_file_includes_figures_measured_after_collection(make_run, tmp_path: Path) -> None:
    run = make_run(tmp_path / "out" / "pipeline")
    models = "learn2compress.OnDeviceModelSet"
    files = {name: f"TFL3 {name}".encode() for name in ("small", "large")}

    def entry(name: str) -> dict:
        sha256 = hashlib.sha256(files[name]).hexdigest()
        return {"name": name, "student": name, "file": {"path": f"{name}.tflite", "sha256": sha256}}

    for name, content in files.items():
        inside = {f"{name}.tflite": content, "manifest.json": {"models": [entry(name)]}}
        run.node(f"Quantizer-{name}", ["Pruner.pruned_students"], {"models": (models, inside)}, {"student": name})
    together = {f"{name}.tflite": content for name, content in files.items()}
    together["manifest.json"] = {"models": [entry(name) for name in files]}
    sources = [f"Quantizer-{name}.models" for name in files]
    run.node("StudentCollector", sources, {"models": (models, together)}, {})
    candidates = [
        {"name": name, "sha256": entry(name)["file"]["sha256"], "figures": {"test": {"top1": 0.5}}} for name in files
    ]
    run.node(
        "TFLiteEvaluator", ["StudentCollector.models"],
        {"evaluation": ("learn2compress.ModelEvaluation", {"evaluation.json": {"host": {}, "candidates": candidates}})},
        {},
    )  # fmt: skip

    report = lineage_of_file(open_graph(tmp_path / "out"), run.path("Quantizer-small.models", "small.tflite"))

    [chain] = report.chains
    assert report.status == "whole"
    assert [step.node for step in chain.steps] == ["Quantizer-small", *STEPS[1:]]
    assert chain.copies == [f"StudentCollector/models/{run.execution - 2}/small.tflite"]
    assert [one.figures["name"] for one in chain.measurements] == ["small"]
    assert [(one.name, one.test_accuracy) for one in chain.siblings] == [("large", 0.5)]
