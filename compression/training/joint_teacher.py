# SPDX-License-Identifier: Apache-2.0
"""A teacher that is jointly trained with its students: `teacher.mode: joint`.

For labels y, the teacher's logits t, students k of K with logits s_k, and mutual weight m:

    L = CE(y, t) + m · 1/K · Σ_k KL(softmax(s_k) ‖ softmax(t)),  no gradient through s_k

(deep mutual learning, Zhang et al., arXiv:1706.00384). The students learn from t as from the logits of a fixed teacher,
without a gradient through it. Teacher and students therefore minimize separate losses at separate learning rates, in
one step and one forward pass.
"""

from __future__ import annotations

import io
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
from learn2compress.schemas.files.whole import write_whole

_FIXED = "or set teacher.mode: fixed"


@dataclass(frozen=True)
class TeacherRecipe:
    """Settings of the teacher's training; see TeacherConfig for each."""

    learning_rate: float
    mutual_weight: float = 0.0


class TeacherInLoop:
    """A loaded teacher with an optimizer of the same Keras version, for `JointTrainer`.

    Attributes:
        variables: Trainable variables, as variables of TensorFlow with either Keras version.
        state: Variables of a checkpoint: those of the model, the optimizer, random layers, and the best epoch so far.
    """

    def __init__(self, teacher: LoadedTeacher, recipe: TeacherRecipe, seed: int = 0) -> None:
        """Prepare a teacher for training.

        Args:
            teacher: The teacher, whose weights are changed; load a separate copy if the original is needed.
            recipe: Settings of the training.
            seed: Seed of random layers, such as dropout.

        Raises:
            TeacherError: The teacher cannot be trained.
        """
        self.teacher, self.recipe, self.model = teacher, recipe, check_trainable(teacher)
        random = seed_random_layers(self.model, seed)
        self.optimizer = keras_library(teacher.format).optimizers.Adam(recipe.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self.variables = [_variable(v) for v in self.model.trainable_variables]
        # Counters of random layers are not weights, and are never reset.
        self._weights = [v for v in map(_variable, self.model.variables) if v.dtype.is_floating]
        optimizer = self.optimizer.variables() if callable(self.optimizer.variables) else self.optimizer.variables
        self.best = [tf.Variable(v, trainable=False) for v in self._weights]
        self.best_accuracy = tf.Variable(-1.0, trainable=False, dtype=tf.float64, name="best_teacher_accuracy")
        self.best_epoch = tf.Variable(0, trainable=False, dtype=tf.int64, name="best_teacher_epoch")
        own = _unique([*map(_variable, self.model.variables), *random, *map(_variable, optimizer)])
        self.state = [*own, *self.best, self.best_accuracy, self.best_epoch]
        self._predict = tf.function(self.teacher.tf_logits, reduce_retracing=True, autograph=False)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Compute logits in training mode, with batch statistics and dropout.

        Args:
            images: [batch, height, width, channels] uint8.

        Returns:
            [batch, classes] float32.
        """
        return self.teacher.tf_logits(images, training=True)

    def loss(self, labels: tf.Tensor, logits: tf.Tensor, outputs: list[tf.Tensor]) -> tf.Tensor:
        """Compute the loss of the teacher.

        Args:
            labels: [batch] int64.
            logits: Logits of the teacher, [batch, classes] float32.
            outputs: Logits of each student, [batch, classes] float32.

        Returns:
            Mean over the batch, [] float32.
        """
        loss = tf.reduce_mean(hard_loss(labels, logits))
        if self.recipe.mutual_weight:
            mutual = [tf.reduce_mean(soft_loss(tf.stop_gradient(output), logits, 1.0)) for output in outputs]
            loss += self.recipe.mutual_weight * tf.add_n(mutual) / len(mutual)
        return loss

    def apply(self, gradients: list[tf.Tensor | None]) -> None:
        """Apply gradients of `variables`, in graph mode or eagerly."""
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))

    def set_rate(self, learning_rate: float) -> None:
        """Set the learning rate of the following steps."""
        self.optimizer.learning_rate = learning_rate

    def accuracy(self, batches: tf.data.Dataset) -> float:
        """Measure the current top-1 accuracy on batches of (images [b, h, w, c] uint8, labels [b] int64)."""
        correct = images = 0
        for batch, labels in batches:
            correct += int(np.sum(np.argmax(self._predict(batch).numpy(), -1) == labels.numpy()))
            images += len(labels)
        return correct / max(1, images)

    def keep_if_best(self, epoch: int, accuracy: float) -> None:
        """Keep a copy of the weights if no earlier epoch was better; of equal epochs the latest is kept."""
        if accuracy >= self.best_accuracy.numpy():
            for kept, variable in zip(self.best, self._weights, strict=True):
                kept.assign(variable)
            self.best_accuracy.assign(accuracy)
            self.best_epoch.assign(epoch)

    def restore_best(self) -> None:
        """Restore the weights of the best epoch."""
        for kept, variable in zip(self.best, self._weights, strict=True):
            variable.assign(kept)

    def save(self, folder: str | Path) -> str:
        """Save the model in its original format, with one output.

        Args:
            folder: Folder of the file; it is created if necessary.

        Returns:
            The name of the file.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "." + self.teacher.format.partition("-")[2]
        name = self.teacher.path.stem + suffix
        self.model.save(folder / name)
        if suffix == ".keras":
            _remove_timestamps(folder / name)
        return name


def check_trainable(teacher: LoadedTeacher) -> Any:
    """Refuse a teacher that cannot be jointly trained with its students.

    Args:
        teacher: The loaded teacher.

    Returns:
        Its model, of the Keras version that wrote the file.

    Raises:
        TeacherError: The teacher is a SavedModel, all its layers are frozen, or its batch size is fixed.
    """
    if teacher.keras_model is None:
        raise TeacherError(
            f"teacher {teacher.path} must be a .keras or .h5 file to be jointly trained (teacher.mode: joint); got a "
            f"SavedModel, whose signature supports only inference. Save it with model.save, {_FIXED}."
        )
    if not teacher.keras_model.trainable_variables:
        raise TeacherError(
            f"teacher {teacher.path} must have trainable variables to be jointly trained (teacher.mode: joint); got "
            f"none: its layers are frozen. Set model.trainable = True and save it again, {_FIXED}."
        )
    if teacher.opened.input.batch is not None:
        raise TeacherError(
            f"teacher {teacher.path} must accept any batch size to be jointly trained (teacher.mode: joint); got "
            f"a fixed batch size of {teacher.opened.input.batch}. Save it with a variable batch size, {_FIXED}."
        )
    return teacher.keras_model


def _variable(variable: Any) -> tf.Variable:
    """Return the TensorFlow variable, which Keras 3 wraps and which gradient tapes and checkpoints require."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _unique(variables: list[tf.Variable]) -> list[tf.Variable]:
    return list({id(variable): variable for variable in variables}.values())


def _remove_timestamps(path: Path) -> None:
    """Remove the time of writing from a .keras file, so that equal weights give equal bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    fields = json.loads(members["metadata.json"])
    fields.pop("date_saved", None)
    members["metadata.json"] = json.dumps(fields).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    write_whole(path, packed.getvalue())
