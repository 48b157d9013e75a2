# SPDX-License-Identifier: Apache-2.0
"""Writes the .tflite files: every student in every variant, converted, compacted, with labels, and verified.

A file that is called full int8 was checked: it has no float tensor, and integer input and output. Each file is parsed
once, after conversion, and packed once, when it is written; its description is read from the parsed objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.quantization.conversion import (
    INTEGER_TYPES,
    OUTPUT_NAME,
    convert_float,
    convert_mixed,
    convert_post_training,
    convert_quantization_aware,
)
from learn2compress.compression.quantization.qat import (
    after_training_layers,
    describe_layers,
    representative_ids_digest,
)
from learn2compress.compression.training.history.curves import write_curves
from learn2compress.compression.training.history.event_files import write_events
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import (
    Calibration,
    Epoch,
    File,
    LayerQuantization,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    StudentSetManifest,
    Task,
    write_manifest,
)
from learn2compress.schemas.progress import Task as Progress
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.model_file import prove_full_int8
from learn2compress.tflite.parsed_file import ParsedFile

PIXELS = Scaling.named("none")


@dataclass(frozen=True)
class QuantizedFamily:
    """A family in float and, after quantization-aware training, with the learned ranges.

    Attributes:
        floating: Float model with an output for each student.
        aware: Quantization-aware model with an output for each student that was trained; None: there was no such
            training.
        students: Names of the students.
        learned: Names of the students with quantization-aware training; None: all of them.
        dictionary: Dictionary of students of texts; None for other students.
    """

    floating: keras.Model
    aware: keras.Model | None
    students: tuple[str, ...]
    learned: tuple[str, ...] | None = None
    dictionary: bytes | None = None


def write_models(
    folder: str | Path,
    family: QuantizedFamily,
    source: StudentSetManifest,
    variants: Sequence[str],
    images: Sequence[np.ndarray],
    ids: Sequence[str],
    curves: Sequence[Epoch],
) -> OnDeviceModelSetManifest:
    """Writes an `OnDeviceModelSet`.

    Args:
        folder: Artifact directory.
        family: Students.
        source: Manifest of the `StudentSet` that the students are from.
        variants: Variants to write of each student.
        images: Representative training images, each [h, w, c] uint8.
        ids: Ids of these images.
        curves: Epochs of all trainings so far.

    Returns:
        The manifest of the artifact.

    Raises:
        ModelFileError: A file that must be full int8 has a float tensor.
        DataError: There are no images for the ranges of an integer file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    floating = cut_students(family.floating, family.students)
    inputs = modality_of(source.task).student_input
    learned = family.students if family.learned is None else family.learned
    aware = cut_students(family.aware, learned) if family.aware is not None else {}
    plans = {student.name: student.preflight for student in source.students}
    calibration = Calibration(images=len(ids), digest=representative_ids_digest(list(ids)))
    task = Progress("converting", len(family.students) * len(variants))
    models = []
    for student in family.students:
        own = inputs.of_student(floating[student])
        for variant in variants:
            kind = variant
            if variant not in INTEGER_TYPES:
                converted, layers = convert_float(floating[student], variant, own), []
            elif student in aware:
                converted = convert_quantization_aware(aware[student], variant)
                layers = describe_layers(family.aware, floating[student], plans[student])
            elif source.module is not None or source.trunk is not None:
                # Some layers of a user or of the teacher may have no 8-bit implementation; the file's name says so.
                converted = convert_mixed(floating[student], variant, images, own)
                full = prove_full_int8(converted.facts).holds
                kind = variant if full else f"{variant}-mixed"
                layers = after_training_layers(floating[student], plans[student], full)
            else:
                converted = convert_post_training(floating[student], variant, images, own)
                layers = after_training_layers(floating[student])
            made = _Made(kind, layers, calibration, family.dictionary)
            model = _write_model(folder, student, converted, made, source)
            models.append(model)
            task.advance(detail=f"{model.name}: {model.file.bytes:,} bytes")
    manifest = OnDeviceModelSetManifest(
        task=source.task,
        normalization=source.normalization,
        teacher_sha256=source.teacher_sha256,
        models=models,
        curves=write_curves(folder, curves),
        events=write_events(folder, curves),
        seed=source.seed,
    )
    write_manifest(folder, manifest)
    return manifest


class _Made(NamedTuple):
    """How a file was made."""

    variant: str
    layers: list[LayerQuantization]
    calibration: Calibration
    dictionary: bytes | None


def _write_model(
    folder: Path, student: str, converted: ParsedFile, made: _Made, source: StudentSetManifest
) -> OnDeviceModel:
    variant, layers, calibration, dictionary = made
    name = f"{student}-{variant}"
    full, integer = variant in INTEGER_TYPES, variant.removesuffix("-mixed") in INTEGER_TYPES
    file = write_file(
        folder,
        name,
        converted,
        source.task,
        "distilled by Learn2Compress",
        # A float file normalizes its input, which is pixels; in an integer file the scale of the input normalizes.
        source.normalization if integer else PIXELS,
        dictionary,
    )
    proof = prove_full_int8(converted.facts)
    if full and not proof.holds:
        raise ModelFileError(
            f"{name} must be full {variant}; {'; '.join(proof.reasons)}. Leave {variant} out of quantize.variants."
        )
    return OnDeviceModel(
        name=name,
        student=student,
        variant=variant,
        file=file,
        layers=layers,
        calibration=calibration if integer else None,
        full_int8=proof.holds,
    )


def write_file(
    folder: Path,
    name: str,
    converted: ParsedFile,
    task: Task,
    made: str,
    normalization: Scaling,
    dictionary: bytes | None = None,
) -> File:
    """Writes a .tflite file with labels and normalization as metadata.

    Args:
        folder: Artifact directory.
        name: Name of the file without its suffix: student-variant.
        converted: Model, into which the metadata are written.
        task: Task, whose classes are the labels.
        made: Origin of the model, for the description in the metadata.
        normalization: Normalization of the input: (pixel - mean) / std.
        dictionary: Dictionary of a student of texts.

    Returns:
        Path, digest and size of the file.
    """
    modality_of(task).device_format.write_metadata(
        converted,
        name=name,
        made=made,
        labels=task.classes,
        output_name=OUTPUT_NAME,
        normalization=normalization,
        dictionary=dictionary,
    )
    path = f"{name}.tflite"
    write_whole(folder / path, converted.to_bytes())
    return File.of(folder, path)
