# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
from support.nodes import channels, configured
from tfx.components.pusher.executor import Executor as PusherExecutor
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from learn2compress.components.beam.options import user_errors
from learn2compress.components.student_selector import StudentSelector, StudentSelectorExecutor
from learn2compress.evaluation.predictions import ModelPredictions, SplitPredictions, write_predictions
from learn2compress.schemas.artifacts import ModelEvaluation, OnDeviceModelSet, Selection
from learn2compress.schemas.config import SelectConfig
from learn2compress.schemas.errors import ModelFileError, SelectionError
from learn2compress.schemas.manifests import (
    File,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    Task,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.reports import Candidate, Choice, Evaluation, Host, SplitFigures
from learn2compress.schemas.scaling import Scaling

TASK = Task(input_shape=(2, 2, 1), classes=["a", "b"])
LABELS = np.array([0, 1] * 10)


def artifact(kind, folder):
    made = kind()
    made.uri = str(folder)
    return made


def figures(accuracy):
    return SplitFigures(
        images=20,
        top1=accuracy,
        top1_interval={"low": 0, "high": 1},
        topk=1.0,
        k=2,
        per_class=[],
        confusion=[],
        agreement=None,
        lost=None,
        won=None,
        flips=[],
        calibration_error=0.0,
    )


@pytest.fixture
def inputs(tmp_path):
    """Inputs with two files: the larger is wrong on one validation image, the smaller on two."""
    models, evaluation = tmp_path / "models", tmp_path / "evaluation"
    models.mkdir()
    evaluation.mkdir()
    made, candidates, predictions = [], [], {}
    for wrong, (name, size) in enumerate([("large-int8", 300), ("small-int8", 100)], start=1):
        (models / f"{name}.tflite").write_bytes(name[:1].encode() * size)
        file = File.of(models, f"{name}.tflite")
        made.append(OnDeviceModel(name=name, student=name[:5], variant="int8", file=file))
        candidates.append(
            Candidate(
                name=name,
                student=name[:5],
                variant="int8",
                file=file.path,
                sha256=file.sha256,
                bytes=size,
                gzip_bytes=size,
                figures={"validation": figures(1 - wrong / 20), "test": figures(0.25)},
            )
        )
        classes = LABELS.copy()
        classes[:wrong] ^= 1
        predictions[name] = ModelPredictions(classes, np.ones(20))
    (models / "curves.json").write_text("[]")
    write_manifest(
        models,
        OnDeviceModelSetManifest(
            task=TASK,
            normalization=Scaling(),
            teacher_sha256="t",
            models=made,
            curves=File.of(models, "curves.json"),
            seed=0,
        ),
    )
    write_manifest(
        evaluation,
        Evaluation(
            task=TASK,
            host=Host(name="bench", processor="x", cores=2, runtime="r"),
            teacher=None,
            images={"validation": 20, "test": 20},
            candidates=candidates,
        ),
        "evaluation.json",
    )
    split = SplitPredictions(np.arange(20), LABELS, None, predictions)
    write_predictions(evaluation / "predictions.npz", {"validation": split})
    return {
        "evaluation": [artifact(ModelEvaluation, evaluation)],
        "models": [artifact(OnDeviceModelSet, models)],
    }


@pytest.fixture
def outputs(tmp_path):
    return {
        "selection": [artifact(Selection, tmp_path / "selection")],
        "model": [artifact(standard_artifacts.Model, tmp_path / "model")],
        "blessing": [artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")],
    }


def run(inputs, outputs, **select):
    StudentSelectorExecutor().Do(
        inputs, outputs, {**StudentSelector.encode(select=SelectConfig(**select)), "code_version": "1"}
    )


def test_student_selector_writes_the_choice_and_its_properties(inputs, outputs):
    run(inputs, outputs)
    selection = outputs["selection"][0]
    choice = read_manifest(selection.uri, Choice, "selection.json")
    assert choice.chosen == "large-int8"
    assert selection.get_string_custom_property("chosen") == "large-int8"
    assert selection.get_string_custom_property("sha256") == choice.sha256
    assert selection.get_string_custom_property("objective") == "accuracy"
    assert selection.get_float_custom_property("validation_accuracy") == pytest.approx(0.95)
    assert selection.get_float_custom_property("test_accuracy") == pytest.approx(0.25)


def test_student_selector_tests_differences_for_significance(inputs, outputs):
    run(inputs, outputs)
    choice = read_manifest(outputs["selection"][0].uri, Choice, "selection.json")
    verdict = next(v for v in choice.verdicts if v.candidate == "small-int8")
    # One image is correct with the large file only, none with the small one only: p = 2 · 0 + 1/2.
    assert "McNemar p = 0.50)" in verdict.reason


def test_student_selector_applies_the_limits_of_its_parameters(inputs, outputs):
    run(inputs, outputs, max_size="200B")
    choice = read_manifest(outputs["selection"][0].uri, Choice, "selection.json")
    assert (choice.chosen, choice.limits.max_size) == ("small-int8", 200)


def test_student_selector_raises_when_nothing_fits(inputs, outputs):
    with pytest.raises(SelectionError, match="Nearest: small-int8 is 50 B over max_size"):
        run(inputs, outputs, max_size=50)
    assert not Path(outputs["blessing"][0].uri).exists()


def test_student_selector_raises_when_the_file_has_changed_since_the_evaluation(inputs, outputs):
    (Path(inputs["models"][0].uri) / "large-int8.tflite").write_bytes(b"other")
    with pytest.raises(ModelFileError, match=r"large-int8 in .* must be the file that was evaluated"):
        run(inputs, outputs)


def test_student_selector_outputs_are_accepted_by_the_standard_pusher(inputs, outputs, tmp_path):
    run(inputs, outputs)
    pushed = artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    destination = pusher_pb2.PushDestination()
    destination.filesystem.base_directory = str(tmp_path / "served")
    PusherExecutor().Do(
        {"model": outputs["model"], "model_blessing": outputs["blessing"]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    assert pushed.get_int_custom_property("pushed") == 1
    assert [path.name for path in (tmp_path / "served").rglob("*.tflite")] == ["large-int8.tflite"]
    assert (Path(outputs["blessing"][0].uri) / "BLESSED").exists()


def test_student_selector_declares_its_interface():
    config = configured(select=SelectConfig(max_size="60KB", objective="knee"))
    node = StudentSelector(config, channels(StudentSelector), code_version="1")
    assert {name: channel.type_name for name, channel in node.outputs.items()} == {
        "selection": "learn2compress.Selection",
        "model": "Model",
        "blessing": "ModelBlessing",
    }
    assert json.loads(json.dumps(node.exec_properties)) == {
        "select_max_size": 60_000,
        "select_objective": "knee",
        "code_version": "1",
    }


@pytest.mark.e2e
def test_student_selector_error_is_raised_unchanged_by_the_runner(inputs, tmp_path):
    nodes = {
        name: Importer(source_uri=found[0].uri, artifact_type=type(found[0])).with_id(f"import_{name}")
        for name, found in inputs.items()
    }
    imported = {name: node.outputs["result"] for name, node in nodes.items()}
    selector = StudentSelector(configured(select=SelectConfig(max_size=50)), imported, code_version="1")
    pipeline = Pipeline(
        pipeline_name="choice",
        pipeline_root=str(tmp_path / "root"),
        components=[*nodes.values(), selector],
        metadata_connection_config=sqlite_metadata_connection_config(str(tmp_path / "metadata.db")),
    )
    with pytest.raises(SelectionError, match="Nearest: small-int8 is 50 B over max_size"), user_errors():
        LocalDagRunner().run(pipeline)
