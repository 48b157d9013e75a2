# SPDX-License-Identifier: Apache-2.0
"""Trains all students of a family jointly: one compiled step, one forward pass, one optimizer.

Distiller, Pruner and Quantizer all use this loop, each for its own form of the model. An epoch is a pure function of
the seed and its number, and a checkpoint is written after each epoch, so a training that was interrupted resumes from
its last epoch and ends with the same result.
"""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.training.accuracy import top1_accuracy
from learn2compress.compression.training.devices.distribution import Distribution
from learn2compress.compression.training.devices.memory import return_freed_memory
from learn2compress.compression.training.devices.workers import check_divisible
from learn2compress.compression.training.joint_teacher import TeacherInLoop
from learn2compress.compression.training.losses import family_losses, stacked_losses
from learn2compress.compression.training.moving_average import MovingAverage
from learn2compress.compression.training.parts import Gradients, looks_at_whole_batches, mean_of_parts
from learn2compress.compression.training.random_layers import seed_random_layers
from learn2compress.compression.training.schedules import cosine_with_warmup, moving_average_decay
from learn2compress.data.batches import whole_shards
from learn2compress.modalities import modality_named
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.errors import OutputError, TrainingError
from learn2compress.schemas.files.arrays import write_arrays
from learn2compress.schemas.manifests import DEFAULT_MODALITY, Epoch
from learn2compress.schemas.progress import Task

# Steps whose losses may be pending. Reading a loss waits for its step, in which time an accelerator would be idle.
_PENDING_STEPS = 16

# The training batches of an epoch: (images [b, h, w, c] uint8, labels [b] int64, teacher logits [b, classes] float32).
# With a jointly trained teacher the logits are computed in the step, and the third element is ignored.
EpochBatches = Callable[[int], "tf.data.Dataset"]


@dataclass(frozen=True)
class Recipe:
    """Duration and learning rates of a training; see DistillConfig for fields that are not described here.

    Attributes:
        choose_from: First epoch that can be chosen as the best; earlier epochs do not have the final form of the model.
        seed: Seed of random layers, such as dropout.
        modality: Modality of the examples, which determines how a batch is converted to the input of the model.
        inherited_rate: Learning rate of inherited weights, as a multiple of that of the others; see `JointTrainer`.
        parts: Number of equal parts of a batch that are computed one after the other, to save memory, unless a layer
            needs the whole batch.
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
    inherited_rate: float = 1.0
    parts: int = 1


class JointTrainer:
    """Trains a model with one output per student.

    Args:
        model: Model that takes normalized examples (see `modalities.protocol.StudentInput`) and returns a list of
            logits [batch, classes] float32, or a single tensor if there is one student.
        names: Names of the students, in the order of the outputs.
        recipe: Duration, learning rates and loss of the training.
        before_step: Called before each step with its number, for schedules such as that of pruning.
        after_step: Called once, while the step is compiled, to add TensorFlow operations at the end of each step, such
            as the reset of pruned weights to zero.
        after_restore: Called after weights were assigned to the model (averaged, best, from a checkpoint), to restore
            their constraints, such as zeros of pruning.
        state: Further variables that the checkpoint must contain, such as masks.
        teacher: Jointly trained teacher with its own learning rate; the students learn from the logits that it computes
            in the same step.
        losses: Function from (labels, third element of the batches, outputs) to one [batch] float32 of losses per
            student, or to all of them, [batch, students]; by default the loss of the recipe, from labels and teacher
            logits.
        inherited: Names of the layers whose weights are trained at the learning rate of inherited weights.
        distribution: Devices of the training; model and masks must be created in its scope, see
            `Distribution.replicate`.

    Attributes:
        step: The compiled step: from (images [b, h, w, c] uint8, labels [b] int64, teacher logits [b, classes] float32,
            decay of the moving average []) to the losses of the students [students], followed by that of a jointly
            trained teacher.
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
        losses: Callable[..., list | tf.Tensor] | None = None,
        inherited: Collection[str] = (),
        distribution: Distribution | None = None,
    ) -> None:
        self.model, self.names, self.recipe, self.teacher = model, tuple(names), recipe, teacher
        self.inputs = modality_named(recipe.modality).student_input
        own = stacked_losses if self.inputs.few_operations else family_losses
        self.losses = losses or partial(own, config=recipe.loss)
        self.before_step, self.after_step, self.after_restore = before_step, after_step, after_restore
        self.distribution = distribution or Distribution()
        if teacher and self.distribution.replicas > 1:
            raise TrainingError(
                f"a jointly trained teacher must be on one device; got {self.distribution.replicas}. Set "
                "distill.strategy to none, or teacher.mode to fixed."
            )
        # Each replica has its own random numbers, whose state a checkpoint does not contain.
        random = seed_random_layers(model, recipe.seed) if self.distribution.replicas == 1 else []
        self.averaged = _averaged_variables(model)
        with self.distribution.scope():
            slow = [v for layer in model.layers if layer.name in inherited for v in layer.trainable_variables]
            self.slow = {id(v) for v in slow} if recipe.inherited_rate != 1 else set()
            self.optimizer = _optimizer(recipe, [v for v in model.trainable_variables if id(v) not in self.slow])
            self.slow_optimizer = _optimizer(recipe, slow) if self.slow else None
            self.average = MovingAverage(self.averaged, self._read) if recipe.ema_decay else None
        self.distribution.synchronize(model)
        alone = self.distribution.replicas == 1 and teacher is None and not looks_at_whole_batches(model)
        self.parts = recipe.parts if alone else 1
        self.weights = tuple(recipe.loss.student_weights.get(name, 1.0) for name in self.names)
        self.state = [*model.variables, *random, *self.optimizer.variables, *state]
        self.state += [self.average.vector] if self.average else []
        self.state += self.slow_optimizer.variables if self.slow_optimizer else []
        self.state += teacher.state if teacher else []
        # Autograph would search the source of each layer for loops to convert, which takes most of the tracing time.
        examples = self.inputs.spec(model.input_shape[1:])
        self.step = self.distribution.compile(self._step_eagerly, reduce_retracing=True)
        self._predict = self.distribution.compile(self._predict_eagerly, input_signature=[examples])

    @whole_shards()
    def train(
        self, epoch_batches: EpochBatches, validation: tf.data.Dataset | None, checkpoint: Path | None = None
    ) -> list[Epoch]:
        """Train all epochs, and assign the weights of the best epoch to the model; a teacher has its own best epoch.

        Args:
            epoch_batches: Function from the number of an epoch, from 0, to its batches; equal numbers give equal
                batches.
            validation: Batches of (images [b, h, w, c] uint8, labels [b] int64), read once per epoch; None if accuracy
                is not defined, in which case the last epoch counts as the best.
            checkpoint: File that is written after each epoch; if it exists, the training resumes from it.

        Returns:
            The training curve.

        Raises:
            TrainingError: The loss is not finite, or the checkpoint is damaged or belongs to another training.
            OutputError: The checkpoint cannot be written.
            DataError: A shard is damaged.
        """
        curve, best, best_accuracy = self._restore(checkpoint)
        return_freed_memory()
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
                self.teacher.keep_if_best(epoch + 1, teacher_accuracy)
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
            return_freed_memory(collect=False)
            task.advance(detail=describe_epoch(curve[-1]))
        self._put(best)
        if self.teacher:
            self.teacher.restore_best()
        return curve

    def accuracy(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Measure the top-1 accuracy of each student on batches of (images [b, h, w, c] uint8, labels [b] int64)."""
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
        batch = self.distribution.part(images, labels, teacher_logits)
        losses, gradients = mean_of_parts(self._gradients, batch, self.parts)
        self._apply(list(zip(gradients[: len(variables)], variables, strict=True)))
        if teacher:
            teacher.apply(gradients[len(variables) :])
        if self.after_step:
            self.after_step()
        if self.average:
            self.average.update(decay)
        return self.distribution.sum(losses / self.distribution.replicas)

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, teacher_logits: tf.Tensor) -> Gradients:
        """Compute the losses of the students and of a jointly trained teacher, and the gradients of all variables."""
        variables, teacher = self.model.trainable_variables, self.teacher
        # The loss of a replica is its part of the loss of the whole batch, since the optimizer sums the gradients.
        fraction = 1 / self.distribution.replicas
        with tf.GradientTape() as tape:
            outputs = self._forward(images, training=True)
            if teacher:
                current = teacher.logits(images)
                teacher_logits = tf.stop_gradient(current)
            losses = _means(self.losses(labels, teacher_logits, outputs))
            total = tf.add_n([weight * fraction * loss for weight, loss in zip(self.weights, losses, strict=True)])
            if teacher:
                losses.append(teacher.loss(labels, current, outputs))
                total += losses[-1]  # no gradient passes between teacher and students
        return tf.stack(losses), tape.gradient(total, [*variables, *(teacher.variables if teacher else ())])

    def _apply(self, pairs: list[tuple[tf.Tensor, tf.Variable]]) -> None:
        """Update weights, inherited ones at a learning rate of their own."""
        self.optimizer.apply_gradients([pair for pair in pairs if id(pair[1]) not in self.slow])
        if self.slow_optimizer:
            self.slow_optimizer.apply_gradients([pair for pair in pairs if id(pair[1]) in self.slow])

    def _train_epoch(self, epoch: int, batches: tf.data.Dataset) -> tuple[dict[str, float], float | None]:
        recipe = self.recipe
        total_steps = recipe.epochs * recipe.steps_per_epoch
        warmup_steps = int(recipe.warmup_epochs * recipe.steps_per_epoch)
        losses, steps = _Losses(np.zeros(len(self.names) + (self.teacher is not None)), partial(self._check, epoch)), 0
        task = Task(f"{recipe.stage}: epoch {epoch + 1} step", recipe.steps_per_epoch)
        for images, labels, teacher_logits in batches:
            check_divisible(len(labels), self.distribution.replicas)
            step = epoch * recipe.steps_per_epoch + steps
            rate = cosine_with_warmup(step, total_steps, recipe.learning_rate, warmup_steps)
            self.optimizer.learning_rate.assign(rate)
            if self.slow_optimizer:
                self.slow_optimizer.learning_rate.assign(rate * recipe.inherited_rate)
            if self.teacher:
                peak = self.teacher.recipe.learning_rate
                self.teacher.set_rate(cosine_with_warmup(step, total_steps, peak, warmup_steps))
            if self.before_step:
                with self.distribution.scope():
                    self.before_step(step)
            decay = tf.constant(moving_average_decay(step, recipe.ema_decay), tf.float32)
            losses.add(self.step(images, labels, teacher_logits, decay))
            steps += 1
            task.advance()
        if not steps:
            raise TrainingError(
                "an epoch must have at least one batch; got none. Provide more images or reduce batch_size."
            )
        means = (losses.total() / steps).tolist()
        return dict(zip(self.names, means, strict=False)), means[-1] if self.teacher else None

    def _check(self, epoch: int, losses: np.ndarray, step: int) -> None:
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
        if self.recipe.patience is None:  # always so if there is no accuracy
            return False
        counted = [float(np.mean(list(e.accuracy.values()))) for e in curve[self.recipe.choose_from :]]
        if not counted:
            return False
        return len(counted) - 1 - int(np.argmax(counted)) >= self.recipe.patience

    def _swap_in_average(self) -> list[np.ndarray]:
        """Assign the averaged weights to the model; return the weights before."""
        current = [self._read(v) for v in self.averaged]
        if self.average:
            self._put(self.average.values())
        return current

    def _put(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self.averaged, values, strict=True):
            variable.assign(value)
        if self.after_restore:
            self.after_restore()

    def _read(self, variable: tf.Variable) -> np.ndarray:
        return self.distribution.read(variable)

    def _signature(self) -> str:
        """Describe what must be equal to resume a training: names, recipe, and the shapes of all variables."""
        shapes = [[v.name.split(":")[0].rsplit("/", 1)[-1], *v.shape.as_list()] for v in self.state]
        teacher = [asdict(self.teacher.recipe)] if self.teacher else []
        recipe = {**asdict(self.recipe), "loss": self.recipe.loss.model_dump()}
        return json.dumps([self.names, recipe, shapes, *teacher])

    def _save(self, path: Path | None, curve: list[Epoch], best: list[np.ndarray], best_accuracy: float) -> None:
        if path is None or not self.distribution.is_chief:
            return
        arrays: dict[str, Any] = {
            "signature": self._signature(),
            "curve": json.dumps([e.model_dump() for e in curve]),
            "best_accuracy": best_accuracy,
        }
        arrays |= {f"state{i}": self._read(v) for i, v in enumerate(self.state)}
        arrays |= {f"best{i}": v for i, v in enumerate(best)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, arrays)
        except OSError as error:
            raise OutputError(
                f"checkpoint {path} must be writable; {error.strerror}. Free some space, or choose another output."
            ) from error

    def _restore(self, path: Path | None) -> tuple[list[Epoch], list[np.ndarray], float]:
        try:
            own = b""
            if path is not None and self.distribution.is_chief and path.exists():
                own = b"." + path.read_bytes()
            content = self.distribution.broadcast(own)
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
            raise TrainingError(
                f"checkpoint {path} must be whole; {error}. Delete it to restart the training."
            ) from error


class _Losses:
    """Adds up the losses of steps in their order, some steps after they were started.

    Args:
        zeros: Where the sum begins, [losses] float64.
        check: Called with the sum and the number of steps in it.
    """

    def __init__(self, zeros: np.ndarray, check: Callable[[np.ndarray, int], None]) -> None:
        self._sum, self._check, self._steps = zeros, check, 0
        self._pending: deque[tf.Tensor] = deque()

    def add(self, losses: tf.Tensor) -> None:
        """Adds the losses of the next step."""
        self._pending.append(losses)
        if len(self._pending) > _PENDING_STEPS:
            self._add_oldest()

    def total(self) -> np.ndarray:
        """Waits for all steps, and returns the sum."""
        while self._pending:
            self._add_oldest()
        return self._sum

    def _add_oldest(self) -> None:
        self._sum = self._sum + self._pending.popleft().numpy()
        self._steps += 1
        self._check(self._sum, self._steps)


def describe_epoch(epoch: Epoch) -> str:
    """Format an epoch as one line: validation accuracy and training loss of each student, and seconds."""
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


def _means(losses: Sequence[tf.Tensor] | tf.Tensor) -> list[tf.Tensor]:
    """Compute the mean loss of each student, of one [batch] per student or of [batch, students]."""
    if isinstance(losses, tf.Tensor):
        return tf.unstack(tf.reduce_mean(losses, axis=0))
    return [tf.reduce_mean(loss) for loss in losses]


def _optimizer(recipe: Recipe, variables: Sequence[tf.Variable]) -> keras.optimizers.Optimizer:
    """Make Adam with decoupled weight decay (arXiv:1711.05101), which applies to kernels only."""
    optimizer = keras.optimizers.Adam(recipe.learning_rate, weight_decay=recipe.weight_decay or None)
    # Given as variables, since tf_keras matches names as patterns, which may also occur in the name of a student or
    # layer.
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not v.name.split(":")[0].endswith("kernel")])
    optimizer.build(variables)
    return optimizer


def _averaged_variables(model: keras.Model) -> list[tf.Variable]:
    """List the trained weights and batch statistics of a model, without masks, thresholds and step counters."""
    trained = {id(v) for v in model.trainable_variables}
    statistics = ("moving_mean", "moving_variance", "_min", "_max")
    return [v for v in model.variables if id(v) in trained or v.name.split(":")[0].endswith(statistics)]
