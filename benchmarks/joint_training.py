# SPDX-License-Identifier: Apache-2.0
"""Measures the cost of joint training: the time of a step of the family against the largest student alone.

Steps of both alternate on the same batches in one process; the figure is the median of the ratios of the pairs. Also
printed are the ratios for five students, and for three students with a teacher's forward pass in each step instead of
its stored logits; and how many images a second each family of three students trains on, the one that begins with fused
blocks (`students.blocks: by_stage`) and the one of separable blocks only.

    python benchmarks/joint_training.py [--side 32] [--batch 128] [--pairs 40] [--blocks auto] [--teacher FILE]
"""

import argparse
import json
import time
from collections.abc import Callable

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import build_family, cut_students
from learn2compress.compression.family.sizing import describe_family, size_ratios, solve_family
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.schemas.config import StudentSize

THREE = ("small", "medium", "large")
FIVE = ("tiny", "small", "medium", "large", "xlarge")


def trainer_of(model: keras.Model, names: tuple[str, ...]) -> JointTrainer:
    """Makes a trainer with the default settings of the pipeline."""
    recipe = Recipe("distilled", 1, 1, 2e-2, weight_decay=1e-4, ema_decay=0.99)
    return JointTrainer(model, names, recipe)


def family_and_largest(spec: FamilySpec) -> tuple[JointTrainer, JointTrainer]:
    """Makes trainers of the whole family and of its largest student alone."""
    joint = trainer_of(build_family(spec), spec.students)
    largest = spec.students[-1]
    return joint, trainer_of(cut_students(build_family(spec), spec.students)[largest], (largest,))


def stand_in_teacher(side: int, classes: int) -> keras.Model:
    """Builds a network without residuals, with about ten times the large student's compute, if no file is given."""
    layers = [keras.Input((side, side, 3)), keras.layers.Rescaling(1 / 127.5, -1)]
    for filters, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (128, 1)):
        layers += [
            keras.layers.Conv2D(filters, 3, stride, "same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)])


def median_ratio(one: Callable[[], object], other: Callable[[], object], pairs: int) -> tuple[float, float, float]:
    """Measures the median ratio of the times of two steps, and the median of each in milliseconds."""
    for _ in range(3):
        one()
        other()
    times = []
    for pair in range(pairs):
        order = (one, other) if pair % 2 else (other, one)
        spent = {}
        for step in order:
            began = time.perf_counter()
            step()
            spent[step] = time.perf_counter() - began
        times.append((spent[one], spent[other]))
    ratios = [a / b for a, b in times]
    ones, others = np.median(times, axis=0) * 1000
    return float(np.median(ratios)), float(ones), float(others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32, help="width and height of the images in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=40, help="timed pairs of steps")
    parser.add_argument("--teacher", help="a Keras teacher of such images; default: an untrained network")
    kinds_of_blocks = ("auto", "by_stage", "separable")
    parser.add_argument("--blocks", choices=kinds_of_blocks, default="auto", help="see students.blocks")
    options = parser.parse_args()
    shape, classes = (options.side, options.side, 3), 10
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (options.batch, *shape), dtype=np.uint8))
    labels = tf.constant(rng.integers(0, classes, options.batch))
    logits = tf.constant(rng.normal(size=(options.batch, classes)).astype(np.float32))
    decay = tf.constant(0.99)

    spec = solve_family({name: StudentSize() for name in THREE}, shape, classes, blocks=options.blocks)
    print(describe_family(spec))
    bytes_spread, macs_spread = size_ratios(spec)
    joint, alone = family_and_largest(spec)
    ratio, joint_ms, alone_ms = median_ratio(
        lambda: joint.step(images, labels, logits, decay),
        lambda: alone.step(images, labels, logits, decay),
        options.pairs,
    )
    print(
        f"a step: 3 students together {joint_ms:.0f} ms, {spec.students[-1]} alone {alone_ms:.0f} ms: ratio {ratio:.3f}"
    )

    teacher = (
        keras.models.load_model(options.teacher, compile=False)
        if options.teacher
        else stand_in_teacher(options.side, classes)
    )
    infer = tf.function(lambda batch: teacher(tf.cast(batch, tf.float32), training=False))
    loop_ratio, loop_ms, _ = median_ratio(
        lambda: joint.step(images, labels, infer(images), decay),
        lambda: alone.step(images, labels, logits, decay),
        max(5, options.pairs // 2),
    )
    print(f"3 students with the teacher in the loop {loop_ms:.0f} ms: ratio {loop_ratio:.3f}")

    five = solve_family({name: StudentSize() for name in FIVE}, shape, classes, blocks=options.blocks)
    joint5, alone5 = family_and_largest(five)
    ratio5, joint5_ms, alone5_ms = median_ratio(
        lambda: joint5.step(images, labels, logits, decay),
        lambda: alone5.step(images, labels, logits, decay),
        max(5, options.pairs // 2),
    )
    print(f"5 students together {joint5_ms:.0f} ms, {five.students[-1]} alone {alone5_ms:.0f} ms: ratio {ratio5:.3f}")

    kinds = {}
    for blocks in ("by_stage", "separable"):
        family = solve_family({name: StudentSize() for name in THREE}, shape, classes, blocks=blocks)
        kinds[blocks] = trainer_of(build_family(family), family.students)
    slowness, separable_ms, staged_ms = median_ratio(
        lambda: kinds["separable"].step(images, labels, logits, decay),
        lambda: kinds["by_stage"].step(images, labels, logits, decay),
        options.pairs,
    )
    staged, separable = (1000 * options.batch / milliseconds for milliseconds in (staged_ms, separable_ms))
    print(f"blocks by stage {staged:,.0f} images/s, separable {separable:,.0f} images/s: ratio {slowness:.2f}")
    print(
        json.dumps(
            {
                "ratio": round(ratio, 4),
                "students": len(spec.students),
                "bytes_spread": round(bytes_spread, 2),
                "macs_spread": round(macs_spread, 2),
                "ratio_teacher_in_loop": round(loop_ratio, 4),
                "ratio_five_students": round(ratio5, 4),
                "macs_spread_five_students": round(size_ratios(five)[1], 2),
                "images_per_second": {"by_stage": round(staged), "separable": round(separable)},
                "by_stage_to_separable": round(slowness, 3),
                "batch": options.batch,
                "shape": list(shape),
            }
        )
    )


if __name__ == "__main__":
    main()
