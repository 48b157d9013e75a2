# SPDX-License-Identifier: Apache-2.0
"""Writes the outputs of Distiller for a jointly trained teacher: the model, and its logits for the later nodes."""

import time
from pathlib import Path

import apache_beam as beam
from tfx import types

from learn2compress.components.beam.teacher_inference import (
    SPLITS,
    accuracy_of,
    import_config_of,
    run_teacher_inference,
)
from learn2compress.components.node import Execution
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.training.joint_teacher import TeacherInLoop
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.files.whole import copy_whole
from learn2compress.schemas.manifests import (
    DataManifest,
    TeacherLogitsManifest,
    TeacherManifest,
    TrainedTeacherManifest,
    read_manifest,
    write_manifest,
)


def write_trained(
    execution: Execution, loop: TeacherInLoop, pipeline: beam.Pipeline, epochs: int, forward_passes: int
) -> TeacherManifest:
    """Writes the jointly trained teacher, and its logits on the views on which the students were trained.

    Args:
        execution: Execution of Distiller, with the outputs `trained_teacher` and `trained_teacher_logits`.
        loop: Teacher with the weights of the best epoch.
        pipeline: Beam pipeline for the logits; not yet run.
        epochs: Number of epochs for which the teacher was trained.
        forward_passes: Number of images in its forward passes during the training.

    Returns:
        The manifest of the trained teacher.
    """
    examples = execution.uri("examples")
    data = read_manifest(examples, DataManifest)
    imported = read_manifest(execution.uri("teacher"), TeacherManifest)
    imported_logits = read_manifest(execution.uri("teacher_logits"), TeacherLogitsManifest)
    output, logits = execution.output("trained_teacher"), execution.output("trained_teacher_logits")
    folder = Path(output.uri)
    file = f"model/{loop.save(folder / 'model')}"
    path = folder / file
    for encoding in filter(None, (imported.tokenizer, imported.vocabulary)):
        (folder / encoding.path).parent.mkdir(exist_ok=True)
        copy_whole(Path(execution.uri("teacher"), encoding.path), folder / encoding.path)
    # A model of several outputs was saved with the one that the students learn from.
    about = imported.model_copy(
        update={
            "model": file,
            "sha256": path_sha256(path),
            "bytes": path.stat().st_size,
            "signature": None,
            "output_name": None,
            "accuracy": {},
        }
    )
    # Inference uses the saved file, not the model in memory, so that the logits belong to the recorded digest.
    reopened = import_config_of(folder, about)
    teacher = open_teacher(reopened, data.task)
    began = time.monotonic()
    counts = run_teacher_inference(pipeline, reopened, data, examples, logits.uri, imported_logits.recipe)
    about = about.model_copy(
        update={
            "accuracy": accuracy_of(counts),
            "format": teacher.format,
            "parameters": teacher.parameters,
            "macs": teacher.macs,
        }
    )
    trained_logits = imported_logits.model_copy(
        update={
            "teacher_sha256": about.sha256,
            "shards": data.shards,
            "images": {split: counts[split].images for split in SPLITS},
            "features": None,
            "forward_passes": counts["train"].forward_passes,
            "check_passes": counts["validation"].forward_passes + counts["test"].forward_passes,
            "flip_accuracy": None,
            "seconds": round(time.monotonic() - began, 3),
        }
    )
    write_manifest(logits.uri, trained_logits)
    manifest = TrainedTeacherManifest(
        mode="joint",
        imported_sha256=imported.sha256,
        teacher=about,
        learning_rate=loop.recipe.learning_rate,
        mutual_weight=loop.recipe.mutual_weight,
        epochs=epochs,
        best_epoch=int(loop.best_epoch.numpy()),
        forward_passes=forward_passes,
    )
    _describe(output, manifest, about)
    _describe_logits(logits, trained_logits)
    return about


def _describe(artifact: types.Artifact, manifest: TrainedTeacherManifest, teacher: TeacherManifest) -> None:
    write_manifest(artifact.uri, manifest)
    artifact.set_string_custom_property("mode", manifest.mode)
    artifact.set_string_custom_property("imported_sha256", manifest.imported_sha256)
    artifact.set_string_custom_property("sha256", teacher.sha256)
    artifact.set_string_custom_property("format", teacher.format)
    artifact.set_int_custom_property("best_epoch", manifest.best_epoch)
    artifact.set_int_custom_property("forward_passes", manifest.forward_passes)
    for split, accuracy in teacher.accuracy.items():
        artifact.set_float_custom_property(f"{split}_accuracy", accuracy)


def _describe_logits(artifact: types.Artifact, manifest: TeacherLogitsManifest) -> None:
    artifact.set_string_custom_property("teacher_sha256", manifest.teacher_sha256)
    artifact.set_string_custom_property("data_digest", manifest.data_digest)
    artifact.set_int_custom_property("views", manifest.recipe.count)
    artifact.set_int_custom_property("forward_passes", manifest.forward_passes)
