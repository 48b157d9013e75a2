# SPDX-License-Identifier: Apache-2.0
"""Compares predicted with emitted bytes and measured latencies of full-int8 files of 20 families, in many shapes.

    python benchmarks/predicted_costs.py [--quick] [--rounds 15] [--table FILE]

Nothing is trained: weights and batch normalization are random, ranges are calibrated on a few random images, and the
files are written with metadata and labels as for shipping. The prediction is computed from the specification only
(compression/family/spec.py) and, for the latency, from the operations of this machine that are measured before the
files (evaluation/latency/), or from the table of an earlier run. A file's latency is the least of many invocations by
one thread, in rounds over all files, so that other work on the machine disturbs each of them equally little. The last
line is one JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tf_keras as keras

from learn2compress.compression.family.latency import student_operations
from learn2compress.compression.family.model import build_family
from learn2compress.compression.family.sizing import label_bytes, solve_family
from learn2compress.compression.family.spec import FamilySpec, family_costs
from learn2compress.compression.quantization.on_device import QuantizedFamily, write_models
from learn2compress.compression.students.files import write_students
from learn2compress.evaluation.latency.measuring import measure_operations, operations_to_measure
from learn2compress.evaluation.latency.model import LatencyModel, fit
from learn2compress.evaluation.latency.operations import operations_of
from learn2compress.evaluation.latency.table import read_table
from learn2compress.evaluation.measure import this_host
from learn2compress.schemas.config import StudentSize
from learn2compress.schemas.manifests import Task
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.model_file import read_model

NAMED = {"small": StudentSize(), "medium": StudentSize(), "large": StudentSize()}
FIVE = {"tiny": StudentSize(), **NAMED, "xlarge": StudentSize()}
BUDGETS = {
    "a": StudentSize(size_bytes="24KB"),
    "b": StudentSize(size_bytes="49KB"),
    "c": StudentSize(size_bytes=98_496),
    "d": StudentSize(size_bytes="250KB"),
}


def sizes_of(limit: str, *values: str) -> dict[str, StudentSize]:
    """Makes sizes of students with limits of one kind, smallest first."""
    return {f"student{index}": StudentSize(**{limit: value}) for index, value in enumerate(values, 1)}


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
    ((20, 20, 3), 10, sizes_of("size_bytes", "16KB", "120KB")),
    ((32, 32, 1), 10, sizes_of("macs", "1M", "4M", "16M")),
    ((40, 30, 1), 6, sizes_of("size_bytes", "30KB", "60KB", "300KB")),
    ((64, 64, 1), 2, FIVE),
    ((96, 96, 3), 2, sizes_of("size_bytes", "50KB", "200KB")),
    ((128, 128, 3), 30, NAMED),
]
QUICK = [CASES[0], CASES[3], CASES[5]]
MOST_MS = 20.0  # of a file in a round


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


def emitted_files(spec: FamilySpec, classes: list[str]) -> dict[str, bytes]:
    """Writes each student's int8 file; returns their bytes."""
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
        return {model.student: (files / model.file.path).read_bytes() for model in manifest.models}


def compare(cases: list, kept: dict[int, bytes] | None = None) -> Iterator[dict]:
    """Yields a row for each student.

    Args:
        cases: Shape, number of classes and sizes of each family.
        kept: Receives each row's file by the row's number, if it is to be measured.
    """
    number = 0
    for shape, count, sizes, *blocks in cases:
        classes = class_names(count)
        spec = solve_family(sizes, shape, count, label_bytes(classes), *blocks)
        emitted = emitted_files(spec, classes)
        for student, cost in family_costs(spec).items():
            file, operations = read_model(emitted[student]), student_operations(spec, student)
            found = len(emitted[student])
            if kept is not None:
                kept[number] = emitted[student]
            number += 1
            yield {
                "shape": "x".join(map(str, shape)),
                "classes": count,
                "student": student,
                "predicted": cost.int8_bytes,
                "emitted": found,
                "error": cost.int8_bytes / found - 1,
                "exact": (file.parameters, file.macs) == (cost.parameters, cost.macs)
                and operations_of(file) == operations,
                "operations": operations,
            }


def measure(files: Mapping[int, bytes], rounds: int) -> dict[int, float]:
    """Measures the least milliseconds of an invocation of each file, in rounds over all files."""
    opened = {number: open_model(content) for number, content in files.items()}
    least = {number: float(one.latency(3).min()) for number, one in opened.items()}
    for _ in range(rounds):
        for number, one in opened.items():
            repeats = max(3, min(60, int(MOST_MS / least[number])))
            least[number] = min(least[number], float(one.latency(repeats, warmup=2).min()))
    return least


def latency_of_this_machine(table: str | None) -> LatencyModel:
    """Reads a latency table, or measures one."""
    if table:
        return read_table(table)
    host = this_host()
    return fit(host.processor, host.runtime, measure_operations(operations_to_measure(), say=print))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three of the families")
    parser.add_argument("--rounds", type=int, default=15, help="rounds over all files in which latencies are measured")
    parser.add_argument("--table", help="latency table of this machine, from `learn2compress bench --operations`")
    options = parser.parse_args()
    cases = QUICK if options.quick else CASES
    files: dict[int, bytes] = {}
    rows = []
    for row in compare(cases, files):
        rows.append(row)
        print(f"{len(rows)} files of {len(cases)} families written", flush=True)
    latency = latency_of_this_machine(options.table)
    measured = measure(files, options.rounds)
    print(f"{'shape':>10} {'classes':>7} {'student':>8} {'predicted':>10} {'emitted':>10} {'error':>7}  counts", end="")
    print(f" {'predicted':>13} {'measured':>10} {'error':>7}")
    for number, row in enumerate(rows):
        row["predicted_ms"] = latency.file_ms(row["operations"])
        row["error_ms"] = row["predicted_ms"] / measured[number] - 1
        counts = "equal" if row["exact"] else "DIFFER"
        about = f"{row['shape']:>10} {row['classes']:>7} {row['student']:>8}"
        sizes = f"{row['predicted']:>8,} B {row['emitted']:>8,} B {row['error']:>+7.2%}  {counts}"
        times = f"{row['predicted_ms']:>10.4f} ms {measured[number]:>7.4f} ms {row['error_ms']:>+7.1%}"
        print(about, sizes, times)
    errors = np.abs([row["error_ms"] for row in rows])
    print(
        json.dumps(
            {
                "device": latency.device,
                "runtime": latency.runtime,
                "families": len(cases),
                "files": len(rows),
                "largest_error": round(max(abs(row["error"]) for row in rows), 4),
                "parameters_macs_and_operations_equal": all(row["exact"] for row in rows),
                "largest_error_of_latency": round(float(errors.max()), 4),
                "mean_error_of_latency": round(float(errors.mean()), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
