# SPDX-License-Identifier: Apache-2.0
"""Trainings on several devices and in several processes: real ones, on two parts of this machine's processor."""

import importlib.util
import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support import forked

from learn2compress.compression.family.model import build_family
from learn2compress.compression.training.devices.distribution import Distribution, open_distribution
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.schemas.errors import ConfigError, TrainingError

SCRIPT = Path(__file__).with_name("distributed_training.py")


@pytest.fixture(scope="module")
def one_device():
    """Results of the same training on one device."""
    spec = importlib.util.spec_from_file_location("distributed_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.train(Distribution())[1]


def start(strategy: str, folder: Path, **environment: str) -> forked.Program:
    """Starts the training in a process of its own, which has imported TensorFlow and computed nothing with it."""
    return forked.start(str(SCRIPT), [strategy, str(folder)], env={**os.environ, **environment})


def output_of(program: forked.Program) -> str:
    return program.read("stdout") + program.read("stderr")


def assert_same_training(found: dict, expected: dict) -> None:
    """Compare two trainings up to the order of additions and the variance of batch normalization: E(x²) - E(x)²,
    without Bessel's correction n / (n - 1) in the running average."""
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-4)
    assert found["sparsity"] == expected["sparsity"] == 0.5
    for ours, theirs in zip(found["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-3)
    # Of 40 images, one may be classified differently.
    np.testing.assert_allclose(found["accuracy"], expected["accuracy"], atol=1 / 40 + 1e-6)
    assert found["again"] in found["accuracy"]


def test_mirrored_training_equals_training_on_one_device(one_device, tmp_path):
    with start("mirrored", tmp_path) as process:
        assert process.wait() == 0, output_of(process)

    found = json.loads((tmp_path / "worker-0.json").read_text())
    assert_same_training(found, one_device)


@pytest.mark.slow
def test_two_workers_train_like_one_device_resume_and_report_a_lost_worker(one_device, tmp_path):
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("localhost", 0))
        addresses = [f"localhost:{listener.getsockname()[1]}" for listener in (one, other)]
    cluster = {"worker": addresses}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    with (
        start("multi_worker", tmp_path, TF_CONFIG=json.dumps(tasks[0])) as one,
        start("multi_worker", tmp_path, TF_CONFIG=json.dumps(tasks[1])) as other,
    ):
        ended = [one.wait(), other.wait()]
        assert ended == [0, -signal.SIGTERM], output_of(one) + output_of(other)

    chief, other = (json.loads((tmp_path / f"worker-{index}.json").read_text()) for index in range(2))
    assert chief.pop("lost").startswith("the 2 workers must run to the end; one was lost: ")
    assert chief == other
    assert_same_training(chief, one_device)
    assert chief.pop("resumed") == chief
    assert not (tmp_path / "checkpoints-1").exists()


def test_mirrored_refuses_a_single_device():
    with pytest.raises(ConfigError, match=r"mirrored must have at least two devices; got /device:CPU:0\. Set CUDA_"):
        open_distribution("mirrored")


def test_multi_worker_refuses_to_train_without_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)

    with pytest.raises(ConfigError, match="TF_CONFIG must be set"):
        open_distribution("multi_worker")


def test_multi_worker_refuses_when_tensorflow_was_used_before(monkeypatch):
    cluster = {"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    tf.constant(1.0)

    with pytest.raises(TrainingError, match=r"before anything else is done with TensorFlow; .* Start a new process"):
        open_distribution("multi_worker")


class Three(Distribution):
    replicas = 3


def test_train_refuses_a_batch_that_cannot_be_divided(stripes):
    trainer = JointTrainer(
        build_family(stripes.LEAST, seed=1),
        stripes.LEAST.students,
        Recipe("distilled", 1, 1, 0.1),
        distribution=Three(),
    )
    images, labels = stripes.draw(32, 0)
    data = stripes.batches(images, labels, stripes.StripesTeacher().logits(images))

    with pytest.raises(
        ConfigError, match=r"divisible by the 3 replicas .* got 32 images\. Set distill.batch_size to 30"
    ):
        trainer.train(lambda _: data, stripes.batches(images, labels))


def test_trainer_refuses_a_jointly_trained_teacher_on_several_devices():
    with pytest.raises(TrainingError, match=r"must be on one device; got 3\. Set distill.strategy to none"):
        JointTrainer(None, ("small",), Recipe("distilled", 1, 1, 0.1), teacher=object(), distribution=Three())
