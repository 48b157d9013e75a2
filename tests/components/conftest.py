# SPDX-License-Identifier: Apache-2.0
"""Provides fixtures for the tests of the nodes: artifacts at a path, students of Distiller, an imported teacher."""

import pytest


def artifact_at(kind, uri, number=1):
    """Makes an artifact of a type at a path."""
    artifact = kind()
    artifact.uri, artifact.id = str(uri), number
    return artifact


@pytest.fixture(scope="session")
def artifact():
    return artifact_at


@pytest.fixture(scope="session")
def stripes_unlabeled(stripes, stripes_artifacts, tmp_path_factory):
    """Folder of `Examples` with images without labels: copies of the validation images with the label -1."""
    import shutil

    import tensorflow as tf

    from learn2compress.schemas.manifests import DataManifest, Unlabeled, read_manifest, write_manifest

    folder = tmp_path_factory.mktemp("unlabeled") / "examples"
    shutil.copytree(stripes_artifacts[0], folder)
    data = read_manifest(folder, DataManifest)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    (folder / "Split-unlabeled").mkdir()
    for name in data.shards["validation"]:
        with tf.io.TFRecordWriter(str(folder / "Split-unlabeled" / name), options) as writer:
            for record in tf.data.TFRecordDataset(str(folder / "Split-validation" / name), "GZIP"):
                example = tf.train.Example.FromString(record.numpy())
                example.features.feature["label"].int64_list.value[:] = [-1]
                writer.write(example.SerializeToString())
    unlabeled = Unlabeled(count=stripes.COUNTS["validation"], shards=data.shards["validation"])
    write_manifest(folder, data.model_copy(update={"unlabeled": unlabeled}))
    return folder


@pytest.fixture(scope="session")
def distilled(stripes, trained_weights, tmp_path_factory):
    """Folder of a `StudentSet` of stripes.SPEC."""
    from learn2compress.compression.family.model import build_family
    from learn2compress.schemas.manifests import Epoch

    family = build_family(stripes.SPEC, seed=1)
    family.set_weights(trained_weights)
    folder = tmp_path_factory.mktemp("distilled")
    accuracy = {"small": 1.0, "large": 1.0}
    curves = [Epoch(stage="distilled", epoch=1, loss=accuracy, accuracy=accuracy, learning_rate=0.1, seconds=1.0)]
    stripes.write_family(folder, family, curves=curves, notes=["a note"])
    return folder


@pytest.fixture(scope="session")
def imported(stripes, tmp_path_factory):
    """Folder of a `Teacher` of TeacherImporter: its logits are the mean brightness of each pair of columns."""
    import numpy as np
    import tf_keras as keras

    from learn2compress.schemas.digests import file_sha256
    from learn2compress.schemas.manifests import Task, TeacherManifest, write_manifest
    from learn2compress.schemas.scaling import Scaling

    folder = tmp_path_factory.mktemp("teacher")
    kernel = np.zeros((*stripes.SHAPE, 3), np.float32)
    for c in range(3):
        kernel[:, 3 * c : 3 * c + 2, :, c] = 255 / 160
    image = keras.Input(stripes.SHAPE)
    logits = keras.layers.Dense(3, use_bias=False)(keras.layers.Flatten()(image))
    model = keras.Model(image, logits)
    model.layers[-1].set_weights([kernel.reshape(-1, 3)])
    path = folder / "model" / "t.keras"
    path.parent.mkdir()
    model.save(path)
    manifest = TeacherManifest(
        task=Task(input_shape=stripes.SHAPE, classes=stripes.CLASSES),
        model="model/t.keras",
        format="keras2-keras",
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        output="logits",
        scaling=Scaling.named("unit"),
        parameters=192,
        macs=192,
        trainable=True,
        accuracy={"validation": 1.0, "test": 1.0},
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def inference_counts(monkeypatch):
    """Numbers of images in a teacher's forward passes, one entry for each call; a call in a compiled step counts 1."""
    import numpy as np

    from learn2compress.compression.teacher.classifier import LoadedTeacher

    counts = []
    for name in ("in_pieces", "tf_logits"):
        original = getattr(LoadedTeacher, name)
        place = 3 if name == "in_pieces" else 1

        def counted(*arguments, original=original, place=place, **named):
            counts.append(len(arguments[place]) if isinstance(arguments[place], np.ndarray) else 1)
            return original(*arguments, **named)

        monkeypatch.setattr(LoadedTeacher, name, counted)
    return counts
