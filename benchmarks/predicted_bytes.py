# SPDX-License-Identifier: Apache-2.0
"""Compares the predicted with the emitted bytes of full-int8 files, for many shapes, class counts and sizes.

    python benchmarks/predicted_bytes.py [--quick]

Nothing is trained: weights and batch normalization are random, ranges are calibrated on a few random images, and the
files are written with metadata and labels as for shipping. The prediction is computed from the specification only
(family/spec.py). The last line is one JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tf_keras as keras

from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import label_bytes, solve_family
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.students.files import write_students
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.model_file import read_model_file

NAMED = {"small": StudentSize(), "medium": StudentSize(), "large": StudentSize()}
FIVE = {"tiny": StudentSize(), **NAMED, "xlarge": StudentSize()}
BUDGETS = {
    "a": StudentSize(size_bytes="24KB"),
    "b": StudentSize(size_bytes="49KB"),
    "c": StudentSize(size_bytes=98_496),
    "d": StudentSize(size_bytes="250KB"),
}
CASES = [
    ((8, 8, 1), 10, FIVE),  # shape, classes, sizes, and kinds of block if they are not those by default
    ((8, 8, 3), 2, NAMED),
    ((8, 8, 1), 1000, NAMED),
    ((12, 20, 1), 5, NAMED),
    ((28, 28, 1), 10, FIVE),
    ((32, 32, 3), 10, BUDGETS, "by_stage"),
    ((32, 32, 3), 10, BUDGETS, "separable"),
    ((32, 32, 3), 100, FIVE),
    ((48, 48, 1), 3, NAMED, "by_stage"),
    ((64, 64, 3), 20, NAMED),
    ((96, 64, 3), 200, NAMED),
    ((160, 120, 3), 2, NAMED),
    ((224, 224, 3), 1000, NAMED, "by_stage"),
    ((224, 224, 3), 1000, NAMED, "separable"),
]
QUICK = [CASES[0], CASES[3], CASES[5]]


def class_names(count: int) -> list[str]:
    """Makes names of a typical length."""
    return [f"class number {i}" for i in range(count)]


def randomize(family: keras.Model) -> None:
    """Sets random values of batch normalization and biases: biases of zero would be stored only once."""
    rng = np.random.default_rng(0)
    for layer in family.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape[0]
            mean = layer.moving_mean.numpy()
            layer.set_weights(
                [rng.uniform(0.5, 1.5, width), rng.normal(0, 0.3, width), mean, rng.uniform(0.5, 2, width)]
            )
        elif isinstance(layer, keras.layers.Dense):
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))


def emitted_bytes(spec: FamilySpec, classes: list[str]) -> dict[str, tuple[int, int, int]]:
    """Measures the bytes, parameters and MACs of each student's int8 file."""
    family = build_family(spec)
    randomize(family)
    images = list(np.random.default_rng(1).integers(0, 256, (2, *spec.input_shape)).astype(np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        source = write_students(
            Path(folder, "students"),
            family,
            task=Task(input_shape=spec.input_shape, classes=classes),
            stage="pruned",
            teacher_sha256="0" * 64,
            spec=spec,
            costs=family_costs(spec),
            accuracy=dict.fromkeys(spec.students, 0.0),
            curves=[],
            seed=0,
        )
        files = Path(folder, "models")
        students = QuantizedFamily(family, None, spec.students)
        manifest = write_models(files, students, source, ["int8"], images, ["0", "1"], [])
        found = {model.student: (model.file, read_model_file(files / model.file.path)) for model in manifest.models}
    return {student: (file.bytes, model.parameters, model.macs) for student, (file, model) in found.items()}


def compare(cases: list) -> Iterator[dict]:
    """Yields a row for each student."""
    for shape, count, sizes, *blocks in cases:
        classes = class_names(count)
        spec = solve_family(sizes, shape, count, label_bytes(classes), *blocks)
        emitted = emitted_bytes(spec, classes)
        for student, cost in family_costs(spec).items():
            found, parameters, macs = emitted[student]
            yield {
                "shape": "x".join(map(str, shape)),
                "classes": count,
                "student": student,
                "predicted": cost.int8_bytes,
                "emitted": found,
                "error": cost.int8_bytes / found - 1,
                "exact": (parameters, macs) == (cost.parameters, cost.macs),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three of the cases")
    cases = QUICK if parser.parse_args().quick else CASES
    rows = []
    print(f"{'shape':>10} {'classes':>7} {'student':>8} {'predicted':>10} {'emitted':>10} {'error':>7}  counts")
    for row in compare(cases):
        rows.append(row)
        counts = "equal" if row["exact"] else "DIFFER"
        print(
            f"{row['shape']:>10} {row['classes']:>7} {row['student']:>8} {row['predicted']:>10,} {row['emitted']:>10,} "
            f"{row['error']:>+7.2%}  {counts}",
            flush=True,
        )
    print(
        json.dumps(
            {
                "files": len(rows),
                "largest_error": round(max(abs(row["error"]) for row in rows), 4),
                "parameters_and_macs_equal": all(row["exact"] for row in rows),
            }
        )
    )


if __name__ == "__main__":
    main()
