# SPDX-License-Identifier: Apache-2.0
import json
import random
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.runs.terminal import in_a_terminal

from learn2compress.api.results import pick as pick_in_python
from learn2compress.api.results import what_if
from learn2compress.evaluation.predictions import ModelPredictions, SplitPredictions, write_predictions
from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.mlmd.address import connection_config
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.pipeline.picking import pick
from learn2compress.report.assembly import write_report
from learn2compress.schemas.config import SelectConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import Learn2CompressError, LineageError, ModelFileError, OutputError, SelectionError
from learn2compress.schemas.manifests import read_manifest, write_manifest
from learn2compress.schemas.provenance import LOCK_FILE, parse_statement
from learn2compress.schemas.reports import Choice, Report
from learn2compress.storage.location import open_location


@pytest.fixture
def output(tmp_path, make_report, described, write_examples):
    """Folder of a finished run: files, evaluation, report, and a metadata store that contains the evaluation."""
    report, thumbnails = make_report(images=200)
    (tmp_path / "models").mkdir()
    candidates = []
    for candidate in report.evaluation.candidates:
        path = tmp_path / "models" / candidate.file
        described(path, candidate)
        candidates.append(candidate.model_copy(update={"sha256": file_sha256(path)}))
    report = report.model_copy(update={"evaluation": report.evaluation.model_copy(update={"candidates": candidates})})
    write_examples(tmp_path / "pipeline" / "ImageExampleGen" / "examples" / "1", report)
    older = tmp_path / "pipeline" / "TFLiteEvaluator" / "evaluation" / "3"
    folder = older.with_name("9")
    write_manifest(older, report.evaluation.model_copy(update={"images": {"test": 1}}), "evaluation.json")
    write_manifest(folder, report.evaluation, "evaluation.json")
    (folder / "thumbnails.json").write_text(json.dumps(thumbnails))
    labels = np.zeros(100, int)
    predictions = {c.name: ModelPredictions(labels, np.ones(100)) for c in candidates}
    split = SplitPredictions(np.arange(100), labels, None, predictions)
    write_predictions(folder / "predictions.npz", {"validation": split})
    write_report(tmp_path, report, thumbnails)

    store = open_store(tmp_path)
    artifact = mlmd.Artifact(
        type_id=store.put_artifact_type(mlmd.ArtifactType(name="learn2compress.ModelEvaluation")), uri=str(folder)
    )
    [artifact.id] = store.put_artifacts([artifact])
    for kind, name in (("pipeline", "learn2compress"), ("pipeline_run", "run 1")):
        context = mlmd.Context(type_id=store.put_context_type(mlmd.ContextType(name=kind)), name=name)
        [context.id] = store.put_contexts([context])
        store.put_attributions_and_associations([mlmd.Attribution(artifact_id=artifact.id, context_id=context.id)], [])
    return tmp_path


def open_store(output):
    return MetadataStore(connection_config(None, output))


def test_pick_replaces_the_file_and_the_report(output):
    picked = pick(output, SelectConfig(max_size="40KB"))
    assert picked.report.choice.chosen == "small-int8"
    assert (output / "selected.tflite").read_bytes() == (output / "models" / "small-int8.tflite").read_bytes()
    assert read_manifest(output, Report, "report.json").choice == picked.report.choice
    assert '<span class="quiet">Chosen:</span> small-int8' in (output / "report.html").read_text()


def test_pick_records_the_choice_in_ml_metadata(output):
    picked = pick(output, SelectConfig(max_size="40KB", objective="size"))
    store = open_store(output)
    [execution] = store.get_executions_by_id([picked.execution])
    assert execution.last_known_state == mlmd.Execution.COMPLETE
    assert execution.custom_properties["select_max_size"].int_value == 40_000
    assert execution.custom_properties["select_objective"].string_value == "size"
    assert {(c.type, c.name) for c in store.get_contexts_by_execution(picked.execution)} == {
        ("pipeline", "learn2compress"),
        ("pipeline_run", "run 1"),
        ("node", "learn2compress.Pick"),
    }
    events = store.get_events_by_execution_ids([picked.execution])
    artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    kinds = {e.path.steps[0].key: (e.type, artifacts[e.artifact_id].type) for e in events}
    assert kinds == {
        "evaluation": (mlmd.Event.INPUT, "learn2compress.ModelEvaluation"),
        "selection": (mlmd.Event.OUTPUT, "learn2compress.Selection"),
    }
    [selection] = store.get_artifacts_by_type("learn2compress.Selection")
    assert selection.custom_properties["chosen"].string_value == "small-int8"
    assert read_manifest(selection.uri, Choice, "selection.json") == picked.report.choice
    record = json.loads((output / "pipeline" / "Pick" / "provenance" / f"{picked.execution}.intoto.json").read_text())
    assert record["predicateType"].startswith("https://slsa.dev/provenance")


def test_pick_can_be_repeated_in_a_moved_folder(output):
    pick(output, SelectConfig(max_size="40KB"))
    moved = output.rename(output.with_name("moved"))
    picked = pick(moved, SelectConfig(objective="size", min_accuracy=0.8))
    assert (moved / "selected.tflite").read_bytes() == (
        moved / "models" / f"{picked.report.choice.chosen}.tflite"
    ).read_bytes()
    assert len(open_store(moved).get_artifacts_by_type("learn2compress.Selection")) == 2


def test_pick_writes_the_new_choice_to_the_bundle(output):
    picked = pick(output, SelectConfig(max_size="40KB"))
    with zipfile.ZipFile(output / "bundle.zip") as archive:
        assert archive.read("small-int8.tflite") == picked.selected.read_bytes()
    again = pick(output, SelectConfig(objective="size", min_accuracy=0.84))
    with zipfile.ZipFile(again.bundle) as archive:
        assert archive.read(f"{again.report.choice.chosen}.tflite") == again.selected.read_bytes()
        assert "small-int8.tflite" not in archive.namelist()


def test_pick_removes_the_old_bundle_when_test_images_are_missing(type_in, output):
    pick(output, SelectConfig(max_size="40KB"))
    for shard in output.glob("pipeline/ImageExampleGen/examples/1/Split-test/*"):
        shard.unlink()
    status, out, _ = type_in("pick", output, "--objective", "size")
    assert status == 0
    assert "No app bundle was written, because the test images are not below this folder" in out
    assert not (output / "bundle.zip").exists()


def test_pick_writes_files_and_records_that_agree(output):
    for select in (SelectConfig(max_size="40KB"), SelectConfig(max_size="80KB")):
        pick(output, select)
        report = verify_place(open_graph(output), open_location(output))
        # The fixture writes the evaluation without a record; no other problem is expected.
        assert [problem.where for problem in report.problems if "evaluation/9" not in problem.reason] == []
    path = "Output/provenance/latest.intoto.json"
    record = parse_statement((output / "pipeline" / path).read_bytes(), path)
    assert [made.uri for made in record.outputs][-1] == "../bundle.zip"
    assert [read.type for read in record.inputs] == ["learn2compress.Selection"]
    (output / "bundle.zip").write_bytes(b"another")
    problems = verify_place(open_graph(output), open_location(output)).problems
    assert [problem.where for problem in problems if problem.kind == "tampered"] == ["../bundle.zip"]


def test_pick_changes_nothing_when_no_candidate_satisfies_the_limits(output):
    def contents():
        return {path: path.read_bytes() for path in output.iterdir() if path.is_file() and path.name != LOCK_FILE}

    before = contents()
    with pytest.raises(SelectionError, match="Nearest: small-int8 is"):
        pick(output, SelectConfig(max_size=10))
    assert contents() == before


def break_report(output):
    (output / "report.json").unlink()


def break_evaluation(output):
    (output / "pipeline" / "TFLiteEvaluator" / "evaluation" / "9" / "evaluation.json").unlink()


def break_model(output):
    (output / "models" / "small-int8.tflite").write_bytes(b"other")


def break_database(output):
    (output / "metadata.db").unlink()


def break_thumbnails(output):
    (output / "pipeline" / "TFLiteEvaluator" / "evaluation" / "9" / "predictions.npz").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (break_report, OutputError, r"must hold a finished run; there is no report\.json"),
        (break_evaluation, OutputError, r"it is in none of 1 folders"),
        (break_model, ModelFileError, r"small-int8\.tflite must be the file that was measured"),
        (break_database, LineageError, r"store of the run must be known; got no .*metadata\.db"),
        (break_thumbnails, Learn2CompressError, r"predictions\.npz must be a file of predictions"),
    ],
)
def test_pick_refuses_an_incomplete_folder(output, damage, error, message):
    damage(output)
    with pytest.raises(error, match=message):
        pick(output, SelectConfig(max_size="40KB"))
    assert not (output / "selected.tflite").exists()


@pytest.mark.parametrize("name", ["metadata.db", "evaluation.json", "predictions.npz", "report.json"])
def test_pick_tells_in_one_line_of_any_damaged_file(type_in, output, name):
    [path] = [path for path in output.rglob(name) if "evaluation/3" not in str(path)]
    whole, chance = path.read_bytes(), random.Random(name)

    for _ in range(8):
        raw = bytearray(whole)
        for _ in range(chance.choice([1, 30])):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(raw[: chance.choice([len(raw), chance.randrange(len(raw))])])
        status, _, told = type_in("pick", output, "--max-size", "40KB")  # a traceback would be an error here

        assert status in (0, 2, 3)
        told = "".join(line for line in told.splitlines(True) if not line.startswith("note: "))
        assert told.count("\n") == (1 if status else 0)


def test_pick_tells_in_one_line_of_a_folder_that_cannot_be_written(type_in, output, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("learn2compress.pipeline.picking.copy_whole", refuse)
    status, _, told = type_in("pick", output, "--max-size", "40KB")

    assert (status, told.count("\n")) == (2, 1)
    assert f"output {output} must be readable and writable; [Errno 13] Permission denied. Change" in told


def test_pick_refuses_a_store_without_the_evaluation(output):
    (output / "metadata.db").unlink()
    store = open_store(output)
    store.put_artifact_type(mlmd.ArtifactType(name="learn2compress.ModelEvaluation"))
    with pytest.raises(LineageError, match=r"must contain the evaluation in .*/evaluation/9; it does not"):
        pick(output, SelectConfig(max_size="40KB"))


def test_pick_requires_the_address_when_the_report_hides_its_password(output):
    tree = json.loads((output / "report.json").read_text())
    tree["config"] = {"pipeline": {"metadata": "mysql://me:***@host/db"}}
    (output / "report.json").write_text(json.dumps(tree))
    with pytest.raises(LineageError, match=r"got mysql://me:\*\*\*@host/db\. Give its address by --metadata"):
        pick(output, SelectConfig(max_size="40KB"))


def test_pick_command_prints_the_verdict_on_each_file(type_in, output):
    status, out, _ = type_in("pick", output, "--max-size", "40KB")
    assert status == 0
    assert "the only one that satisfies max_size 40 KB" in out
    assert "over limit  large-int8" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--max-size", "10B"], 3, "Nearest: small-int8"),
        (["--max-size", "60 kb/s"], 2, "--max-size: A size must be a whole number with one of the units"),
        (["--min-accuracy", "90"], 2, "--min-accuracy is wrong: input should be less than or equal to 1; got '90'"),
        (
            ["--objective", "speed"],
            2,
            "--objective is wrong: input should be 'accuracy', 'accuracy_strict', 'size', 'latency' or 'knee'",
        ),
    ],
)
def test_pick_command_exits_with_the_documented_status(type_in, output, arguments, status, message):
    found, _, err = type_in("pick", output, *arguments)
    assert found == status
    assert message in err


def test_pick_imports_neither_tensorflow_nor_tfx(output):
    code = (
        "import sys\n"
        "from learn2compress.pipeline.picking import pick\n"
        "from learn2compress.schemas.config import SelectConfig\n"
        f"pick({str(output)!r}, SelectConfig(max_size=40000))\n"
        "sys.exit(any(name.split('.')[0] in {'tensorflow', 'tfx', 'apache_beam', 'plotly'} for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pick_repeats_what_may_be_wrong_with_the_validation_figures(output, type_in):
    report = read_manifest(output, Report, "report.json")
    note = "Teacher: it scores 100.0% on validation images and 97.1% on test images"
    write_manifest(output, report.model_copy(update={"notes": [note]}), "report.json")
    status, _, err = type_in("pick", output, "--objective", "size")
    assert status == 0
    assert f"note: {note}" in err
    assert note in (output / "report.html").read_text(encoding="utf-8")


def test_pick_command_without_limits_shows_what_would_be_chosen_and_changes_nothing(type_in, output):
    before = (output / "report.json").read_bytes()

    status, out, _ = type_in("pick", output)

    assert status == 0
    assert (output / "report.json").read_bytes() == before
    assert not (output / "selected.tflite").exists()
    head, *rows = [line for line in out.splitlines() if " size " in line or "--m" in line][0:]
    assert head.split() == ["limits", "model", "size", "validation", "latency"]
    chosen = read_manifest(output, Report, "report.json").choice.chosen
    assert f"at present {chosen}, marked *" in out
    assert rows
    assert all(chosen in row for row in rows if row.startswith("*"))
    assert f"Choose: learn2compress pick {output} with the options of a row" in out


def test_what_if_gives_the_arguments_that_pick_its_model(output):
    table = what_if(output)

    for row in (table[0], table[-1]):
        assert pick_in_python(output, **row.limits).best.name == row.model.name
    assert table.to_dicts()[0]["limits"] == table[0].limits
    name, value = next(iter(table[0].limits.items()))
    assert f'{name}="{value}"' in repr(table)


def test_pick_command_refuses_to_ask_without_a_terminal(type_in, output):
    status, _, err = type_in("pick", output, "--interactive")

    assert status == 2
    assert "--interactive must be used in a terminal; got none. Give the limits as options." in err


def test_pick_command_asks_in_a_terminal_until_the_choice_is_accepted(output):
    ten = ["10B", "", "", "", ""]  # no file is as small
    much = ["60 kb/s", "", "", "", ""]
    forty = ["40KB", "", "", "", "", "n"]
    again = ["", "none", "", "0.8", "size", "y"]

    status, shown = in_a_terminal(["pick", output, "--interactive"], [*ten, *much, *forty, *again])

    assert status == 0, shown
    assert "Which file would be chosen" in shown
    assert "A candidate must satisfy max_size 10 B; none of 6 does." in shown
    assert "--max-size: A size must be a whole number" in shown
    assert "small-int8: the only one that satisfies max_size 40 KB" in shown
    choice = read_manifest(output, Report, "report.json").choice
    assert (choice.limits.max_size, choice.limits.min_accuracy, choice.objective) == (40_000, 0.8, "size")
    assert f"{choice.chosen} was written to" in shown


def test_pick_command_in_a_terminal_changes_nothing_when_it_is_left(output):
    before = (output / "report.json").read_bytes()

    status, shown = in_a_terminal(["pick", output, "-i"], ["40KB", "", "", "", "", "q"])

    assert status == 0
    assert shown.rstrip().endswith("Nothing was changed.")
    assert (output / "report.json").read_bytes() == before
