# SPDX-License-Identifier: Apache-2.0
"""Computes the distillation losses of a family of students.

For a student with logits s, a teacher with logits t, labels y, soft weight a and temperature T:

    L = (1 - a) · CE(y, s) + a · T² · KL(softmax(t / T) ‖ softmax(s / T))    (Hinton et al., arXiv:1503.02531)

without the first term for an example without a label (y = -1),

and, with in-place weight b, for every student but the largest, where l are the logits of the largest student (Yu &
Huang, arXiv:1903.05134), or of each larger student, with the mean over them:

    L' = (1 - b) · L + b · T² · KL(softmax(l / T) ‖ softmax(s / T)),  no gradient through l
"""

from collections.abc import Sequence

import tensorflow as tf

from learn2compress.schemas.config import LossConfig


def hard_loss(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Compute the cross entropy with the labels.

    Args:
        labels: [batch] int64; -1 without a label.
        logits: [batch, classes] float32.
        label_smoothing: Fraction of the label's weight that is distributed evenly over all classes (arXiv:1512.00567).

    Returns:
        [batch] float32; 0 without a label.
    """
    classes = logits.shape[-1]
    is_labeled = tf.cast(labels >= 0, logits.dtype)
    if not label_smoothing:
        return is_labeled * tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    target = tf.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    return is_labeled * tf.nn.softmax_cross_entropy_with_logits(target, logits)


def soft_loss(teacher_logits: tf.Tensor, logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Compute T² · KL(softmax(teacher / T) ‖ softmax(student / T)).

    Args:
        teacher_logits: [batch, classes] float32.
        logits: Logits of the student, [batch, classes] float32.
        temperature: Temperature T. The factor T² makes the scale of the gradients independent of it.

    Returns:
        [batch] float32; zero for examples on which both distributions are equal.

    Source: Hinton et al., arXiv:1503.02531.
    """
    teacher = tf.nn.log_softmax(teacher_logits / temperature)
    student = tf.nn.log_softmax(logits / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)


def family_losses(
    labels: tf.Tensor, teacher_logits: tf.Tensor | None, outputs: Sequence[tf.Tensor], config: LossConfig
) -> list[tf.Tensor]:
    """Compute the loss of each student.

    Args:
        labels: [batch] int64; -1 without a label.
        teacher_logits: [batch, classes] float32, or None for training on the labels only.
        outputs: Logits, one [batch, classes] float32 per student, smallest first.
        config: Weights of the terms, and their temperature.

    Returns:
        One [batch] float32 per student.
    """
    losses = []
    fixed = [tf.stop_gradient(logits) for logits in outputs]
    soft_weight = config.soft_weight if teacher_logits is not None else 0.0
    for index, logits in enumerate(outputs):
        loss = 0.0
        if soft_weight < 1:
            loss += (1 - soft_weight) * hard_loss(labels, logits, config.label_smoothing)
        if soft_weight > 0:
            loss += soft_weight * soft_loss(teacher_logits, logits, config.temperature)
        if config.in_place_weight and index < len(outputs) - 1:
            larger = fixed[-1:] if config.in_place_from == "largest" else fixed[index + 1 :]
            in_place = tf.add_n([soft_loss(one, logits, config.temperature) for one in larger]) / len(larger)
            loss = (1 - config.in_place_weight) * loss + config.in_place_weight * in_place
        losses.append(loss)
    return losses


def stacked_losses(
    labels: tf.Tensor, teacher_logits: tf.Tensor | None, outputs: Sequence[tf.Tensor], config: LossConfig
) -> tf.Tensor:
    """Compute the losses of `family_losses` with one operation for all students; see there for the arguments.

    A step of students of few operations takes the time of its operations rather than of their arithmetic.

    Returns:
        [batch, students] float32; equal to those of `family_losses` up to rounding.
    """
    if config.in_place_weight:
        return tf.stack(family_losses(labels, teacher_logits, outputs, config), axis=1)
    labels = tf.tile(labels[:, tf.newaxis], (1, len(outputs)))
    teacher_logits = None if teacher_logits is None else teacher_logits[:, tf.newaxis]
    return family_losses(labels, teacher_logits, [tf.stack(outputs, axis=1)], config)[0]
