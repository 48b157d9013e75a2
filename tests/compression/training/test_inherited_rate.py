# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.compression.family.model import build_family
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe


@pytest.fixture(scope="module")
def batches(stripes):
    images, labels = stripes.draw(64, 0)
    teacher = stripes.StripesTeacher().logits(images)
    return lambda _: stripes.batches(images, labels, teacher)


def changes(stripes, batches, rate: float, checkpoint=None):
    """Mean change of the inherited layers' weights and of those of the heads, and the trainer."""
    family = build_family(stripes.LEAST, seed=1)
    heads = {f"{name}_logits" for name in stripes.LEAST.students}
    inherited = {layer.name for layer in family.layers if layer.weights and layer.name not in heads}
    before = {layer.name: layer.get_weights() for layer in family.layers}
    recipe = Recipe("distilled", 1, 2, 1e-2, inherited_rate=rate)
    trainer = JointTrainer(family, stripes.LEAST.students, recipe, inherited=inherited)
    trainer.train(batches, None, checkpoint)
    moved = {
        layer.name: np.mean(
            [np.abs(a - b).mean() for a, b in zip(layer.get_weights()[:1], before[layer.name], strict=False)]
        )
        for layer in family.layers
        if layer.trainable_weights
    }
    return np.mean([moved[n] for n in moved if n in inherited]), np.mean([moved[n] for n in heads]), trainer


def test_inherited_weights_are_trained_at_a_rate_of_their_own(stripes, batches):
    slow, new, trainer = changes(stripes, batches, 0.01)
    plain, same, _ = changes(stripes, batches, 1.0)
    assert slow < plain / 20
    assert new > same / 3
    assert trainer.slow_optimizer is not None


def test_checkpoint_holds_the_state_of_both_optimizers(stripes, batches, tmp_path):
    _, _, trainer = changes(stripes, batches, 0.5, tmp_path / "training.npz")
    with np.load(tmp_path / "training.npz") as saved:
        states = sum(key.startswith("state") for key in saved.files)
    assert states == len(trainer.state)
    assert {id(v) for v in trainer.slow_optimizer.variables} <= {id(v) for v in trainer.state}
