# SPDX-License-Identifier: Apache-2.0
"""Adds plain conversions of the teacher to the students' files, as baselines.

They are measured like all other files and never chosen. If the teacher cannot be converted, the run continues and a
note gives the reason.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from learn2compress.compression.quantization.on_device import PIXELS, write_file
from learn2compress.compression.quantization.qat import representative_ids_digest
from learn2compress.compression.quantization.teacher_conversion import convert_teacher
from learn2compress.compression.teacher.classifier import LoadedTeacher, load_teacher
from learn2compress.compression.training.devices.memory import return_freed_memory
from learn2compress.modalities import InputFiles, modality_of
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

STUDENT = "teacher"  # takes the place of a student's name in the names of these files


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
        folder: Artifact directory.
        manifest: Manifest of the artifact.
        teacher_folder: Artifact directory of the `Teacher`.
        variants: Variants to write: float32, float16, dynamic, int8.
        images: Representative training images, each [h, w, c] uint8.
        ids: Ids of these images.

    Returns:
        The manifest with the files, and a note for each file that could not be written.
    """
    if not variants:
        return manifest
    folder, task = Path(folder), manifest.task
    if any(model.student == STUDENT for model in manifest.models):
        return _finish(folder, manifest, [], [f"the teacher was not converted: a student is named {STUDENT} as well"])
    if task.modality == "text":
        why = "it takes words, which no operator of TensorFlow Lite splits or looks up"
        return _finish(folder, manifest, [], [f"the teacher was not converted: {why}"])
    models, notes = [], []
    teacher = open_imported(teacher_folder)
    calibration = Calibration(images=len(ids), digest=representative_ids_digest(list(ids)))
    progress = Task("converting the teacher", len(variants))
    for variant in variants:
        return_freed_memory()  # the converter takes hundreds of megabytes
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
    """Loads the model of a `Teacher` artifact with the settings in its manifest."""
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
        files=InputFiles(
            Path(folder, manifest.tokenizer.path) if manifest.tokenizer else None,
            Path(folder, manifest.vocabulary.path) if manifest.vocabulary else None,
        ),
        trust=True,  # the import has accepted this copy
    )


def _not_full(name: str, proof: Int8Proof) -> str:
    reasons = "; ".join(proof.reasons)
    return f"{name} is not full int8, since TensorFlow Lite does not support all of it in 8 bits: {reasons}"


def _finish(
    folder: Path, manifest: OnDeviceModelSetManifest, models: list[OnDeviceModel], notes: list[str]
) -> OnDeviceModelSetManifest:
    manifest = manifest.model_copy(update={"models": [*manifest.models, *models], "notes": [*manifest.notes, *notes]})
    write_manifest(folder, manifest)
    return manifest
