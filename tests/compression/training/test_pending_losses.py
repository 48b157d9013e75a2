# SPDX-License-Identifier: Apache-2.0
"""The loss of a step is read while later steps run, so that no step waits for it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.schemas.errors import TrainingError

STEPS = 40


class Pending:
    """The loss of a step on an accelerator, which is not yet known."""

    def __init__(self, step: int, value: float, events: list[tuple[str, int]]) -> None:
        self.step, self.value, self.events = step, value, events
        events.append(("started", step))

    def numpy(self) -> np.ndarray:
        self.events.append(("read", self.step))
        return np.full(1, self.value, np.float32)


def train(values: list[float]) -> tuple[list, list[tuple[str, int]]]:
    """Trains one epoch whose steps have the given losses; returns the curve and the order of starts and reads."""
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    trainer, events = JointTrainer(model, ["only"], Recipe("distilled", 1, STEPS, 0.01)), list[tuple[str, int]]()
    steps = iter(enumerate(values))
    trainer.step = lambda *_: Pending(*next(steps), events)
    images = np.zeros((STEPS, 2, 2, 1), np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((images, np.zeros(STEPS, np.int64), np.zeros((STEPS, 2)))).batch(1)
    return trainer.train(lambda _: batches, None), events


def test_train_reads_losses_in_order_while_later_steps_run():
    curve, events = train([float(step) for step in range(STEPS)])
    assert [step for kind, step in events if kind == "read"] == list(range(STEPS))
    assert events.index(("read", 0)) > events.index(("started", 10))
    assert curve[0].loss == {"only": pytest.approx((STEPS - 1) / 2)}


@pytest.mark.parametrize("step", [3, STEPS])
def test_train_names_the_step_whose_loss_is_not_finite(step):
    values = [1.0] * STEPS
    values[step - 1] = np.nan
    with pytest.raises(TrainingError, match=rf"it was not in epoch 1, step {step}\."):
        train(values)
