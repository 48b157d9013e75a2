# SPDX-License-Identifier: Apache-2.0
"""Counts the forward passes of a fixed teacher over all nodes that learn from it."""

from pathlib import Path

import pytest
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.distiller import Distiller, DistillerExecutor
from learn2compress.components.pruner import Pruner, PrunerExecutor
from learn2compress.components.quantizer import Quantizer, QuantizerExecutor
from learn2compress.components.teacher_importer import TeacherImporter, TeacherImporterExecutor
from learn2compress.compression.training.history.curves import read_curves
from learn2compress.schemas.artifacts import OnDeviceModelSet, StudentSet, Teacher, TeacherLogits
from learn2compress.schemas.config import DistillConfig, PruneConfig, QuantizeConfig, StudentsConfig, TeacherConfig
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.manifests import TeacherLogitsManifest, read_manifest

VIEWS = 2
DISTILL = DistillConfig(epochs=3 * VIEWS, batch_size=32)
COMMON = {"seed": 5, "code_version": "1"}


@pytest.mark.slow
def test_teacher_runs_once_for_each_view_for_any_number_of_epochs(
    inference_counts, imported, stripes_artifacts, stripes, artifact, tmp_path
):
    teacher_file = Path(imported, "model/t.keras")
    before = path_sha256(teacher_file)
    made = {
        key: artifact(kind, tmp_path / f"{key}/1")
        for key, kind in {
            "examples": standard_artifacts.Examples,
            "teacher": Teacher,
            "teacher_logits": TeacherLogits,
            "students": StudentSet,
            "pruned_students": StudentSet,
            "models": OnDeviceModelSet,
        }.items()
    }
    made["examples"].uri = str(stripes_artifacts[0])
    context = BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1))

    def execute(executor, inputs, outputs, **values):
        executor.Do(*({key: [made[name]] for key, name in names.items()} for names in (inputs, outputs)), values)

    def same(*keys):
        return {key: key for key in keys}

    teaching = TeacherConfig(path=str(teacher_file), scaling="unit", views=VIEWS)
    values = TeacherImporter.encode(teacher=teaching) | {"teacher_sha256": before, "features": 0} | COMMON
    execute(TeacherImporterExecutor(context), same("examples"), same("teacher", "teacher_logits"), **values)
    manifest = read_manifest(made["teacher_logits"].uri, TeacherLogitsManifest)
    assert manifest.forward_passes == VIEWS * stripes.COUNTS["train"]
    # A probe of whether the outputs are logits precedes the counted passes.
    probes = sum(inference_counts) - manifest.forward_passes - manifest.check_passes
    assert 0 <= probes <= 64
    after_importer = sum(inference_counts)

    taught = same("examples", "teacher_logits")
    students = StudentsConfig(sizes={"a": {"size_bytes": "5KB"}, "b": {"size_bytes": "7KB"}})
    values = Distiller.encode(students=students, distill=DISTILL, teacher=teaching)
    execute(DistillerExecutor(context), taught | same("teacher"), same("students"), **values, **COMMON)
    values = Pruner.encode(prune=PruneConfig(epochs=VIEWS), distill=DISTILL)
    execute(PrunerExecutor(), taught | same("students"), same("pruned_students"), **values, **COMMON)
    quantize = QuantizeConfig(epochs=VIEWS, variants=["int8"], teacher_variants=[])
    values = Quantizer.encode(quantize=quantize, distill=DISTILL)
    inputs = taught | same("teacher") | {"students": "pruned_students"}
    execute(QuantizerExecutor(), inputs, same("models"), **values, **COMMON)

    stages = [epoch.stage for epoch in read_curves(made["models"].uri)]
    assert [stages.count(stage) for stage in ("distilled", "pruned", "quantized")] == [3 * VIEWS, VIEWS, VIEWS]
    assert sum(inference_counts) == after_importer
    assert path_sha256(teacher_file) == path_sha256(f"{made['teacher'].uri}/model/t.keras") == before
