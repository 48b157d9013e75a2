# SPDX-License-Identifier: Apache-2.0
"""Measures what equalization and bias correction give before any training for 8 bits, on a finished run.

    python benchmarks/ablations/bias_correction.py OUT

OUT is the output of a run with `students.from: teacher`. Its pruned students are prepared for 8 bits as Quantizer does,
with and without either step, and run on the validation and test images: top-1 accuracy, agreement with the float
student, the root mean square error of the logits, and the mean shift of a logit. Nothing is trained, and OUT is only
read. The last line is one JSON object.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.quantization.bias_correction import correct_biases
from learn2compress.compression.quantization.equalization import equalize
from learn2compress.compression.quantization.preflight import output_only_layers, outputs_of, trained_for_8_bits
from learn2compress.compression.quantization.qat import calibrate, quantization_aware
from learn2compress.compression.students.files import load_family
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.data.batches import read_examples
from learn2compress.modalities import modality_of
from learn2compress.schemas.manifests import StudentSetManifest, read_manifest

BATCH, CALIBRATION_IMAGES = 64, 200


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    rows = list(measure(parser.parse_args().output / "pipeline"))
    print("| students | student | top-1 | agreement | error of logits | mean shift |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row['way']} | {row['student']} | {row['top1']:.1%} | {row['agreement']:.1%} | "
            f"{row['rms_error']:.3f} | {row['mean_shift']:.3f} |"
        )
    print(json.dumps(rows))


def measure(pipeline: Path) -> Iterator[dict[str, Any]]:
    """Measures the students in each way."""
    students, examples, logits = (
        sorted((pipeline / place).iterdir())[-1]
        for place in ("Pruner/pruned_students", "ImageExampleGen/examples", "TeacherImporter/teacher_logits")
    )
    manifest = read_manifest(students, StudentSetManifest)
    data = TrainingData.open(examples, logits, 32, 2, manifest.input_shape)
    normalize = modality_of(manifest.task).student_input.normalize
    images = normalize(np.stack(data.representative(CALIBRATION_IMAGES)[0]))
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    held_out: list[tuple[Any, np.ndarray]] = []
    for split in ("validation", "test"):
        taken = read_examples(examples, split, BATCH).map(lambda batch: (data._taken(batch["example"]), batch["label"]))
        held_out += [(normalize(batch), labels.numpy()) for batch, labels in taken]
    labels = np.concatenate([found for _, found in held_out])
    names = tuple(student.name for student in manifest.students if trained_for_8_bits(student.preflight))

    def run(model: keras.Model) -> list[np.ndarray]:
        predict = tf.function(lambda batch: tf.nest.flatten(model(batch, training=False)), autograph=False)
        found = [predict(batch) for batch, _ in held_out]
        return [np.concatenate([outputs[index] for outputs in found]) for index in range(len(names))]

    def rows(way: str, outputs: list[np.ndarray], exact: list[np.ndarray]) -> Iterator[dict[str, Any]]:
        for name, one, other in zip(names, outputs, exact, strict=True):
            yield {
                "way": way,
                "student": name,
                "images": len(labels),
                "top1": float((one.argmax(1) == labels).mean()),
                "agreement": float((one.argmax(1) == other.argmax(1)).mean()),
                "rms_error": float(np.sqrt(np.square(one - other).mean())),
                "mean_shift": float(np.abs((one - other).mean(0)).mean()),
            }

    exact: list[np.ndarray] = []
    for is_equalized in (False, True):
        family = outputs_of(load_family(students, manifest), tuple(s.name for s in manifest.students), names)
        if not exact:
            exact = run(family)
            yield from rows("float32", exact, exact)
        if is_equalized:
            equalize(family, batches)
        quantized = quantization_aware(family, False, output_only_layers(manifest.students))
        calibrate(quantized, family, batches)
        way = "int8, equalized" if is_equalized else "int8"
        yield from rows(way, run(quantized), exact)
        correct_biases(quantized, family, batches[0])
        yield from rows(f"{way}, biases corrected", run(quantized), exact)


if __name__ == "__main__":
    main()
