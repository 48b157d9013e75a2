# SPDX-License-Identifier: Apache-2.0
"""Joint training of a teacher with either Keras version, exact resumption after an interruption, and refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from learn2compress.compression.family.model import build_family
from learn2compress.compression.teacher.classifier import load_teacher
from learn2compress.compression.training.joint_teacher import TeacherInLoop, TeacherRecipe, check_trainable
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe, describe_epoch
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import TeacherError, TrainingError
from learn2compress.schemas.manifests import Epoch

LIBRARIES = pytest.mark.parametrize("library", [tf_keras, keras])
RECIPE = Recipe("distilled", 3, 3, 1e-2, ema_decay=0.8)
OWN = TeacherRecipe(learning_rate=1e-2, mutual_weight=0.5)


def save(library, path, stripes, freeze=False, batch=None):
    """Save a teacher with all kinds of state: batch statistics, dropout, and weights."""
    library.utils.set_random_seed(2)
    k = library.layers
    end = [k.BatchNormalization(momentum=0.5), k.ReLU(), k.Dropout(0.25), k.Flatten(), k.Dense(3, name="logits")]
    start = library.Input(stripes.SHAPE, batch_size=batch)
    model = library.Sequential([start, k.Conv2D(6, 3, use_bias=False, name="conv"), *end])
    model.trainable = not freeze
    model.save(path)
    return path


@pytest.fixture(scope="module")
def epoch_batches(stripes):
    images, labels = stripes.draw(96, 0)
    none = np.zeros((96, 0), np.float32)

    def epoch_batches(epoch):
        order = np.random.default_rng(epoch).permutation(96)
        return stripes.batches(images[order], labels[order], none[order])

    return epoch_batches


@pytest.fixture(scope="module")
def validation(stripes):
    return stripes.batches(*stripes.draw(33, 1))


def trainer_of(path, stripes, recipe=RECIPE, own=OWN):
    teacher = TeacherInLoop(load_teacher(path, scaling="unit"), own, seed=7)
    return JointTrainer(build_family(stripes.LEAST, seed=1), stripes.LEAST.students, recipe, teacher=teacher)


def weights_of(trainer):
    return [*trainer.model.get_weights(), *map(np.asarray, trainer.teacher.model.get_weights())]


@LIBRARIES
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_joint_training_changes_and_saves_a_copy_of_the_teacher(
    library, suffix, stripes, epoch_batches, validation, tmp_path
):
    path = save(library, tmp_path / f"t{suffix}", stripes)
    before, original = file_sha256(path), load_teacher(path, scaling="unit")
    trainer = trainer_of(path, stripes, recipe=Recipe("distilled", 8, 3, 1e-2))

    curve = trainer.train(epoch_batches, validation)

    assert file_sha256(path) == before
    assert curve[-1].teacher_loss < curve[0].teacher_loss
    best = trainer.teacher.best_accuracy.numpy()
    assert best == max(epoch.teacher_accuracy for epoch in curve) == trainer.teacher.accuracy(validation) > 0.6
    assert trainer.teacher.save(tmp_path / "trained") == f"t{suffix}"
    trained = load_teacher(tmp_path / f"trained/t{suffix}", scaling="unit")
    assert trained.format == original.format
    images, _ = stripes.draw(33, 1)
    np.testing.assert_allclose(trained.logits(images), trainer.teacher.teacher.logits(images), rtol=1e-4, atol=1e-4)
    assert not np.allclose(trained.logits(images), original.logits(images), atol=0.1)
    trainer.teacher.save(tmp_path / "again")
    assert file_sha256(tmp_path / f"again/t{suffix}") == file_sha256(tmp_path / f"trained/t{suffix}")


@LIBRARIES
def test_joint_training_resumes_after_an_interruption(library, stripes, epoch_batches, validation, tmp_path):
    """Equal to the last bit: weights, batch statistics, optimizers, dropout and the best epoch."""
    path = save(library, tmp_path / "t.keras", stripes)
    whole = trainer_of(path, stripes)
    expected = whole.train(epoch_batches, validation)

    class Killed(Exception):
        pass

    def killed(epoch):
        if epoch == 2:
            raise Killed
        return epoch_batches(epoch)

    with pytest.raises(Killed):
        trainer_of(path, stripes).train(killed, validation, tmp_path / "c.npz")
    resumed = trainer_of(path, stripes)
    curve = resumed.train(epoch_batches, validation, tmp_path / "c.npz")

    assert [e.model_copy(update={"seconds": 0}) for e in curve] == [
        e.model_copy(update={"seconds": 0}) for e in expected
    ]
    for ours, theirs in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(TrainingError, match="must belong to this family and recipe"):
        trainer_of(path, stripes, own=TeacherRecipe(2e-2)).train(epoch_batches, validation, tmp_path / "c.npz")


def ends(k):
    """Three forms of the last layers that give the same probabilities."""
    return {
        "dense": [k.Dense(3, "softmax")],
        "activation": [k.Dense(3), k.Activation("softmax")],
        "layer": [k.Dense(3), k.Softmax()],
    }


@LIBRARIES
@pytest.mark.parametrize(("end", "cut"), [("dense", True), ("activation", True), ("layer", False)])
@pytest.mark.parametrize("nested", [False, True])
def test_teacher_that_is_wrong_with_certainty_learns_when_its_softmax_can_be_removed(
    library, end, cut, nested, stripes, tmp_path
):
    layers = [library.layers.Flatten(), *ends(library.layers)[end]]
    inner = library.Sequential([library.Input(stripes.SHAPE), *layers])
    model = library.Sequential([library.Input(stripes.SHAPE), inner]) if nested else inner
    model.set_weights([np.zeros((64, 3)), np.array([300.0, 0, 0])])
    model.save(tmp_path / "sure.keras")
    loop = TeacherInLoop(load_teacher(tmp_path / "sure.keras", scaling="unit"), OWN)
    images, wrong = tf.constant(stripes.draw(8, 0)[0]), tf.ones([8], tf.int64)

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            loss = loop.loss(wrong, loop.logits(images), [])
        return tape.gradient(loss, loop.variables)

    loop.recipe = TeacherRecipe(0.1)
    assert any(np.any(gradient.numpy() != 0) for gradient in gradients()) is cut
    assert loop.teacher.output == "probabilities"
    np.testing.assert_allclose(np.asarray(loop.model(tf.cast(images, tf.float32)))[:, 0], 1)
    if cut:
        np.testing.assert_allclose(loop.logits(images), np.tile([300.0, 0, 0], (8, 1)))


@LIBRARIES
def test_teacher_and_students_minimize_separate_losses(library, stripes, epoch_batches, tmp_path):
    """The step of the teacher equals that of its own loss; that of the students treats its logits as constants."""
    path = save(library, tmp_path / "t.keras", stripes)
    trainer = trainer_of(path, stripes)
    alone = TeacherInLoop(load_teacher(path, scaling="unit"), OWN, seed=7)
    fixed = JointTrainer(build_family(stripes.LEAST, seed=1), stripes.LEAST.students, RECIPE)
    images, labels, _ = next(iter(epoch_batches(0)))
    decay = tf.constant(0.5)
    answers = trainer_of(path, stripes).teacher.logits(images)
    outputs = fixed._forward(images, training=False)
    with tf.GradientTape() as tape:
        outputs = build_family(stripes.LEAST, seed=1)((tf.cast(images, tf.float32) - 127.5) / 127.5, training=True)
        loss = alone.loss(labels, alone.logits(images), outputs)
    alone.apply(tape.gradient(loss, alone.variables))

    losses = trainer.step(images, labels, tf.zeros([32, 0]), decay)
    fixed_losses = fixed.step(images, labels, answers, decay)

    np.testing.assert_allclose(losses[:2], fixed_losses, rtol=1e-4)
    np.testing.assert_allclose(losses[2], loss, rtol=1e-4)
    for ours, theirs in zip(trainer.model.get_weights(), fixed.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
    for ours, theirs in zip(trainer.teacher.model.get_weights(), alone.model.get_weights(), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=2e-3)
    moved = trainer.teacher.model.layers[1].moving_mean
    assert not np.allclose(np.asarray(moved), 0), "batch statistics are those of training"


def test_loss_is_cross_entropy_and_the_mean_divergence_from_the_students(stripes, tmp_path):
    path = save(tf_keras, tmp_path / "t.keras", stripes)
    teacher = TeacherInLoop(load_teacher(path, scaling="unit"), TeacherRecipe(1e-3, mutual_weight=0.5))
    logits = tf.constant([[0.0, 0.0, 0.0]])
    sure = tf.math.log(tf.constant([[0.5, 0.25, 0.25]]))

    found = teacher.loss(tf.constant([1]), logits, [logits, sure])

    # By hand: ln 3, and of KL = Σ p ln 3p the mean of 0 and ln 3 - 1.5 ln 2, halved.
    expected = np.log(3) + 0.5 * (0 + np.log(3) - 1.5 * np.log(2)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_train_names_the_teacher_whose_loss_is_not_finite(stripes, epoch_batches, validation, tmp_path):
    recipe = Recipe("distilled", 1, 3, 1e-2, LossConfig(soft_weight=0.0))
    trainer = trainer_of(save(tf_keras, tmp_path / "t.keras", stripes), stripes, recipe)
    trainer.teacher.model.layers[-1].bias.assign([np.nan] * 3)

    with pytest.raises(TrainingError, match=r"loss of the teacher must be finite.*now 0\.01, the teacher's 0\.01"):
        trainer.train(epoch_batches, validation)


def test_check_trainable_refuses_a_teacher_with_the_reason(stripes, tmp_path):
    tf_keras.models.load_model(save(tf_keras, tmp_path / "t.keras", stripes)).export(tmp_path / "saved")
    with pytest.raises(TeacherError, match=r"saved must be a \.keras or \.h5 file to be jointly trained.*a SavedModel"):
        check_trainable(load_teacher(tmp_path / "saved"))
    with pytest.raises(TeacherError, match=r"frozen\.keras must have trainable variables.*Set model\.trainable = True"):
        check_trainable(load_teacher(save(keras, tmp_path / "frozen.keras", stripes, freeze=True)))
    with pytest.raises(TeacherError, match=r"must accept any batch size.*got a fixed batch size of 4"):
        check_trainable(load_teacher(save(tf_keras, tmp_path / "four.keras", stripes, batch=4)))


def test_describe_epoch_includes_the_teacher():
    epoch = Epoch(
        stage="distilled", epoch=1, loss={}, accuracy={"a": 0.5}, learning_rate=0.1, seconds=1, teacher_accuracy=0.75
    )
    assert describe_epoch(epoch) == "validation accuracy a 0.500, the teacher 0.750 (1 s)"
