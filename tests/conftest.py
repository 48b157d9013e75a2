# SPDX-License-Identifier: Apache-2.0
"""Provides the fixtures of tests in several packages, and settings of the test session."""

import gc
import resource
import signal

import numpy as np
import pytest
from support.models import keras_student, pixels, sparse_family, tflite_models
from support.passes import declare_pass, example_pass, example_wheel
from support.reports import classifiers, described, make_report_fixture, sample, write_examples
from support.runs.fixtures import make_run, open_store, tiny_dag, tiny_run
from support.schedule import FileByFile, quick_first
from support.servers import s3_server
from support.shared import made_once

__all__ = [
    "classifiers", "declare_pass", "described", "example_pass", "example_wheel", "keras_student",
    "make_report_fixture", "make_run", "open_store", "pixels", "sample", "sparse_family", "tflite_models",
    "tiny_dag", "tiny_run", "write_examples",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=quick_first)


def pytest_collection_finish():
    # Objects of imported modules live until the end, and tracing makes many long-lived objects; searching all of them
    # again in each garbage collection takes up to a seventh of the time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return FileByFile(config, log)


@pytest.fixture(scope="session")
def brightest_pixel_tflite():
    """Bytes of a float .tflite classifier of 2x2x1 images; its four scores are the pixels divided by 255."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, 2, 2, 1], tf.float32)])
    def scores(image):
        return tf.reshape(image, [1, 4]) / 255.0

    return tf.lite.TFLiteConverter.from_concrete_functions([scores.get_concrete_function()], scores).convert()


@pytest.fixture
def type_in(capsys):
    """Runs a command line; returns its exit status, output and error output."""
    from learn2compress.cli.main import main

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        return left.value.code, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def stripes():
    """Module tests/support/stripes.py: images of three classes, a family of two students, artifacts of both."""
    from support import stripes

    return stripes


@pytest.fixture(scope="session")
def trained_weights(stripes, tmp_path_factory):
    """Weights of a family of stripes.SPEC, trained until it classifies all validation images correctly."""

    def make(folder):
        np.savez(folder / "weights.npz", *train(stripes))

    with np.load(made_once(tmp_path_factory, "trained-weights", make) / "weights.npz") as arrays:
        return [arrays[name] for name in arrays.files]


def train(stripes):
    from learn2compress.compression.family.model import build_family
    from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe

    images, labels = stripes.draw(96, 0)
    data = stripes.batches(images, labels, stripes.StripesTeacher().logits(images))
    family = build_family(stripes.SPEC, seed=1)
    trainer = JointTrainer(family, stripes.SPEC.students, Recipe("distilled", 20, 3, 2e-2))
    trainer.train(lambda _: data, stripes.batches(*stripes.draw(33, 1)))
    accuracy = trainer.accuracy(stripes.batches(*stripes.draw(33, 1)))
    assert min(accuracy.values()) == 1.0, accuracy
    return family.get_weights()


@pytest.fixture
def trained_family(stripes, trained_weights):
    """Builds a new family with the trained weights for each test."""
    from learn2compress.compression.family.model import build_family

    family = build_family(stripes.SPEC, seed=1)
    family.set_weights(trained_weights)
    return family


@pytest.fixture(scope="session")
def stripes_artifacts(stripes, tmp_path_factory):
    """Folders of `Examples` and `TeacherLogits` on disk."""
    folder = tmp_path_factory.mktemp("stripes")
    data = stripes.write_examples(folder / "examples")
    stripes.write_logits(folder / "logits", folder / "examples", data)
    return folder / "examples", folder / "logits"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Starts an object store with the bucket `bucket`, and sets its credentials in the environment."""
    import s3fs

    (tmp_path / "store" / "bucket").mkdir(parents=True)
    with s3_server.serving(tmp_path / "store") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def small_files():
    """A process that may write files of at most 4,096 bytes, as on a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
