# SPDX-License-Identifier: Apache-2.0
"""Measures a whole run of the product on AG News, with nothing in its caches, from a Keras teacher that takes strings.

    python benchmarks/text_run.py --agnews DIR --output OUT

DIR is the folder of benchmarks/text.py. The teacher is trained first, on the training texts: word embeddings behind a
TextVectorization layer, of which words are left out at random, and a classification layer on their mean. Then
`learn2compress run` is started in an empty folder, on the CSV file of all splits. The last line is JSON: the teacher's
accuracy on the test split, the seconds of the run by the clock and of the processor, with those of all its processes,
and the accuracy and bytes of each int8 file on the test split.
"""

import argparse
import csv
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tensorflow as tf
import tf_keras as keras
import yaml
from text_teacher import SPLITS, read_split

from learn2compress.evaluation.metrics import wilson_interval
from learn2compress.schemas.reports import Report

WORDS, LENGTH, WIDTH, DROPPED = 25_000, 96, 64, 0.6
EPOCHS, BATCH, LEARNING_RATE = 20, 128, 5e-3
CONFIG = {
    "students": {
        "dictionary": "keys",
        "word_dropout": 0.6,
        "sizes": {name: {"size_bytes": f"{name[1:]}KB"} for name in ("s20", "s50", "s100")},
    },
    "distill": {"epochs": 40, "learning_rate": 5e-3, "soft_weight": 0.5, "temperature": 1.0},
    "quantize": {"variants": ["int8"]},
    "pipeline": {"name": "agnews"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agnews", type=Path, required=True, help="folder with train.csv, validation.csv and test.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder; an earlier run in it is removed")
    options = parser.parse_args()
    shutil.rmtree(options.output / "run", ignore_errors=True)
    options.output.mkdir(parents=True, exist_ok=True)
    splits = {kind: read_split("agnews", options.agnews, kind) for kind in SPLITS["agnews"]}
    accuracy = train_teacher(splits, options.output / "teacher.keras")
    print(f"teacher: {accuracy:.2%} on test", flush=True)
    write_table(splits, options.output / "agnews.csv")
    settings = {"teacher": {"path": "teacher.keras"}, "data": {"path": "agnews.csv"}, **CONFIG}
    (options.output / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    seconds, cpu_seconds = run(options.output / "config.yaml", options.output / "run")
    files = files_of(options.output / "run" / "report.json")
    for name, found in files.items():
        low, high = found["interval"]
        print(f"{name}: {found['accuracy']:.2%} ({low:.1%} to {high:.1%}), {found['bytes']:,} B")
    print(f"the run took {seconds:.0f} s, {cpu_seconds:.0f} s of the processor")
    summary = {"teacher": round(accuracy, 4), "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}
    print(json.dumps({**summary, "files": files}))


def train_teacher(splits: dict[str, tuple[list[str], list[str]]], path: Path) -> float:
    """Trains the teacher, writes it, and returns its accuracy on the test split."""
    keras.utils.set_random_seed(0)
    classes = sorted(set(splits["train"][1]))
    data = {
        kind: (tf.constant(texts), np.array([classes.index(label) for label in labels]))
        for kind, (texts, labels) in splits.items()
    }
    teacher = build_teacher(splits["train"][0], len(classes))
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, EPOCHS * len(splits["train"][0]) // BATCH)
    teacher.compile(keras.optimizers.Adam(rate, use_ema=True), "sparse_categorical_crossentropy", metrics=["accuracy"])
    teacher.fit(*data["train"], batch_size=BATCH, epochs=EPOCHS, verbose=0)
    keras.Model(teacher.input, teacher.output, name="teacher").save(path)
    return float(teacher.evaluate(*data["test"], batch_size=256, verbose=0)[1])


def build_teacher(texts: Sequence[str], classes: int) -> keras.Model:
    """Builds the teacher of Keras' own layers; input strings, output probabilities."""
    layers = keras.layers
    vectorize = layers.TextVectorization(max_tokens=WORDS, output_sequence_length=LENGTH)
    vectorize.adapt(tf.constant(texts))
    given = keras.Input((1,), dtype="string", name="text")
    words = layers.Embedding(WORDS, WIDTH, name="words")(vectorize(given))
    kept = layers.Dropout(DROPPED, noise_shape=(None, LENGTH, 1), name="dropped")(words)
    mean = layers.GlobalAveragePooling1D(name="mean")(kept)
    return keras.Model(given, layers.Dense(classes, "softmax", name="probabilities")(mean), name="teacher")


def write_table(splits: dict[str, tuple[list[str], list[str]]], path: Path) -> None:
    """Writes all splits as one table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        for kind, (texts, labels) in splits.items():
            writer.writerows([text, label, kind] for text, label in zip(texts, labels, strict=True))


def run(config: Path, output: Path) -> tuple[float, float]:
    """Runs the product; returns its seconds by the clock and of the processor."""
    command = [sys.executable, "-m", "learn2compress.cli.main", "run", str(config), "--output", str(output)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def files_of(path: Path) -> dict[str, dict]:
    """Reads the accuracy on the test split and the size of each int8 file from a report."""
    report, files = Report.model_validate_json(path.read_text(encoding="utf-8")), {}
    for candidate in report.evaluation.candidates:
        if candidate.variant == "int8" and candidate.failed is None:
            figures = candidate.figures["test"]
            interval = wilson_interval(round(figures.top1 * figures.images), figures.images)
            files[candidate.name] = {
                "accuracy": round(figures.top1, 4),
                "interval": [round(interval.low, 4), round(interval.high, 4)],
                "bytes": candidate.bytes,
            }
    return files


if __name__ == "__main__":
    main()
