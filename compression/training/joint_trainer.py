# SPDX-License-Identifier: Apache-2.0
"""Joint training of all students of a family: one compiled step, one forward pass, one optimizer.

Distiller, Pruner and Quantizer all train with this loop, each on its own form of the model. An epoch is a pure
function of the seed and its number, and a checkpoint is written after each, so a training that was killed goes on
from its last epoch as if nothing had happened.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.training.accuracy import top1_accuracy
from learn2compress.compression.training.distribution import Distribution
from learn2compress.compression.training.joint_teacher import TeacherInLoop
from learn2compress.compression.training.losses import family_losses
from learn2compress.compression.training.random_layers import seed_random_layers
from learn2compress.compression.training.schedules import cosine_with_warmup, moving_average_decay
from learn2compress.compression.training.workers import check_divisible
from learn2compress.data.batches import whole_shards
from learn2compress.modalities import modality_named
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.errors import OutputError, TrainingError
from learn2compress.schemas.manifests import DEFAULT_MODALITY, Epoch
from learn2compress.schemas.progress import Task

# An epoch's training batches: (images [b, h, w, c] uint8, labels [b] int64, teacher logits [b, classes] float32). Where
# the teacher is in the loop its logits are computed in the step, and what stands in their place is not looked at.
EpochBatches = Callable[[int], "tf.data.Dataset"]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train; see DistillConfig for each.

    Attributes:
        choose_from: Epochs before this one are never the best: their model is not what will ship.
        seed: Of layers that draw at random, such as dropout.
        modality: Of the examples: how a batch of them becomes the model's input.
    """

    stage: str
    epochs: int
    steps_per_epoch: int
    learning_rate: float
    loss: LossConfig = field(default_factory=LossConfig)
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    patience: int | None = None
    choose_from: int = 0
    seed: int = 0
    modality: str = DEFAULT_MODALITY


class JointTrainer:
    """Trains a model with one output a student.

    Args:
        model: Takes normalized examples (see `modalities.protocol.StudentInput`), gives a list of logits
            [batch, classes], or one where there is one student.
        names: The students, in the order of the outputs.
        recipe: How long and how fast.
        before_step: Called with the number of the step before each, for what follows its own schedule (pruning).
        after_step: Called once, while the step is compiled: TensorFlow operations that end each step (zeros put back).
        after_restore: Called whenever weights were put back in the model (averaged, best, from a checkpoint), to
            restore what they must satisfy (zeros that stay zero).
        state: Variables that the checkpoint must hold beside those of model and optimizer (masks).
        teacher: Trained along, at its own learning rate; the students learn from what it answers in the same step.
        losses: From (labels, what the batches hold third, outputs) to a [batch] of losses a student; default: the
            recipe's, of labels and teacher logits.
        distribution: On which devices; model and masks must have been made in its scope: see `spread`.

    Attributes:
        step: The compiled step: (images [b, h, w, c] uint8, labels [b] int64, teacher logits [b, classes], decay
            of the average []) to the loss of each student [students], and of a teacher in the loop after them.
    """

    def __init__(
        self,
        model: keras.Model,
        names: Sequence[str],
        recipe: Recipe,
        before_step: Callable[[int], None] | None = None,
        after_step: Callable[[], None] | None = None,
        after_restore: Callable[[], None] | None = None,
        state: Sequence[tf.Variable] = (),
        teacher: TeacherInLoop | None = None,
        losses: Callable[..., list] | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        self.model, self.names, self.recipe, self.teacher = model, tuple(names), recipe, teacher
        self.losses = losses or partial(family_losses, config=recipe.loss)
        self.before_step, self.after_step, self.after_restore = before_step, after_step, after_restore
        self.distribution = distribution or Distribution()
        if teacher and self.distribution.replicas > 1:
            raise TrainingError(
                f"a teacher that is trained along must be on one device; got {self.distribution.replicas}. Set "
                "distill.strategy to none, or teacher.mode to fixed."
            )
        # Several replicas draw apart from one another; what they drew so far is not held.
        random = seed_random_layers(model, recipe.seed) if self.distribution.replicas == 1 else []
        self.averaged = _averaged_variables(model)
        with self.distribution.scope():
            self.optimizer = _optimizer(recipe, model.trainable_variables)
            self.average = [self._average_of(v) for v in self.averaged] if recipe.ema_decay else []
        self.distribution.synchronize(model)
        self.weights = tuple(recipe.loss.student_weights.get(name, 1.0) for name in self.names)
        self.state = [*model.variables, *random, *self.optimizer.variables, *self.average, *state]
        self.state += teacher.state if teacher else []
        # Autograph would look through the source of each layer for loops to convert, which takes most of the time.
        self.inputs = modality_named(recipe.modality).student_input
        examples = self.inputs.spec(model.input_shape[1:])
        self.step = self.distribution.compile(self._step_eagerly, reduce_retracing=True)
        self._predict = self.distribution.compile(self._predict_eagerly, input_signature=[examples])

    @whole_shards()
    def train(
        self, epoch_batches: EpochBatches, validation: tf.data.Dataset | None, checkpoint: Path | None = None
    ) -> list[Epoch]:
        """Trains to the end, and leaves the best epoch's weights in the model, and a teacher's own best in the teacher.

        Args:
            epoch_batches: From an epoch's number, from 0, to its batches: always the same for the same number.
            validation: Batches of (images [b, h, w, c] uint8, labels [b] int64), read once an epoch; None where nothing
                is classified: then the last epoch is the best.
            checkpoint: A file that is written after each epoch and, where it is there already, gone on from.

        Returns:
            The training curve.

        Raises:
            TrainingError: The loss is not finite, or the checkpoint is damaged or belongs to another training.
            OutputError: The checkpoint cannot be written.
            DataError: A shard is damaged.
        """
        curve, best, best_accuracy = self._restore(checkpoint)
        task = Task(f"{self.recipe.stage}: epoch", self.recipe.epochs, before=len(curve))
        for epoch in range(len(curve), self.recipe.epochs):
            if self._out_of_patience(curve):
                break
            began = time.monotonic()
            losses, teacher_loss = self._train_epoch(epoch, epoch_batches(epoch))
            current = self._swap_in_average()
            accuracy = {} if validation is None else self.accuracy(validation)
            mean = float(np.mean(list(accuracy.values()) or [0.0]))
            if epoch >= self.recipe.choose_from and mean >= best_accuracy:
                best, best_accuracy = [self._read(v) for v in self.averaged], mean
            self._put(current)
            teacher_accuracy = None
            if self.teacher:
                teacher_accuracy = self.teacher.accuracy(validation)
                self.teacher.note(epoch + 1, teacher_accuracy)
            curve.append(
                Epoch(
                    stage=self.recipe.stage,
                    epoch=epoch + 1,
                    loss=losses,
                    accuracy=accuracy,
                    learning_rate=float(self.optimizer.learning_rate.numpy()),
                    seconds=time.monotonic() - began,
                    teacher_loss=teacher_loss,
                    teacher_accuracy=teacher_accuracy,
                )
            )
            self._save(checkpoint, curve, best, best_accuracy)
            task.advance(detail=describe_epoch(curve[-1]))
        self._put(best)
        if self.teacher:
            self.teacher.restore_best()
        return curve

    def accuracy(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Top-1 accuracy of each student on batches of (images uint8, labels)."""
        return top1_accuracy(self._predict, self.names, batches)

    def _forward(self, images: tf.Tensor, training: bool) -> list[tf.Tensor]:
        outputs = self.model(self.inputs.normalize(images), training=training)
        return list(outputs) if isinstance(outputs, list | tuple) else [outputs]

    def _predict_eagerly(self, images: tf.Tensor) -> list[tf.Tensor]:
        return self._forward(images, training=False)

    def _step_eagerly(
        self, images: tf.Tensor, labels: tf.Tensor, teacher_logits: tf.Tensor, decay: tf.Tensor
    ) -> tf.Tensor:
        variables, teacher = self.model.trainable_variables, self.teacher
        # A replica's loss is its share of the whole batch's: the optimizer adds the gradients up.
        images, labels, teacher_logits = self.distribution.part(images, labels, teacher_logits)
        share = 1 / self.distribution.replicas
        with tf.GradientTape() as tape:
            outputs = self._forward(images, training=True)
            if teacher:
                live = teacher.logits(images)
                teacher_logits = tf.stop_gradient(live)
            losses = [tf.reduce_mean(loss) for loss in self.losses(labels, teacher_logits, outputs)]
            total = tf.add_n([weight * share * loss for weight, loss in zip(self.weights, losses, strict=True)])
            if teacher:
                losses.append(teacher.loss(labels, live, outputs))
                total += losses[-1]  # no gradient passes from one side's loss to the other's variables
        gradients = tape.gradient(total, [*variables, *(teacher.variables if teacher else ())])
        self.optimizer.apply_gradients(zip(gradients[: len(variables)], variables, strict=True))
        if teacher:
            teacher.apply(gradients[len(variables) :])
        if self.after_step:
            self.after_step()
        for average, variable in zip(self.average, self.averaged, strict=False):
            average.assign_sub((1 - decay) * (average - variable))
        return self.distribution.sum(share * tf.stack(losses))

    def _train_epoch(self, epoch: int, batches: tf.data.Dataset) -> tuple[dict[str, float], float | None]:
        recipe = self.recipe
        total_steps = recipe.epochs * recipe.steps_per_epoch
        warmup_steps = int(recipe.warmup_epochs * recipe.steps_per_epoch)
        losses, steps = np.zeros(len(self.names) + (self.teacher is not None)), 0
        task = Task(f"{recipe.stage}: epoch {epoch + 1} step", recipe.steps_per_epoch)
        for images, labels, teacher_logits in batches:
            check_divisible(len(labels), self.distribution.replicas)
            step = epoch * recipe.steps_per_epoch + steps
            self.optimizer.learning_rate.assign(
                cosine_with_warmup(step, total_steps, recipe.learning_rate, warmup_steps)
            )
            if self.teacher:
                peak = self.teacher.recipe.learning_rate
                self.teacher.set_rate(cosine_with_warmup(step, total_steps, peak, warmup_steps))
            if self.before_step:
                with self.distribution.scope():
                    self.before_step(step)
            decay = tf.constant(moving_average_decay(step, recipe.ema_decay), tf.float32)
            losses += self.step(images, labels, teacher_logits, decay).numpy()
            steps += 1
            self._check_finite(losses, epoch, steps)
            task.advance()
        if not steps:
            raise TrainingError(
                "an epoch must have at least one batch; got none. Give more images or a smaller batch_size."
            )
        means = (losses / steps).tolist()
        return dict(zip(self.names, means, strict=False)), means[-1] if self.teacher else None

    def _check_finite(self, losses: np.ndarray, epoch: int, step: int) -> None:
        if not np.all(np.isfinite(losses)):
            whose = [*self.names, "the teacher"]
            worst = [name for name, loss in zip(whose, losses, strict=False) if not math.isfinite(loss)]
            rates = f"now {self.recipe.learning_rate:g}"
            rates += f", the teacher's {self.teacher.recipe.learning_rate:g}" if self.teacher else ""
            raise TrainingError(
                f"the loss of {', '.join(worst)} must be finite; it was not in epoch {epoch + 1}, step {step}. "
                f"Lower the learning rate ({rates})."
            )

    def _out_of_patience(self, curve: list[Epoch]) -> bool:
        if self.recipe.patience is None:  # also where nothing is classified, and there is no accuracy
            return False
        counted = [float(np.mean(list(e.accuracy.values()))) for e in curve[self.recipe.choose_from :]]
        if not counted:
            return False
        return len(counted) - 1 - int(np.argmax(counted)) >= self.recipe.patience

    def _swap_in_average(self) -> list[np.ndarray]:
        """Puts the averaged weights in the model; returns those that were there."""
        current = [self._read(v) for v in self.averaged]
        if self.average:
            self._put([self._read(v) for v in self.average])
        return current

    def _put(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self.averaged, values, strict=True):
            variable.assign(value)
        if self.after_restore:
            self.after_restore()

    def _average_of(self, variable: tf.Variable) -> tf.Variable:
        # Each replica averages by itself: what it averages is the same in all.
        return tf.Variable(
            self._read(variable),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def _read(self, variable: tf.Variable) -> np.ndarray:
        return self.distribution.read(variable)

    def _signature(self) -> str:
        """What must be equal for a training to go on: the students, how they are trained, what they are made of."""
        shapes = [[v.name.split(":")[0].rsplit("/", 1)[-1], *v.shape.as_list()] for v in self.state]
        teacher = [asdict(self.teacher.recipe)] if self.teacher else []
        recipe = {**asdict(self.recipe), "loss": self.recipe.loss.model_dump()}
        return json.dumps([self.names, recipe, shapes, *teacher])

    def _save(self, path: Path | None, curve: list[Epoch], best: list[np.ndarray], best_accuracy: float) -> None:
        if path is None or not self.distribution.is_chief:
            return
        arrays: dict[str, Any] = {f"state{i}": self._read(v) for i, v in enumerate(self.state)}
        arrays |= {f"best{i}": v for i, v in enumerate(best)}
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez(
                    file,
                    signature=self._signature(),
                    curve=json.dumps([e.model_dump() for e in curve]),
                    best_accuracy=best_accuracy,
                    **arrays,
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)  # a kill leaves the old file or the new one, never half of one
        except OSError as error:
            raise OutputError(
                f"checkpoint {path} must be writable; {error.strerror}. Free some space, or choose another output."
            ) from error

    def _restore(self, path: Path | None) -> tuple[list[Epoch], list[np.ndarray], float]:
        try:
            own = b""
            if path is not None and self.distribution.is_chief and path.exists():
                own = b"." + path.read_bytes()
            content = self.distribution.share(own)
            if not content:
                return [], [self._read(v) for v in self.averaged], -1.0
            with np.load(io.BytesIO(content[1:]), allow_pickle=False) as file:
                saved = {key: file[key] for key in file.files}
            if str(saved["signature"]) != self._signature():
                raise TrainingError(
                    f"checkpoint {path} must belong to this family and recipe; it was written by another. Delete it."
                )
            for index, variable in enumerate(self.state):
                variable.assign(saved[f"state{index}"])
            best = [saved[f"best{i}"] for i in range(len(self.averaged))]
            curve = [Epoch.model_validate(e) for e in json.loads(str(saved["curve"]))]
            return curve, best, float(saved["best_accuracy"])
        except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise TrainingError(f"checkpoint {path} must be whole; {error}. Delete it to train anew.") from error


def describe_epoch(epoch: Epoch) -> str:
    """One line for a person: validation accuracy and training loss of each student, and seconds."""
    figures = {"validation accuracy": dict(epoch.accuracy), "loss": dict(epoch.loss)}
    for shown, teachers in zip(figures.values(), (epoch.teacher_accuracy, epoch.teacher_loss), strict=True):
        if teachers is not None:
            shown["the teacher"] = teachers
    parts = [
        f"{what} {', '.join(f'{name} {value:.3f}' for name, value in shown.items())}"
        for what, shown in figures.items()
        if shown
    ]
    return f"{'; '.join(parts)} ({epoch.seconds:.0f} s)"


def _optimizer(recipe: Recipe, variables: Sequence[tf.Variable]) -> keras.optimizers.Optimizer:
    """Adam with decoupled weight decay (1711.05101) of kernels: biases and normalization are left alone."""
    optimizer = keras.optimizers.Adam(recipe.learning_rate, weight_decay=recipe.weight_decay or None)
    # By variable: by name, tf_keras would search for a pattern, which a student's or a layer's name may hold as well.
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not v.name.split(":")[0].endswith("kernel")])
    optimizer.build(variables)
    return optimizer


def _averaged_variables(model: keras.Model) -> list[tf.Variable]:
    """What a model is made of: trained weights and batch statistics; not masks, thresholds or step counters."""
    trained = {id(v) for v in model.trainable_variables}
    statistics = ("moving_mean", "moving_variance", "_min", "_max")
    return [v for v in model.variables if id(v) in trained or v.name.split(":")[0].endswith(statistics)]
