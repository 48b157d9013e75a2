# SPDX-License-Identifier: Apache-2.0
"""What 8 bits do to each student: the ranking of its layers and, where asked for, a file with the worst in float."""

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
from learn2compress.compression.quantization.mixed_precision import Rescued, rescue_layers
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_file
from learn2compress.compression.quantization.qat import without_rounding
from learn2compress.modalities import modality_of
from learn2compress.modalities.protocol import StudentInput
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import (
    LayerError,
    OnDeviceModel,
    OnDeviceModelSetManifest,
    QuantizationError,
    Rescue,
    write_manifest,
)
from learn2compress.schemas.progress import Task
from learn2compress.schemas.units import format_points
from learn2compress.tflite.model_file import read_bytes
from learn2compress.tflite.parsed_file import ParsedFile
from learn2compress.tflite.transformations.compaction import compact
from learn2compress.tflite.transformations.splicing import Pair, pair_files

RESCUED = "-rescued"  # after a variant: some of its layers are in float


@dataclass(frozen=True)
class RescueSettings:
    """When and how far to rescue.

    Attributes:
        drop: Accuracy that int8 may lose against float32.
        layers: That may be in float.
        images: [n, h, w, c] uint8 of the validation split.
        labels: [n].
    """

    drop: float
    layers: int
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class _Ranked:
    """A student's int8 file, looked through."""

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
    rescue: RescueSettings | None = None,
) -> OnDeviceModelSetManifest:
    """Ranks the layers of each student's int8 file, and rescues it where that is asked for and needed.

    Args:
        folder: Of an `OnDeviceModelSet`, as `write_models` left it.
        manifest: Of what it holds.
        family: The students that it was made from.
        images: Representative training images, each [h, w, c] uint8.
        rescue: None: write no further files.

    Returns:
        The manifest with the rankings, the files that were rescued, and a note wherever something could not be done.
    """
    folder = Path(folder)
    integer = [model for model in manifest.models if model.variant.split("-")[0] in INTEGER_TYPES]
    floating, inputs = cut_students(family.floating, family.students), modality_of(manifest.task).student_input
    errors: list[QuantizationError] = []
    rescued: list[OnDeviceModel] = []
    notes: list[str] = []
    task = Task("looking for the layers that 8 bits hurt", len({model.student for model in integer}))
    for student in dict.fromkeys(model.student for model in integer):
        models = [model for model in integer if model.student == student]
        try:
            found = [_rank(folder, model, family, floating[student], images, inputs, errors) for model in models[:1]]
            found += [
                _rank(folder, model, family, floating[student], images, inputs, None) for model in models[1:] if rescue
            ]
        except ModelFileError as error:
            notes.append(f"the layers of {student} could not be ranked: {error}")
            task.advance(detail=notes[-1])
            continue
        task.advance(detail=f"{student}: {_worst(errors[-1])}")
        if rescue is not None:
            for model, ranked in zip(models, found, strict=True):
                file, note = _rescue(folder, manifest, model, ranked, floating[student], rescue)
                rescued += [file] if file else []
                notes.append(note)
    manifest = manifest.model_copy(
        update={
            "models": [*manifest.models, *rescued],
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
    """Ranks a file's layers; adds to `errors` what was found."""
    learned = family.students if family.learned is None else family.learned
    trained = family.aware is not None and model.student in learned
    # What training for 8 bits changed in the weights is no rounding.
    floating = convert_reference(without_rounding(family.aware, student) if trained else student)
    # The bytes that ship are what is ranked, so they are read back from the artifact: the file's one further parse.
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
        return "nothing is lost"
    return f"most in {error.layers[0].layer}, which leaves the logits at {error.layers[0].logits_sqnr_db:.0f} dB"


def _rescue(
    folder: Path,
    manifest: OnDeviceModelSetManifest,
    model: OnDeviceModel,
    ranked: _Ranked,
    student: keras.Model,
    settings: RescueSettings,
) -> tuple[OnDeviceModel | None, str]:
    """Writes a file with the worst layers in float, if that is called for; says what was done in either case."""
    modality, scaling = modality_of(manifest.task), manifest.normalization

    def accuracy_of(converted: ParsedFile, **options: Any) -> float:
        opened = modality.device_format.open_classifier(converted, **options)
        return float(np.mean(opened.predict(settings.images).argmax(axis=1) == settings.labels))

    accuracy = partial(accuracy_of, mean=scaling.mean, std=scaling.std)
    float32 = accuracy_of(convert_float(student, "float32", modality.student_input))
    before = accuracy(ranked.pair.integer)
    on = f"on {len(settings.labels):,} validation images"
    if before >= float32:
        return None, f"{model.name} loses nothing against float32 {on}: there was nothing to rescue"
    lost = f"{model.name} loses {format_points(float32 - before)} against float32 {on}"
    # Differences of two shares of images: a hair over the limit in binary is not over it.
    if float32 - before <= settings.drop + 1e-9:
        return None, f"{lost}, no more than quantize.rescue_drop: there was nothing to rescue"
    found = rescue_layers(
        ranked.pair,
        ranked.ranking,
        accuracy,
        at_least=float32 - settings.drop - 1e-9,
        before=before,
        most=settings.layers,
    )
    if found is None:
        return None, f"{lost}; its worst layers in float, {settings.layers} at most, would not make it more accurate"
    file = _write(folder, manifest, model, ranked, found, float32, before, len(settings.labels))
    gain = format_points(found.accuracy - before)
    added = file.file.bytes - model.file.bytes
    return file, (
        f"{lost}; {file.name} has {', '.join(ranked.names(found.steps))} in float, which brings {gain} "
        f"for {added:,} bytes"
    )


def _write(
    folder: Path,
    manifest: OnDeviceModelSetManifest,
    model: OnDeviceModel,
    ranked: _Ranked,
    found: Rescued,
    float32: float,
    before: float,
    images: int,
) -> OnDeviceModel:
    name = model.name + RESCUED
    file = write_file(
        folder, name, compact(found.spliced), manifest.task, "distilled by Learn2Compress", manifest.normalization
    )
    kept = {layer for step in found.steps for layer in ranked.layers[step]}
    why = "8 bits cost too much accuracy here"
    return OnDeviceModel(
        name=name,
        student=model.student,
        variant=model.variant + RESCUED,
        file=file,
        layers=[
            layer.model_copy(update={"method": "float", "why": why}) if layer.layer in kept else layer
            for layer in model.layers
        ],
        calibration=model.calibration,
        rescue=Rescue(
            model=model.name,
            layers=ranked.names(found.steps),
            bytes_added=file.bytes - model.file.bytes,
            images=images,
            float32_accuracy=float32,
            int8_accuracy=before,
            accuracy=found.accuracy,
        ),
    )
