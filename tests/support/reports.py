# SPDX-License-Identifier: Apache-2.0
"""Makes a report like that of a run, from random predictions with the real computation of figures and choice."""

import numpy as np
import pytest

from learn2compress.evaluation.measure import Tally, figures_of
from learn2compress.evaluation.selection import choose
from learn2compress.modalities.image.thumbnails import thumbnail
from learn2compress.schemas.manifests import (
    ChannelSensitivity,
    DataManifest,
    Drop,
    Epoch,
    File,
    LayerError,
    LayerQuantization,
    LayerSensitivity,
    QuantizationError,
    Sensitivity,
    Student,
    StudentSetManifest,
    Task,
    TeacherManifest,
    write_manifest,
)
from learn2compress.schemas.reports import (
    Candidate,
    Evaluation,
    Flip,
    Host,
    Latency,
    Limits,
    Report,
    TeacherFigures,
)
from learn2compress.schemas.scaling import Scaling
from support.tflite_files import write_metadata

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FILES = [  # name, bytes, MACs, latency, accuracy
    ("small-float32", 78_312, 4_712_000, 0.11, 0.824),
    ("small-int8", 31_120, 4_712_000, 0.16, 0.821),
    ("medium-float32", 178_940, 7_240_000, 0.19, 0.868),
    ("medium-int8", 60_488, 7_240_000, 0.27, 0.866),
    ("large-float32", 364_204, 10_120_000, 0.29, 0.884),
    ("large-int8", 112_904, 10_120_000, 0.41, 0.883),
    ("teacher-float32", 3_449_772, 125_700_000, 2.8, 0.93),
    ("teacher-int8", 1_010_344, 125_700_000, 3.1, 0.927),
]


def make_quantization_error(student):
    """Makes a student's quantization errors: large in its depthwise layer, none in its flattening."""
    return QuantizationError(
        student=student,
        model=f"{student}-int8",
        images=64,
        logits_sqnr_db=17.25,
        changed=0.046875,
        layers=[
            LayerError(
                layer=layer, op=op, cause=cause, sqnr_db=own, rmse_over_scale=rmse, logits_sqnr_db=logits, changed=0
            )
            for layer, op, cause, own, rmse, logits in (
                ("trunk2_1_dw", "DEPTHWISE_CONV_2D", "range", 43.19, 0.18, 17.4),
                ("trunk2_1_pw", "CONV_2D", "weights", 31.3, 1.11, 33.7),
                ("flatten", "RESHAPE", "weights", None, 0.0, None),
            )
        ],
    )


def tally_at(rng, labels, teacher, ids, accuracy, classes):
    """Draws predictions of a given accuracy that are correlated with the teacher's and confuse neighbouring classes."""
    ease = np.where(teacher == labels, 1.02, 0.35)
    right = rng.random(len(labels)) < np.minimum(accuracy * ease, 0.995)
    wrong = (labels + rng.choice([1, 2, 5, 9], len(labels), p=[0.2, 0.5, 0.2, 0.1])) % classes
    predicted = np.where(right, labels, wrong).astype(np.int16)
    confidence = np.clip(rng.beta(9, 1.2, len(labels)) - 0.25 * ~right, 0.15, 1).astype(np.float16)
    ranks = np.where(right, 0, rng.geometric(0.45, len(labels))).astype(np.int16)

    def flip(i):
        return Flip(
            id=f"{int(ids[i]):016x}",
            source=f"cifar10.npz[test {i}]",
            label=int(labels[i]),
            teacher=int(teacher[i]),
            student=int(predicted[i]),
        )

    negative = np.flatnonzero((teacher == labels) & ~right)[:24]
    positive = np.flatnonzero((teacher != labels) & right)[:24]
    flips = [[flip(i) for i in found] for found in (negative, positive)]
    return Tally(ids, labels, teacher, predicted, confidence, ranks, *flips)


def make_sensitivity(rng):
    """Makes the sensitivity of five layers and two groups of channels."""

    def drops(height):
        return [
            Drop(share=s, accuracy_drop=round(height * s**3 - 0.004, 4), divergence=height * s**2)
            for s in (0.25, 0.5, 0.75)
        ]

    layers = ["stem", "trunk1_1_dw", "trunk1_1_pw", "large_tail1_pw", "large_logits"]
    return Sensitivity(
        images=256,
        layers=[
            LayerSensitivity(
                layer=name,
                type="DepthwiseConv2D" if name.endswith("dw") else "Conv2D",
                weights=int(rng.integers(90, 9000)),
                students=["large"] if name.startswith("large") else ["small", "medium", "large"],
                zeros=drops(height) if number >= 2 else [],
                int8=Drop(share=1.0, accuracy_drop=0.001 * number, divergence=0.0004 * number),
                sparsity=0.3 + 0.1 * number if number >= 2 else None,
            )
            for number, (name, height) in enumerate(zip(layers, (0, 0, 2.5, 0.4, 0.1), strict=True))
        ],
        channels=[
            ChannelSensitivity(
                group=group, blocks=[group, f"{group}b"], channels=24, students=["large"], removed=drops(1.0), kept=kept
            )
            for group, kept in (("down1", 20), ("trunk3_1", None))
        ],
    )


def make_report(images=2000, classes=CLASSES, limits=None, objective="accuracy", pictures=None):
    """Makes a report and its thumbnails.

    Args:
        images: Number of test images.
        classes: Names of the classes.
        limits: Limits of the choice, or None.
        objective: Objective of the choice.
        pictures: [n, height, width, channels] uint8 for the thumbnails, or None.
    """
    rng = np.random.default_rng(7)
    count = len(classes)
    splits, correctness, thumbnails = {}, {}, {}
    for split, size in (("validation", images // 2), ("test", images)):
        labels = rng.integers(0, count, size).astype(np.int32)
        teacher = np.where(rng.random(size) < 0.935, labels, (labels + 2) % count).astype(np.int32)
        splits[split] = (labels, teacher, rng.integers(0, 2**63, size, dtype=np.uint64))
    candidates = []
    for name, size, macs, latency, accuracy in FILES:
        student, variant = name.split("-")
        figures = {}
        for split, (labels, teacher, ids) in splits.items():
            tally = tally_at(rng, labels, teacher, ids, accuracy, count)
            figures[split] = figures_of(tally, count, 5)
            if split == "validation":
                correctness[name] = tally.ranks == 0
            else:
                for number, flip in enumerate(figures[split].flips):
                    picture = (
                        rng.integers(0, 256, (8, 8, 3), np.uint8)
                        if pictures is None
                        else pictures[(number * 37 + len(candidates) * 101) % len(pictures)]
                    )
                    thumbnails.setdefault(flip.id, thumbnail(picture))
        whole = variant == "int8"
        candidates.append(
            Candidate(
                name=name,
                student=student,
                variant=variant,
                file=f"{name}.tflite",
                sha256=f"{len(candidates):064x}",
                bytes=size,
                gzip_bytes=int(size * 0.82),
                baseline=student == "teacher",
                parameters=macs // 110,
                macs=macs,
                arena_bytes=65_536 * (1 if whole else 4),
                ops={"CONV_2D": 9, "DEPTHWISE_CONV_2D": 7, "ADD": 3, "FULLY_CONNECTED": 1},
                sparsity=0.48,
                full_int8=whole,
                float_tensors=[] if whole else ["conv1", "dense"],
                latency=[
                    Latency(threads=threads, p50_ms=p50, p90_ms=p50 * 1.2, p99_ms=p50 * 2, runs=50)
                    for threads, p50 in ((1, latency), (2, latency * 0.7))
                ],
                figures=figures,
                layers=[
                    LayerQuantization(layer="stem", type="Conv2D", method="quantization-aware"),
                    LayerQuantization(layer="normalize", type="Rescaling", method="output-only"),
                ]
                if whole
                else [],
            )
        )
    candidates.append(
        candidates[0].model_copy(
            update={
                "name": "small-dynamic",
                "variant": "dynamic",
                "file": "small-dynamic.tflite",
                "sha256": "d" * 64,
                "failed": "small-dynamic.tflite must be a whole .tflite file; it ends after 4,096 of 28,004 bytes.",
                "figures": {},
                "latency": [],
            }
        )
    )
    task = Task(input_shape=(32, 32, 3), classes=list(classes))
    evaluation = Evaluation(
        task=task,
        host=Host(name="bench", processor="AMD EPYC", cores=2, runtime="ai-edge-litert 2.3.0"),
        teacher=TeacherFigures(
            sha256="a" * 64,
            bytes=3_450_000,
            parameters=860_000,
            macs=125_700_000,
            accuracy={"validation": 0.936, "test": 0.9339},
        ),
        images={"validation": images // 2, "test": images},
        candidates=candidates,
    )
    chosen = choose(evaluation, limits or Limits(max_size=100_000), objective, correctness)
    students = ["small", "medium", "large"]
    stages = [("distilled", 30), ("pruned", 6), ("quantized", 4)]
    curves, step = [], 0
    for stage, epochs in stages:
        for epoch in range(1, epochs + 1):
            step += 1
            curves.append(
                Epoch(
                    stage=stage,
                    epoch=epoch,
                    loss={s: 2.2 * np.exp(-step / 9) + 0.5 - 0.08 * k for k, s in enumerate(students)},
                    accuracy={
                        s: (0.82, 0.867, 0.884)[k] * (1 - 0.75 * np.exp(-step / 4)) for k, s in enumerate(students)
                    },
                    learning_rate=0.004 * (1 - step / 41),
                    seconds=92.0,
                )
            )
    file = File(path="small/student.h5", sha256="e" * 64, bytes=9)
    report = Report(
        created="2026-11-24T08:15:00+00:00",
        config={"teacher": {"path": "resnet56_cifar10.h5"}, "distill": {"epochs": 30, "temperature": 4.0}},
        data=DataManifest.model_validate(
            {
                "task": task.model_dump(mode="json"),
                "digest": "b" * 64,
                "counts": {"train": 45_000, "validation": images // 2, "test": images},
                "per_class": {"train": [4500] * count, "validation": [100] * count, "test": [200] * count},
                "duplicates": {"train/test": 3, "train/validation": 0, "validation/test": 0},
                "duplicate_examples": [["cifar10.npz[train 12]", "cifar10.npz[test 900]"]],
                "skipped": [{"source": "cats/0113.jpg", "reason": "image file is truncated"}],
                "skipped_count": 1,
                "unlabeled": None,
                "shards": {"train": [], "validation": [], "test": []},
            }
        ).model_dump(mode="json", exclude={"shards"}),
        teacher=TeacherManifest(
            task=task,
            model="model/resnet56_cifar10.h5",
            format="Keras 3 .h5",
            sha256="a" * 64,
            bytes=3_996_496,
            output="probabilities",
            scaling=Scaling.model_validate("unit"),
            parameters=860_026,
            macs=125_700_000,
            trainable=True,
            accuracy={"validation": 0.936, "test": 0.9339},
        ),
        students=StudentSetManifest(
            task=task,
            stage="pruned",
            normalization=Scaling(),
            teacher_sha256="a" * 64,
            students=[
                Student(name=s, model=file, parameters=18_570 * (k + 1), macs=4_712_000, validation_accuracy=0.8)
                for k, s in enumerate(students)
            ],
            family=None,
            family_spec=None,
            curves=file,
            seed=0,
            sensitivity=make_sensitivity(rng),
        ),
        evaluation=evaluation,
        choice=chosen,
        curves=curves,
        quantization_error=[make_quantization_error(s) for s in students],
        notes=["teacher resnet56_cifar10.h5 cannot be converted to dynamic: there is no operator for Erfc."],
        teacher_forward_passes=180_000,
    )
    return report, thumbnails


@pytest.fixture(scope="session")
def sample():
    """Report with its thumbnails."""
    return make_report()


@pytest.fixture(name="make_report")
def make_report_fixture():
    """Function that makes a report with other classes or limits."""
    return make_report


@pytest.fixture(scope="session")
def classifiers():
    """Bytes of a small .tflite classifier of normalized 32x32x3 images into ten classes, by variant."""
    import tensorflow as tf
    import tf_keras as keras

    keras.utils.set_random_seed(1)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu", kernel_initializer="he_normal")(image)
    scores = keras.layers.Dense(10, kernel_initializer="orthogonal")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Softmax()(scores))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 32, 32, 3)).astype(np.float32)

    def convert(variant):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([(image - 127.5) / 127.5] for image in pixels)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = getattr(tf, variant)
        return converter.convert()

    return {variant: convert(variant) for variant in ("float32", "int8", "uint8")}


@pytest.fixture(scope="session")
def described(classifiers):
    """Writes a candidate's file as a run does, with labels and normalization, and with different bytes for each."""

    def write(path, candidate):
        data = classifiers[candidate.variant if candidate.variant in classifiers else "float32"]
        about = {"name": candidate.name, "description": "Tells ten.", "labels": CLASSES}
        path.write_bytes(write_metadata(data, **about, mean=[127.5], std=[127.5]))

    return write


@pytest.fixture(scope="session")
def write_examples():
    """Writes Examples with the manifest of a report: two shards of the test split with random labels."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def write(folder, report, count=60):
        rng = np.random.default_rng(11)
        shards = [f"data_tfrecord-{i:05d}-of-00002.gz" for i in range(2)]
        (folder / "Split-test").mkdir(parents=True)
        for number, shard in enumerate(shards):
            path = str(folder / "Split-test" / shard)
            with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
                for row in range(number * count // 2, (number + 1) * count // 2):
                    features = {
                        "image": feature(rng.integers(0, 256, 32 * 32 * 3, np.uint8).tobytes()),
                        "label": feature(int(rng.integers(len(CLASSES)))),
                        "id": feature(f"{row:016x}".encode()),
                        "source": feature(f"test {row}".encode()),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())
        write_manifest(folder, DataManifest(**report.data, shards={"train": [], "validation": [], "test": shards}))
        return folder

    return write
