# SPDX-License-Identifier: Apache-2.0
"""Measures what it brings that the teacher's weights are constants in its inference.

    python benchmarks/ablations/teacher_constants.py [--names MobileNetV2 ResNet50] [--side 224] [--rounds 10]

Teachers are architectures of keras.applications with random weights. Inference with constants and with variables run in
turn on the same images; the figures are medians over the rounds of the processor time of an image. The last line is one
JSON object.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from unittest import mock

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tf_keras as keras

from learn2compress.compression.teacher import classifier

CLASSES, IMAGES = 10, 16


def main() -> None:
    """Measures each architecture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", default=["MobileNetV2", "EfficientNetB0", "ResNet50"])
    parser.add_argument("--side", type=int, default=224, help="width and height of the images in pixels")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    found = {}
    for name in options.names:
        row = found[name] = measure(name, options.side, options.rounds)
        print(
            f"{name}: {row['variables_ms']:.1f} ms an image with variables, {row['constants_ms']:.1f} with constants, "
            f"{row['times']:.2f} times as fast",
            flush=True,
        )
    print(json.dumps({"side": options.side, **found}))


def measure(name: str, side: int, rounds: int) -> dict[str, float]:
    """Measures the processor time of an image, in milliseconds."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=CLASSES)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "teacher.keras"))
        teachers = {
            kind: classifier.load_teacher(Path(folder, "teacher.keras"), scaling="symmetric")
            for kind in ("constants", "variables")
        }
    teachers["constants"].logits(images)
    with mock.patch.object(classifier, "with_constants", lambda function: function):
        teachers["variables"].logits(images)
    times: dict[str, list[float]] = {kind: [] for kind in teachers}
    for _ in range(rounds):
        for kind, teacher in teachers.items():
            began = time.process_time()
            teacher.logits(images)
            times[kind].append(1000 * (time.process_time() - began) / IMAGES)
    figures = {kind: float(np.median(values)) for kind, values in times.items()}
    return {
        "variables_ms": round(figures["variables"], 2),
        "constants_ms": round(figures["constants"], 2),
        "times": round(figures["variables"] / figures["constants"], 3),
    }


if __name__ == "__main__":
    main()
