# SPDX-License-Identifier: Apache-2.0
"""Ranks the layers of each student by their quantization error, and writes mixed-precision files if enabled."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from learn2compress.compression.family.model import cut_students
from learn2compress.compression.quantization.conversion import INTEGER_TYPES, convert_float, convert_reference
from learn2compress.compression.quantization.layer_error import (
    layers_of_steps,
    name_of_step,
    rank_steps,
    ranking_images,
    whole_error,
)
from learn2compress.compression.quantization.mixed_precision import MixedPrecisionFile, choose_float_layers
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_file
from learn2compress.compression.quantization.qat import without_rounding
from learn2compress.modalities import modality_of
from learn2compress.modalities.protocol import StudentInput
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import (
    FloatFallback,
    LayerError,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    QuantizationError,
    write_manifest,
)
from learn2compress.schemas.progress import Task
from learn2compress.schemas.units import format_points
from learn2compress.tflite.model_file import read_bytes
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.transformations.compaction import compact
from learn2compress.tflite.transformations.splicing import Pair, pair_files

FALLBACK_SUFFIX = "-rescued"  # of a variant with some layers in float; part of file names


@dataclass(frozen=True)
class MixedPrecisionSettings:
    """Settings of mixed-precision files.

    Attributes:
        drop: Largest accepted drop in accuracy from float32 to int8.
        layers: Largest number of layers in float.
        images: Images of the validation split [n, h, w, c] uint8.
        labels: Labels [n] integers.
    """

    drop: float
    layers: int
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class _Ranked:
    """Ranking of the layers of a student's int8 file."""

    pair: Pair
    layers: list[list[str]]
    ranking: list[tuple[int, LayerError]]

    def names(self, steps: Sequence[int]) -> list[str]:
        return [name_of_step(self.layers, step) for step in steps]


def diagnose(
    folder: str | Path,
    manifest: OnDeviceModelSetManifest,
    family: QuantizedFamily,
    images: Sequence[np.ndarray],
    mixed_precision: MixedPrecisionSettings | None = None,
) -> OnDeviceModelSetManifest:
    """Ranks the layers of each student's int8 file, and writes a mixed-precision file if int8 loses too much accuracy.

    Args:
        folder: Artifact directory of an `OnDeviceModelSet` that `write_models` has written.
        manifest: Manifest of the artifact.
        family: Students that the files were converted from.
        images: Representative training images, each [h, w, c] uint8.
        mixed_precision: Settings of mixed-precision files; None: none are written.

    Returns:
        The manifest with the rankings, the mixed-precision files, and notes on them and on files that could not be
        ranked.
    """
    folder = Path(folder)
    if family.dictionary is not None:
        # A file of keys has its rows in another order, and there is only a table and a matrix.
        note = "the layers of a dictionary are not ranked by quantization error"
        manifest = manifest.model_copy(update={"notes": [*manifest.notes, note]})
        write_manifest(folder, manifest)
        return manifest
    integer = [model for model in manifest.models if model.variant.split("-")[0] in INTEGER_TYPES]
    floating, inputs = cut_students(family.floating, family.students), modality_of(manifest.task).student_input
    errors: list[QuantizationError] = []
    mixed: list[OnDeviceModel] = []
    notes: list[str] = []
    task = Task("ranking layers by quantization error", len({model.student for model in integer}))
    for student in dict.fromkeys(model.student for model in integer):
        models = [model for model in integer if model.student == student]
        try:
            found = [_rank(folder, model, family, floating[student], images, inputs, errors) for model in models[:1]]
            found += [
                _rank(folder, model, family, floating[student], images, inputs, None)
                for model in models[1:]
                if mixed_precision
            ]
        except ModelFileError as error:
            notes.append(f"the layers of {student} could not be ranked: {error}")
            task.advance(detail=notes[-1])
            continue
        task.advance(detail=f"{student}: {_worst(errors[-1])}")
        if mixed_precision is not None:
            for model, ranked in zip(models, found, strict=True):
                file, note = _fall_back(folder, manifest, model, ranked, floating[student], mixed_precision)
                mixed += [file] if file else []
                notes.append(note)
    manifest = manifest.model_copy(
        update={
            "models": [*manifest.models, *mixed],
            "quantization_error": errors,
            "notes": [*manifest.notes, *notes],
        }
    )
    write_manifest(folder, manifest)
    return manifest


def _rank(
    folder: Path,
    model: OnDeviceModel,
    family: QuantizedFamily,
    student: keras.Model,
    images: Sequence[np.ndarray],
    inputs: StudentInput,
    errors: list[QuantizationError] | None,
) -> _Ranked:
    """Ranks the layers of a file, and adds the errors to `errors`."""
    learned = family.students if family.learned is None else family.learned
    trained = family.aware is not None and model.student in learned
    # The changes of the weights by quantization-aware training are not rounding errors.
    floating = convert_reference(without_rounding(family.aware, student) if trained else student)
    # The bytes in the artifact are ranked, so the file is read and parsed again.
    pair = pair_files(floating, read_bytes(folder / model.file.path), file=model.name)
    layers = layers_of_steps(pair, student)
    few = ranking_images(pair, pair.floating.facts.macs, images, inputs)
    ranking = rank_steps(pair, [name_of_step(layers, step) for step in range(len(layers))], few)
    if errors is not None:
        sqnr, changed = whole_error(pair, few)
        errors.append(
            QuantizationError(
                student=model.student,
                model=model.name,
                images=len(few),
                logits_sqnr_db=sqnr,
                changed=changed,
                layers=[error for _, error in ranking],
            )
        )
    return _Ranked(pair, layers, ranking)


def _worst(error: QuantizationError) -> str:
    if not error.layers or error.layers[0].logits_sqnr_db is None:
        return "no quantization error"
    return f"largest error in {error.layers[0].layer}: logits SQNR {error.layers[0].logits_sqnr_db:.0f} dB"


def _fall_back(
    folder: Path,
    manifest: OnDeviceModelSetManifest,
    model: OnDeviceModel,
    ranked: _Ranked,
    student: keras.Model,
    settings: MixedPrecisionSettings,
) -> tuple[OnDeviceModel | None, str]:
    """Writes a mixed-precision file if it is needed and helps, and returns it with a note on the result."""
    modality, scaling = modality_of(manifest.task), manifest.normalization

    def accuracy_of(converted: ParsedFile, **options: Any) -> float:
        opened = modality.device_format.open_classifier(converted, **options)
        return float(np.mean(opened.predict(settings.images).argmax(axis=1) == settings.labels))

    accuracy = partial(accuracy_of, scaling=scaling)
    float32 = accuracy_of(convert_float(student, "float32", modality.student_input))
    before = accuracy(ranked.pair.integer)
    on = f"on {len(settings.labels):,} validation images"
    if before >= float32:
        return None, f"{model.name} loses nothing against float32 {on}: mixed precision is not needed"
    lost = f"{model.name} loses {format_points(float32 - before)} against float32 {on}"
    # The difference of two fractions may exceed the limit by a rounding error.
    if float32 - before <= settings.drop + 1e-9:
        return None, f"{lost}, at most quantize.mixed_precision_drop: mixed precision is not needed"
    found = choose_float_layers(
        ranked.pair,
        ranked.ranking,
        accuracy,
        at_least=float32 - settings.drop - 1e-9,
        before=before,
        most=settings.layers,
    )
    if found is None:
        return None, f"{lost}; float fallback of at most {settings.layers} layers does not improve its accuracy"
    file = _write(folder, manifest, model, ranked, found, float32, before, len(settings.labels))
    gain = format_points(found.accuracy - before)
    added = file.file.bytes - model.file.bytes
    return file, (
        f"{lost}; {file.name} keeps {', '.join(ranked.names(found.steps))} in float, which gains {gain} "
        f"for {added:,} bytes"
    )


def _write(
    folder: Path,
    manifest: OnDeviceModelSetManifest,
    model: OnDeviceModel,
    ranked: _Ranked,
    found: MixedPrecisionFile,
    float32: float,
    before: float,
    images: int,
) -> OnDeviceModel:
    name = model.name + FALLBACK_SUFFIX
    file = write_file(
        folder, name, compact(found.spliced), manifest.task, "distilled by Learn2Compress", manifest.normalization
    )
    kept = {layer for step in found.steps for layer in ranked.layers[step]}
    why = "its quantization error costs too much accuracy"
    return OnDeviceModel(
        name=name,
        student=model.student,
        variant=model.variant + FALLBACK_SUFFIX,
        file=file,
        layers=[
            layer.model_copy(update={"method": "float", "why": why}) if layer.layer in kept else layer
            for layer in model.layers
        ],
        calibration=model.calibration,
        rescue=FloatFallback(
            model=model.name,
            layers=ranked.names(found.steps),
            bytes_added=file.bytes - model.file.bytes,
            images=images,
            float32_accuracy=float32,
            int8_accuracy=before,
            accuracy=found.accuracy,
        ),
    )
