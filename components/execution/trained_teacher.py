# SPDX-License-Identifier: Apache-2.0
"""What Distiller leaves of the teacher, and which teacher the nodes after it learn from.

A node's outputs are fixed, so the trained teacher and its logits are always there. Where the teacher is fixed they hold
a manifest that says so and nothing else, and the logits of TeacherImporter go on to be the ones that teach.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import apache_beam as beam
from tfx import types
from tfx.types import artifact_utils

from learn2compress.components.beam.teacher_inference import (
    SPLITS,
    accuracy_of,
    ask_teacher,
    open_teacher,
    understanding,
)
from learn2compress.compression.training.joint_teacher import TeacherInLoop
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.manifests import (
    DataManifest,
    TeacherLogitsManifest,
    TeacherManifest,
    TrainedTeacherManifest,
    read_manifest,
    write_manifest,
)


def write_trained(
    loop: TeacherInLoop,
    imported: TeacherManifest,
    asked: TeacherLogitsManifest,
    data: DataManifest,
    examples: str,
    pipeline: beam.Pipeline,
    outputs: Mapping[str, types.Artifact],
    epochs: int,
    forward_passes: int,
) -> TrainedTeacherManifest:
    """Writes the teacher that was trained along, and its logits on the views on which the students saw it.

    Args:
        loop: With the best epoch's weights.
        imported: Manifest of the teacher that it began as.
        asked: Manifest of the logits of that one, for the recipe of the views.
        data: Of the examples.
        examples: Folder of `Examples`.
        pipeline: For the logits; not yet run.
        outputs: The artifacts `trained_teacher` and `trained_teacher_logits`.
        epochs: How many it was trained for.
        forward_passes: Images that it saw meanwhile.
    """
    folder, logits = Path(outputs["trained_teacher"].uri), outputs["trained_teacher_logits"]
    file = f"model/{loop.save(folder / 'model')}"
    path = folder / file
    # Of several outputs it has kept the one that taught.
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
    # What is asked is the file, as anybody would open it.
    reopened = understanding(folder, about)
    teacher = open_teacher(reopened, data.task)
    began = time.monotonic()
    counts = ask_teacher(pipeline, reopened, data, examples, logits.uri, asked.recipe)
    about = about.model_copy(
        update={
            "accuracy": accuracy_of(counts),
            "format": teacher.format,
            "parameters": teacher.parameters,
            "macs": teacher.macs,
        }
    )
    taught = asked.model_copy(
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
    write_manifest(logits.uri, taught)
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
    _describe(outputs["trained_teacher"], manifest)
    _describe_logits(logits, taught)
    return manifest


def write_as_imported(
    imported: TeacherManifest, asked: TeacherLogitsManifest, outputs: Mapping[str, types.Artifact]
) -> None:
    """Says that the teacher is fixed, and that its logits are those of TeacherImporter."""
    manifest = TrainedTeacherManifest(mode="fixed", imported_sha256=imported.sha256)
    _describe(outputs["trained_teacher"], manifest)
    none = {"train": [], "validation": [], "test": []}
    taught = asked.model_copy(
        update={
            "shards": none,
            "images": dict.fromkeys(none, 0),
            "forward_passes": 0,
            "features": None,
            "check_passes": 0,
            "seconds": 0.0,
            "as_imported": True,
        }
    )
    write_manifest(outputs["trained_teacher_logits"].uri, taught)
    _describe_logits(outputs["trained_teacher_logits"], taught)


def teaching_logits(input_dict: Mapping[str, list[types.Artifact]]) -> str:
    """The folder of the logits to learn from: those of the trained teacher, if there is one.

    Args:
        input_dict: With `teacher_logits`, of TeacherImporter, and `trained_teacher_logits`, of Distiller.
    """
    trained = artifact_utils.get_single_uri(input_dict["trained_teacher_logits"])
    if read_manifest(trained, TeacherLogitsManifest).as_imported:
        return artifact_utils.get_single_uri(input_dict["teacher_logits"])
    return trained


def _describe(artifact: types.Artifact, manifest: TrainedTeacherManifest) -> None:
    write_manifest(artifact.uri, manifest)
    artifact.set_string_custom_property("mode", manifest.mode)
    artifact.set_string_custom_property("imported_sha256", manifest.imported_sha256)
    if manifest.teacher is None:
        return
    artifact.set_string_custom_property("sha256", manifest.teacher.sha256)
    artifact.set_string_custom_property("format", manifest.teacher.format)
    artifact.set_int_custom_property("best_epoch", manifest.best_epoch)
    artifact.set_int_custom_property("forward_passes", manifest.forward_passes)
    for split, accuracy in manifest.teacher.accuracy.items():
        artifact.set_float_custom_property(f"{split}_accuracy", accuracy)


def _describe_logits(artifact: types.Artifact, manifest: TeacherLogitsManifest) -> None:
    artifact.set_string_custom_property("teacher_sha256", manifest.teacher_sha256)
    artifact.set_string_custom_property("data_digest", manifest.data_digest)
    artifact.set_int_custom_property("views", manifest.recipe.count)
    artifact.set_int_custom_property("forward_passes", manifest.forward_passes)
