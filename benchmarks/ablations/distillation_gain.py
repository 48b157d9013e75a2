# SPDX-License-Identifier: Apache-2.0
"""Measures the gain of distillation with few images, by the accuracy of .tflite files on held-out images.

Each seed selects other training images of each class, other initial weights, and another order of images. By default,
jointly distilled students are compared with students that are trained separately on the labels, without a teacher. With
--init, distilled students that were initialized by learning the teacher's features (also of images without labels) are
compared with randomly initialized ones, and with randomly initialized ones that are trained for as many additional
steps as the features took. All else is equal: views, epochs, batches, learning rates, and the choice of the epoch on
validation images that are split off the training images. Each separate student is trained for as many epochs as the
family.

    python benchmarks/ablations/distillation_gain.py --data cifar10.npz --teacher resnet56_cifar10.h5
        [--per-class 60]
        [--seeds 0 1 2] [--epochs 60] [--init [--unlabeled 10000]]
"""

import argparse
import contextlib
import json
import logging
import math
import tempfile
import time
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tf_keras as keras
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.distiller import recipe
from learn2compress.components.image_example_gen import ImageExampleGen, ImageExampleGenExecutor
from learn2compress.components.teacher_importer import TeacherImporter, TeacherImporterExecutor
from learn2compress.compression.family.model import build_family, cut_students
from learn2compress.compression.family.sizing import describe_family, label_bytes, solve_family
from learn2compress.compression.family.spec import FamilySpec
from learn2compress.compression.quantization.conversion import convert_float
from learn2compress.compression.training.feature_distillation import FeatureData, learn_features
from learn2compress.compression.training.joint_trainer import JointTrainer
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.data.sources.formats import data_digest
from learn2compress.schemas.artifacts import Teacher, TeacherLogits
from learn2compress.schemas.config import DataConfig, DistillConfig, StudentSize, TeacherConfig
from learn2compress.schemas.digests import path_sha256
from learn2compress.schemas.manifests import DataManifest, TeacherLogitsManifest, TeacherManifest, read_manifest
from learn2compress.tflite.interpreter import open_model

# Each separate student compiles its own functions; TensorFlow would warn of repeated retracing.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

NAMES = ("small", "medium", "large")


def write_subset(source: Path, folder: Path, per_class: int, unlabeled: int, seed: int) -> None:
    """Writes data.npz, with a few training images of each class and all test images, and more.npz, without labels."""
    with np.load(source) as data:
        images, labels = data["train_images"], data["train_labels"].ravel()
        order = np.random.default_rng(seed).permutation(len(labels))
        chosen = np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])
        rest = np.setdiff1d(order, chosen)
        names = {"class_names": data["class_names"]} if "class_names" in data.files else {}
        np.savez(
            folder / "data.npz",
            train_images=images[chosen],
            train_labels=labels[chosen],
            test_images=data["test_images"],
            test_labels=data["test_labels"].ravel(),
            **names,
        )
        np.savez(folder / "more.npz", images=images[np.random.default_rng(seed).permutation(rest)[:unlabeled]])


def execute(executor: type, inputs: dict, outputs: dict, values: dict) -> None:
    """Runs an executor without a pipeline."""
    context = BaseBeamExecutor.Context(beam_pipeline_args=direct_runner_args(1))
    executor(context).Do(inputs, outputs, values)


def prepare(options: argparse.Namespace, folder: Path, seed: int) -> tuple[Path, Path, Path]:
    """Writes Examples, Teacher and TeacherLogits for the images of a seed; returns their folders."""
    write_subset(options.data, folder, options.per_class, options.unlabeled, seed)
    data = DataConfig(path=str(folder / "data.npz"), unlabeled=str(folder / "more.npz") if options.init else None)
    height, width, channels = np.load(folder / "data.npz")["test_images"].shape[1:]
    data = data.model_copy(update={"height": height, "width": width, "channels": channels})
    teacher = TeacherConfig(path=str(options.teacher), scaling=options.scaling, views=options.views)
    found = {}
    for key, kind in (("examples", standard_artifacts.Examples), ("teacher", Teacher), ("logits", TeacherLogits)):
        found[key] = kind()
        found[key].uri = str(folder / key)
    common = {"code_version": "", "seed": seed}
    values = ImageExampleGen.encode(data=data) | {"data_digest": data_digest(data)} | common
    execute(ImageExampleGenExecutor, {}, {"examples": [found["examples"]]}, values)
    sha256 = path_sha256(options.teacher)
    values = (
        TeacherImporter.encode(teacher=teacher) | {"teacher_sha256": sha256, "features": int(options.init)} | common
    )
    outputs = {"teacher": [found["teacher"]], "teacher_logits": [found["logits"]]}
    execute(TeacherImporterExecutor, {"examples": [found["examples"]]}, outputs, values)
    return folder / "examples", folder / "teacher", folder / "logits"


def train(model: keras.Model, names: tuple[str, ...], config: DistillConfig, data: TrainingData) -> None:
    """Trains a model as Distiller does; the model then has the weights of the best epoch."""
    JointTrainer(model, names, recipe(config, data)).train(data.epoch, data.validation())


def top1(student: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Measures the accuracy of the student's float32 .tflite file."""
    return float(np.mean(open_model(convert_float(student, "float32")).predict(images).argmax(-1) == labels))


def measure(options: argparse.Namespace, seed: int) -> tuple[dict[str, dict[str, float]], float, str]:
    """Measures one seed: top-1 by recipe and student, top-1 of the teacher, and the table of sizes."""
    config = DistillConfig(
        epochs=options.epochs,
        init_epochs=options.init_epochs,
        batch_size=options.batch,
        learning_rate=options.learning_rate,
        ema_decay=options.ema,
    )
    alone = config.model_copy(update={"soft_weight": 0.0})
    with tempfile.TemporaryDirectory() as place:
        with contextlib.redirect_stdout(None):
            examples, teacher, logits = prepare(options, Path(place), seed)
        task = read_manifest(examples, DataManifest).task
        sizes = {name: StudentSize() for name in NAMES}
        spec = solve_family(sizes, task.input_shape, len(task.classes), label_bytes(task.classes))
        data = TrainingData.open(examples, logits, options.batch, seed)
        models: dict[str, dict[str, keras.Model]] = {}
        joint = build_family(spec, seed)
        if options.init:
            initialized = build_family(spec, seed)
            features = FeatureData.open(examples, logits, options.batch, seed)
            learn_features(initialized, NAMES, features, recipe(config, data), options.init_epochs)
            train(initialized, NAMES, config, data)
            models["features"] = cut_students(initialized, NAMES)
            more = math.ceil(options.init_epochs * features.steps / data.steps)
            longer = build_family(spec, seed)
            train(longer, NAMES, config.model_copy(update={"epochs": options.epochs + more}), data)
            models["longer"] = cut_students(longer, NAMES)
        else:
            models["alone"] = {name: train_alone(spec, name, alone, data, seed) for name in NAMES}
        train(joint, NAMES, config, data)
        models["random" if options.init else "distilled"] = cut_students(joint, NAMES)
        with np.load(Path(place, "data.npz")) as arrays:
            images, labels = (arrays[f"test_{kind}"][: options.test_images] for kind in ("images", "labels"))
        found = {
            how: {name: top1(m, images, labels) for name, m in students.items()} for how, students in models.items()
        }
        inference = read_manifest(logits, TeacherLogitsManifest)
        passes = inference.forward_passes + (inference.features.forward_passes if inference.features else 0)
        count = read_manifest(examples, DataManifest).counts["train"]
        print(f"seed {seed}: {count:,} training images, {passes:,} forward passes of the teacher", flush=True)
        return found, read_manifest(teacher, TeacherManifest).accuracy["test"], describe_family(spec)


def train_alone(spec: FamilySpec, name: str, config: DistillConfig, data: TrainingData, seed: int) -> keras.Model:
    """Trains one student separately, from the same initial weights as in the family."""
    student = cut_students(build_family(spec, seed), spec.students)[name]
    train(student, (name,), config, data)
    return student


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Computes the mean and the sample standard deviation in percent."""
    return 100 * float(np.mean(values)), 100 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=".npz with train_images, train_labels, test_images …")
    parser.add_argument("--teacher", type=Path, required=True, help="a Keras classifier of its images")
    parser.add_argument("--scaling", default="none", help="as teacher.scaling")
    parser.add_argument("--init", action="store_true", help="compare initializations instead of teachers")
    parser.add_argument("--per-class", type=int, default=60, help="training images of each class")
    parser.add_argument("--unlabeled", type=int, default=10_000, help="with --init: further images, without labels")
    parser.add_argument("--test-images", type=int, default=10_000, help="maximum number of test images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--init-epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=DistillConfig().learning_rate)
    parser.add_argument("--ema", type=float, default=0.99)
    options = parser.parse_args()

    began = time.monotonic()
    found, teacher = [], 0.0
    for number, seed in enumerate(options.seeds):
        accuracies, teacher, sizes = measure(options, seed)
        found.append(accuracies)
        if not number:
            print(sizes)
    arms = ("random", "longer", "features") if options.init else ("alone", "distilled")
    titles = {
        "alone": "separately, labels only",
        "distilled": "jointly distilled",
        "random": "random initialization",
        "longer": "random initialization, same total steps",
        "features": f"initialized by features ({options.init_epochs} epochs, {options.unlabeled:,} more images)",
    }
    print(
        f"\nTop-1 in % of the float32 .tflite on held-out images, {options.per_class} training images for each class, "
        f"{len(options.seeds)} seeds: mean ± standard deviation. Teacher: {100 * teacher:.2f}."
    )
    gains = [f"gain on {titles[arm]}" for arm in arms[:-1]]
    print(f"| student | {' | '.join([*(titles[arm] for arm in arms), *gains])} |")
    print(f"| --- |{' ---: |' * (2 * len(arms) - 1)}")
    rows = {}
    for name in NAMES:
        sides = {arm: [one[arm][name] for one in found] for arm in arms}
        rows[name] = {arm: mean_and_deviation(values) for arm, values in sides.items()}
        for arm in arms[:-1]:
            seed_by_seed = [b - a for a, b in zip(sides[arm], sides[arms[-1]], strict=True)]
            rows[name][f"gain_on_{arm}"] = mean_and_deviation(seed_by_seed)
        cells = [
            f"{mean:{'+' if key.startswith('gain') else ''}.2f} ± {deviation:.2f}"
            for key, (mean, deviation) in rows[name].items()
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        json.dumps(
            {
                "students": {
                    name: {how: {"mean": round(m, 3), "std": round(s, 3)} for how, (m, s) in row.items()}
                    for name, row in rows.items()
                },
                "runs": found,
                "seeds": options.seeds,
                "per_class": options.per_class,
                "unlabeled": options.unlabeled if options.init else 0,
                "epochs": options.epochs,
                "teacher": round(teacher, 4),
                "minutes": round((time.monotonic() - began) / 60, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
