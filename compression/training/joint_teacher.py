# SPDX-License-Identifier: Apache-2.0
"""A teacher that goes on learning while it teaches: `teacher.mode: joint`.

For labels y, the teacher's logits t, students k of K with logits s_k, and mutual weight m:

    L = CE(y, t) + m · 1/K · Σ_k KL(softmax(s_k) ‖ softmax(t)),  no gradient through s_k

(deep mutual learning, Zhang et al., 1706.00384). The students learn from t as from any teacher's, without a gradient
through it, so that each side follows its own loss at its own learning rate, in one step and one forward pass.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.teacher.models import keras_library
from learn2compress.compression.training.losses import hard_loss, soft_loss
from learn2compress.compression.training.random_layers import seed_random_layers
from learn2compress.schemas.errors import TeacherError

_FIXED = "or set teacher.mode: fixed"


@dataclass(frozen=True)
class TeacherRecipe:
    """How the teacher learns; see TeacherConfig for each."""

    learning_rate: float
    mutual_weight: float = 0.0


class TeacherInLoop:
    """A loaded teacher with an optimizer of the Keras that it belongs to, for `JointTrainer`.

    Attributes:
        variables: What is trained, as TensorFlow's variables, whichever Keras made them.
        state: What a checkpoint must hold: all variables, those of the optimizer and of random layers, the best so far.
    """

    def __init__(self, teacher: LoadedTeacher, recipe: TeacherRecipe, seed: int = 0) -> None:
        """Prepares a teacher to be trained.

        Args:
            teacher: It is trained where it is: load another copy to keep one as it was.
            recipe: How it learns.
            seed: Of its random layers, such as dropout.

        Raises:
            TeacherError: It cannot be trained.
        """
        self.teacher, self.recipe, self.model = teacher, recipe, check_trainable(teacher)
        random = seed_random_layers(self.model, seed)
        self.optimizer = keras_library(teacher.format).optimizers.Adam(recipe.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self.variables = [_variable(v) for v in self.model.trainable_variables]
        # Counters of random layers are no weights: they only ever go on.
        self._weights = [v for v in map(_variable, self.model.variables) if v.dtype.is_floating]
        optimizer = self.optimizer.variables() if callable(self.optimizer.variables) else self.optimizer.variables
        self.best = [tf.Variable(v, trainable=False) for v in self._weights]
        self.best_accuracy = tf.Variable(-1.0, trainable=False, dtype=tf.float64, name="best_teacher_accuracy")
        self.best_epoch = tf.Variable(0, trainable=False, dtype=tf.int64, name="best_teacher_epoch")
        own = _unique([*map(_variable, self.model.variables), *random, *map(_variable, optimizer)])
        self.state = [*own, *self.best, self.best_accuracy, self.best_epoch]
        self._predict = tf.function(self.teacher.tf_logits, reduce_retracing=True, autograph=False)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Answers as in training: batch statistics, dropout. [batch, height, width, channels] -> [batch, classes]."""
        return self.teacher.tf_logits(images, training=True)

    def loss(self, labels: tf.Tensor, logits: tf.Tensor, outputs: list[tf.Tensor]) -> tf.Tensor:
        """The teacher's own loss.

        Args:
            labels: [batch] integers.
            logits: [batch, classes] float32, its own.
            outputs: Those of each student.

        Returns:
            [] float32, the mean over the batch.
        """
        loss = tf.reduce_mean(hard_loss(labels, logits))
        if self.recipe.mutual_weight:
            towards = [tf.reduce_mean(soft_loss(tf.stop_gradient(output), logits, 1.0)) for output in outputs]
            loss += self.recipe.mutual_weight * tf.add_n(towards) / len(towards)
        return loss

    def apply(self, gradients: list[tf.Tensor | None]) -> None:
        """Takes a step, within a graph or outside."""
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))

    def set_rate(self, learning_rate: float) -> None:
        """Sets the learning rate of the steps to come."""
        self.optimizer.learning_rate = learning_rate

    def accuracy(self, batches: tf.data.Dataset) -> float:
        """Top-1 accuracy on batches of (images uint8, labels), as it is now."""
        correct = images = 0
        for batch, labels in batches:
            correct += int(np.sum(np.argmax(self._predict(batch).numpy(), -1) == labels.numpy()))
            images += len(labels)
        return correct / max(1, images)

    def note(self, epoch: int, accuracy: float) -> None:
        """Remembers the weights if no epoch before was better; of equals the last, which has learned longer."""
        if accuracy >= self.best_accuracy.numpy():
            for kept, variable in zip(self.best, self._weights, strict=True):
                kept.assign(variable)
            self.best_accuracy.assign(accuracy)
            self.best_epoch.assign(epoch)

    def restore_best(self) -> None:
        """Puts the best epoch's weights back."""
        for kept, variable in zip(self.best, self._weights, strict=True):
            variable.assign(kept)

    def save(self, folder: str | Path) -> str:
        """Writes the model in the format in which it was given, with one output.

        Returns:
            The file's name.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "." + self.teacher.format.partition("-")[2]
        name = self.teacher.path.stem + suffix
        self.model.save(folder / name)
        if suffix == ".keras":
            _settle_archive(folder / name)
        return name


def check_trainable(teacher: LoadedTeacher) -> Any:
    """Refuses a teacher that cannot be trained along with its students.

    Returns:
        Its model, of the Keras that it belongs to.

    Raises:
        TeacherError: It is a SavedModel, all of it is frozen, or it takes batches of one size alone.
    """
    if teacher.keras_model is None:
        raise TeacherError(
            f"teacher {teacher.path} must be a .keras or .h5 file to be trained along (teacher.mode: joint); got a "
            f"SavedModel, whose signature computes answers and has no way to train. Save it with model.save, {_FIXED}."
        )
    if not teacher.keras_model.trainable_variables:
        raise TeacherError(
            f"teacher {teacher.path} must have trainable variables to be trained along (teacher.mode: joint); got "
            f"none: its layers are frozen. Set model.trainable = True and save it again, {_FIXED}."
        )
    if teacher.opened.input.batch is not None:
        raise TeacherError(
            f"teacher {teacher.path} must take any number of images to be trained along (teacher.mode: joint); got "
            f"a batch of {teacher.opened.input.batch} alone. Save it with an open batch, {_FIXED}."
        )
    return teacher.keras_model


def _variable(variable: Any) -> tf.Variable:
    """Keras 3 wraps TensorFlow's variables; a gradient tape and a checkpoint want what is inside."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _unique(variables: list[tf.Variable]) -> list[tf.Variable]:
    return list({id(variable): variable for variable in variables}.values())


def _settle_archive(path: Path) -> None:
    """Takes the time of writing out of a .keras file, so that equal weights are equal bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    fields = json.loads(members["metadata.json"])
    fields.pop("date_saved", None)
    members["metadata.json"] = json.dumps(fields).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
