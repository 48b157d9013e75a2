# SPDX-License-Identifier: Apache-2.0
"""Runs a short training in a separate process for test_distribution.py, since devices cannot be changed later.

    python distributed_training.py STRATEGY FOLDER

Writes FOLDER/worker-N.json: the curves and final weights of a training with pruning and of one that was interrupted and
resumed, and the error message when worker 1 is lost.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from learn2compress.compression.family.model import build_family
from learn2compress.compression.pruning.magnitude import prune_while_training
from learn2compress.compression.training.devices.distribution import open_distribution
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.errors import TrainingError

LOSS = LossConfig(student_weights={"large": 0.5})
RECIPE = Recipe("pruned", 3, 2, 1e-2, LOSS, weight_decay=1e-3, ema_decay=0.8, warmup_epochs=1.0)


class Interrupted(Exception):
    pass


def main(strategy: str, folder: Path) -> None:
    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    distribution = open_distribution(strategy)
    index = distribution.cluster.index if distribution.cluster else 0
    if distribution.replicas > 1:
        # Only the data of the chief is used.
        received = distribution.broadcast(b"from the chief" if distribution.is_chief else b"ignored")
        assert (received, distribution.broadcast(None)) == (b"from the chief", b"")
    trainer, found = train(distribution)
    if strategy == "multi_worker":
        found["resumed"] = interrupted_and_resumed(distribution, folder / f"checkpoints-{index}/c.npz")
        (folder / f"worker-{index}.json").write_text(json.dumps(found))
        found["lost"] = message_when_worker_1_is_lost(trainer)
    (folder / f"worker-{index}.json").write_text(json.dumps(found))


def train(distribution, epoch_batches=None, checkpoint=None) -> tuple[JointTrainer, dict]:
    model = build_family(stripes.LEAST, seed=1 if distribution.is_chief else 2)
    replicated = distribution.replicate(model)
    with distribution.scope():
        pruned = prune_while_training(replicated, 0.5, total_steps=6)
    masks = {"after_step": pruned.apply_masks, "after_restore": pruned.apply_masks, "state": pruned.state}
    trainer = JointTrainer(
        pruned.model,
        stripes.LEAST.students,
        RECIPE,
        before_step=pruned.before_step,
        distribution=distribution,
        **masks,
    )
    validation = stripes.batches(*stripes.draw(40, 1))
    curve = trainer.train(epoch_batches or batches, validation, checkpoint)
    distribution.gather(pruned.strip(), model)
    assert type(model.get_layer("stem").kernel).__name__ == "ResourceVariable"
    return trainer, {
        "losses": [list(epoch.loss.values()) for epoch in curve],
        "accuracy": [list(epoch.accuracy.values()) for epoch in curve],
        "again": list(trainer.accuracy(validation).values()),
        "sparsity": float(np.mean(model.get_layer("trunk2_1").kernel == 0)),
        "weights": [weights.tolist() for weights in model.get_weights()],
    }


def interrupted_and_resumed(distribution, checkpoint: Path) -> dict:
    def interrupted(epoch):
        if epoch == 1:
            raise Interrupted
        return batches(epoch)

    try:
        train(distribution, interrupted, checkpoint)
    except Interrupted:
        assert checkpoint.exists() == distribution.is_chief
    return train(distribution, checkpoint=checkpoint)[1]


def message_when_worker_1_is_lost(trainer) -> str:
    def lost(epoch):
        if epoch == 1 and trainer.distribution.cluster.index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(epoch)

    try:
        trainer.train(lost, stripes.batches(*stripes.draw(40, 1)))
    except TrainingError as error:
        return str(error)
    return ""


def batches(epoch: int) -> tf.data.Dataset:
    order = np.random.default_rng(epoch).permutation(96)[:64]
    return stripes.batches(images[order], labels[order], teacher[order])


sys.path.insert(0, str(Path(__file__).parents[3]))
stripes = importlib.import_module("support.stripes")
images, labels = stripes.draw(96, 0)
teacher = stripes.StripesTeacher().logits(images)

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
