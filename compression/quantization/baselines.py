# SPDX-License-Identifier: Apache-2.0
"""The teacher's own files beside the students': what plain conversion would have given.

They are measured as all files are and never chosen. A teacher that cannot be converted is no reason to stop: what
stands in the way is kept as a note.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from learn2compress.compression.quantization.on_device import PIXELS, write_file
from learn2compress.compression.quantization.qat import representative_ids_digest
from learn2compress.compression.quantization.teacher_conversion import convert_teacher
from learn2compress.compression.teacher.classifier import LoadedTeacher, load_teacher
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.manifests import (
    Calibration,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    TeacherManifest,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.progress import Task
from learn2compress.tflite.model_file import Int8Proof, prove_full_int8

STUDENT = "teacher"  # what stands for a student's name in these files' names


def add_baselines(
    folder: str | Path,
    manifest: OnDeviceModelSetManifest,
    teacher_folder: str | Path,
    variants: Sequence[str],
    images: Sequence[np.ndarray],
    ids: Sequence[str],
) -> OnDeviceModelSetManifest:
    """Adds the teacher's files to an `OnDeviceModelSet` on disk.

    Args:
        folder: Of the artifact.
        manifest: Of what it holds.
        teacher_folder: Of the `Teacher`.
        variants: Which files to write: float32, float16, dynamic, int8.
        images: Representative training images, each [h, w, c] uint8.
        ids: Their ids.

    Returns:
        The manifest with the files, and a note for each that could not be made.
    """
    if not variants:
        return manifest
    folder, task = Path(folder), manifest.task
    if any(model.student == STUDENT for model in manifest.models):
        return _finish(folder, manifest, [], [f"the teacher was not converted: a student is called {STUDENT} too"])
    models, notes = [], []
    teacher = open_imported(teacher_folder)
    calibration = Calibration(images=len(ids), digest=representative_ids_digest(list(ids)))
    progress = Task("converting the teacher", len(variants))
    for variant in variants:
        name = f"{STUDENT}-{variant}"
        try:
            converted = convert_teacher(teacher, task, variant, images)
        except TeacherError as error:
            notes.append(str(error))
            progress.advance(detail=f"{name}: {error}")
            continue
        file = write_file(folder, name, converted, task, "the teacher as it is, converted by Learn2Compress", PIXELS)
        proof = prove_full_int8(converted.facts)
        if variant == "int8" and not proof.holds:
            notes.append(_not_full(name, proof))
        models.append(
            OnDeviceModel(
                name=name,
                student=STUDENT,
                variant=variant,
                file=file,
                calibration=calibration if variant == "int8" else None,
                full_int8=proof.holds,
                baseline=True,
            )
        )
        progress.advance(detail=f"{name}: {file.bytes:,} bytes")
    return _finish(folder, manifest, models, notes)


def open_imported(folder: str | Path) -> LoadedTeacher:
    """Loads the teacher of a `Teacher` as its importer understood it."""
    manifest = read_manifest(folder, TeacherManifest)
    return load_teacher(
        Path(folder, manifest.model),
        scaling=manifest.scaling,
        signature=manifest.signature,
        output_name=manifest.output_name,
        class_order=manifest.class_order,
        resize=manifest.resize,
        example_shape=manifest.task.input_shape,
        modality=modality_of(manifest.task),
    )


def _not_full(name: str, proof: Int8Proof) -> str:
    return f"{name} is not full int8, for TensorFlow Lite cannot do all of it in 8 bits: {'; '.join(proof.reasons)}"


def _finish(
    folder: Path, manifest: OnDeviceModelSetManifest, models: list[OnDeviceModel], notes: list[str]
) -> OnDeviceModelSetManifest:
    manifest = manifest.model_copy(update={"models": [*manifest.models, *models], "notes": [*manifest.notes, *notes]})
    write_manifest(folder, manifest)
    return manifest
