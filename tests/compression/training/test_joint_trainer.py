# SPDX-License-Identifier: Apache-2.0
import gzip
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import build_family, cut_students
from learn2compress.compression.pruning.magnitude import prune_while_training
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe, describe_epoch
from learn2compress.compression.training.schedules import cosine_with_warmup
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config import LossConfig
from learn2compress.schemas.errors import DataError, OutputError, TrainingError
from learn2compress.schemas.manifests import Epoch
from learn2compress.schemas.progress import listening

NAMES = ("small", "large")
RECIPE = Recipe("distilled", 4, 2, 1e-2, weight_decay=1e-3, ema_decay=0.8, warmup_epochs=1.0)


@pytest.fixture(scope="module")
def validation(stripes):
    """40 images: the last batch is smaller."""
    return stripes.batches(*stripes.draw(40, 1))


@pytest.fixture(scope="module")
def epoch_batches(stripes):
    """Two batches per epoch, different in each epoch."""
    images, labels = stripes.draw(96, 0)
    teacher = stripes.StripesTeacher().logits(images)

    def epoch_batches(epoch):
        order = np.random.default_rng(epoch).permutation(96)[:64]
        return stripes.batches(images[order], labels[order], teacher[order])

    return epoch_batches


@pytest.fixture(scope="module")
def new_trainer(stripes):
    """Function that makes a trainer of a new family with the same initial weights."""

    def new_trainer(recipe=RECIPE, spec=stripes.LEAST, **callbacks):
        return JointTrainer(build_family(spec, seed=1), spec.students, recipe, **callbacks)

    return new_trainer


@pytest.fixture(scope="module")
def uninterrupted(new_trainer, epoch_batches, validation):
    trainer = new_trainer()
    return trainer, trainer.train(epoch_batches, validation)


class Killed(Exception):
    pass


def kill_in(epoch_batches, epoch: int, after_steps: int = 0):
    """Return the same batches, and raise `Killed` in an epoch."""

    def batches(number):
        yield from (batch for batch, _ in zip(epoch_batches(number), range(after_steps), strict=False))
        raise Killed

    return lambda number: batches(number) if number == epoch else epoch_batches(number)


def without_seconds(curve: list[Epoch]) -> list[Epoch]:
    return [epoch.model_copy(update={"seconds": 0}) for epoch in curve]


def assert_equal_weights(one, other) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_train_trains_all_students_and_returns_the_curve(uninterrupted):
    _, curve = uninterrupted

    assert [(epoch.stage, epoch.epoch) for epoch in curve] == [("distilled", n) for n in (1, 2, 3, 4)]
    assert all(set(epoch.loss) == set(epoch.accuracy) == set(NAMES) for epoch in curve)
    losses = [[epoch.loss[name] for epoch in curve] for name in NAMES]
    assert all(loss[-1] < loss[0] for loss in losses), losses
    # The rate of the last step of each epoch; the warm-up ends after two of the eight steps.
    rates = [cosine_with_warmup(step, 8, 1e-2, 2) for step in (1, 3, 5, 7)]
    assert [epoch.learning_rate for epoch in curve] == pytest.approx(rates)


def test_train_compiles_one_step_for_all_students_and_one_prediction_for_all_batch_sizes(uninterrupted):
    trainer, _ = uninterrupted

    assert trainer.step.experimental_get_tracing_count() == 1
    assert trainer._predict.experimental_get_tracing_count() == 1


def test_train_changes_shared_weights_in_all_students(new_trainer, epoch_batches):
    trainer = new_trainer()
    small, large = cut_students(trainer.model, NAMES).values()
    before = small.get_layer("stem").kernel.numpy()

    trainer._train_epoch(0, epoch_batches(0))

    assert small.get_layer("stem").kernel is large.get_layer("stem").kernel
    assert not np.array_equal(small.get_layer("stem").kernel, before)


@pytest.mark.parametrize(("epoch", "after_steps"), [(2, 0), (3, 1)])
def test_train_resumes_with_the_same_weights_when_interrupted(
    new_trainer, epoch_batches, validation, uninterrupted, tmp_path, epoch, after_steps
):
    checkpoint = tmp_path / "node/checkpoint.npz"
    with pytest.raises(Killed):
        new_trainer().train(kill_in(epoch_batches, epoch, after_steps), validation, checkpoint)

    resumed, said = new_trainer(), []
    with listening(said.append):
        curve = resumed.train(epoch_batches, validation, checkpoint)

    assert {(p.before, p.total) for p in said if p.task == "distilled: epoch"} == {(epoch, 4)}
    assert without_seconds(curve) == without_seconds(uninterrupted[1])
    assert_equal_weights(resumed.model, uninterrupted[0].model)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.npz"]


def test_train_resumes_with_the_random_numbers_of_dropout(stripes, epoch_batches, validation, tmp_path):
    def trainer():
        image = keras.Input(stripes.SHAPE)
        features = keras.layers.Dropout(0.5)(keras.layers.Dense(16, "relu")(keras.layers.Flatten()(image)))
        model = keras.Model(image, keras.layers.Dense(3)(features))
        weights = np.random.default_rng(0)
        model.set_weights([weights.normal(size=w.shape) / 8 for w in model.get_weights()])
        return JointTrainer(model, ("only",), RECIPE)

    whole = trainer()
    curve = whole.train(epoch_batches, validation)
    checkpoint = tmp_path / "checkpoint.npz"
    with pytest.raises(Killed):
        trainer().train(kill_in(epoch_batches, 2), validation, checkpoint)
    resumed = trainer()

    assert without_seconds(resumed.train(epoch_batches, validation, checkpoint)) == without_seconds(curve)
    assert_equal_weights(resumed.model, whole.model)
    other = JointTrainer(trainer().model, ("only",), replace(RECIPE, seed=1))
    assert without_seconds(other.train(epoch_batches, validation)) != without_seconds(curve)


def test_train_resumes_with_the_masks_of_an_interrupted_pruning(epoch_batches, validation, stripes, tmp_path):
    def trainer():
        pruned = prune_while_training(build_family(stripes.LEAST, seed=1), 0.5, total_steps=8)
        masks = {"after_step": pruned.apply_masks, "after_restore": pruned.apply_masks, "state": pruned.state}
        return pruned, JointTrainer(pruned.model, NAMES, RECIPE, before_step=pruned.before_step, **masks)

    expected = trainer()[1]
    expected.train(epoch_batches, validation)
    checkpoint = tmp_path / "checkpoint.npz"
    with pytest.raises(Killed):
        trainer()[1].train(kill_in(epoch_batches, 3), validation, checkpoint)

    pruned, resumed = trainer()
    resumed.train(epoch_batches, validation, checkpoint)

    assert_equal_weights(resumed.model, expected.model)
    assert np.mean(pruned.model.get_layer("trunk2_1").kernel == 0) == 0.5


def test_train_runs_no_step_when_the_checkpoint_is_of_the_last_epoch(
    new_trainer, epoch_batches, validation, uninterrupted, tmp_path
):
    checkpoint = tmp_path / "checkpoint.npz"
    new_trainer().train(epoch_batches, validation, checkpoint)

    again = new_trainer()
    curve = again.train(kill_in(epoch_batches, 0), validation, checkpoint)

    assert len(curve) == 4
    assert_equal_weights(again.model, uninterrupted[0].model)


@pytest.fixture(scope="module")
def checkpoint_bytes(new_trainer, epoch_batches, validation, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    new_trainer().train(epoch_batches, validation, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-2},
        {"loss": LossConfig(temperature=2.0)},
        {"epochs": 5},
        {"stage": "pruned"},
        {"loss": LossConfig(student_weights={"large": 2.0})},
        {"ema_decay": 0.0},
    ],
)
def test_train_refuses_the_checkpoint_of_another_recipe(
    new_trainer, epoch_batches, validation, checkpoint_bytes, tmp_path, change
):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(checkpoint_bytes)

    with pytest.raises(TrainingError, match=r"checkpoint\.npz must belong to this family and recipe.*Delete it"):
        new_trainer(replace(RECIPE, **change)).train(epoch_batches, validation, path)


def test_train_refuses_the_checkpoint_of_another_family(
    new_trainer, epoch_batches, validation, checkpoint_bytes, stripes, tmp_path
):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(checkpoint_bytes)

    with pytest.raises(TrainingError, match="must belong to this family"):
        new_trainer(spec=stripes.SPEC).train(epoch_batches, validation, path)


def in_directory(data: bytes, offset: int, value: int) -> bytes:
    """Change one byte in the first entry of an archive's directory."""
    place = data.index(b"PK\1\2") + offset
    return data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:0],
        lambda data: data[: len(data) // 2],
        lambda data: data[:0] + b"no archive" * 50,
        lambda data: data[:3000] + bytes(64) + data[3064:],
        lambda data: in_directory(data, 8, 1),
        lambda data: in_directory(data, 10, 99),
    ],
    ids=["empty", "cut short", "not an archive", "overwritten", "flagged as encrypted", "of an unknown compression"],
)
def test_train_refuses_a_damaged_checkpoint(new_trainer, epoch_batches, validation, checkpoint_bytes, tmp_path, damage):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(damage(checkpoint_bytes))

    with pytest.raises(TrainingError, match=r"checkpoint\.npz must be whole; .*Delete it to restart the training"):
        new_trainer().train(epoch_batches, validation, path)


def test_train_refuses_a_checkpoint_with_a_missing_array(new_trainer, epoch_batches, validation, tmp_path):
    trainer = new_trainer()
    path = tmp_path / "checkpoint.npz"
    np.savez(path, signature=trainer._signature())

    with pytest.raises(TrainingError, match=r"must be whole; .*state0"):
        trainer.train(epoch_batches, validation, path)


def test_train_names_a_checkpoint_that_cannot_be_written(new_trainer, epoch_batches, validation, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match=r"file/checkpoint\.npz must be writable; File exists"):
        new_trainer().train(epoch_batches, validation, tmp_path / "file/checkpoint.npz")


def test_train_names_the_student_whose_loss_is_not_finite(new_trainer, epoch_batches, validation):
    trainer = new_trainer()
    trainer.model.get_layer("small_logits").bias.assign([np.nan] * 3)

    with pytest.raises(
        TrainingError,
        match=r"loss of small must be finite; it was not in epoch 1, step 1\. Lower the learning rate \(now 0\.01\)",
    ):
        trainer.train(epoch_batches, validation)


def test_train_refuses_an_epoch_without_batches(new_trainer, epoch_batches, validation):
    with pytest.raises(TrainingError, match=r"at least one batch; got none\. Provide more images or reduce batch_size"):
        new_trainer().train(lambda epoch: epoch_batches(epoch).take(0), validation)


class Scripted(JointTrainer):
    """Sets all weights to the number of the epoch instead of training, and reports given accuracies."""

    def __init__(self, model, recipe, accuracies):
        super().__init__(model, NAMES, recipe)
        self.accuracies = iter(accuracies)

    def _train_epoch(self, epoch, _):
        for variable in self.averaged:
            variable.assign(tf.ones_like(variable) * (epoch + 1))
        return dict.fromkeys(NAMES, 1.0), None

    def accuracy(self, _):
        return dict.fromkeys(NAMES, next(self.accuracies))


@pytest.mark.parametrize(
    ("accuracies", "options", "epochs", "best"),
    [
        ([0.5, 0.9, 0.7, 0.8], {}, 4, 2),
        ([0.5, 0.9, 0.9, 0.8], {}, 4, 3),  # of equal epochs the latest is kept
        ([0.5, 0.9, 0.7, 0.8], {"choose_from": 2}, 4, 4),
        ([0.5, 0.4, 0.9, 0.9], {"patience": 1}, 2, 1),
        ([0.5, 0.4, 0.3, 0.9], {"patience": 2}, 3, 1),
        ([0.9, 0.8, 0.5, 0.4], {"patience": 1, "choose_from": 2}, 4, 3),
    ],
)
def test_train_ends_with_the_best_epochs_weights(stripes, validation, accuracies, options, epochs, best):
    model = build_family(stripes.LEAST, seed=1)
    trainer = Scripted(model, Recipe("distilled", 4, 1, 1e-3, **options), accuracies)

    curve = trainer.train(lambda _: None, validation)

    assert len(curve) == epochs
    assert all(np.all(weights == best) for weights in model.get_weights())


def test_train_keeps_a_moving_average_of_weights_and_statistics(new_trainer, epoch_batches):
    trainer = new_trainer(replace(RECIPE, ema_decay=0.8))
    names = [variable.name for variable in trainer.averaged]
    start = [variable.numpy() for variable in trainer.averaged]
    batch = next(iter(epoch_batches(0)))

    trainer.step(*batch, tf.constant(0.25))

    assert {"stem_bn/moving_mean:0", "small_logits/kernel:0", "large_logits/bias:0"} <= set(names)
    for first, average, now in zip(start, trainer.average.values(), trainer.averaged, strict=True):
        np.testing.assert_allclose(average, 0.25 * first + 0.75 * now.numpy(), rtol=1e-5, atol=1e-6)


def test_train_evaluates_and_keeps_the_averaged_weights(new_trainer, epoch_batches, validation):
    trainer = new_trainer(replace(RECIPE, epochs=1))

    (epoch,) = trainer.train(epoch_batches, validation)

    for average, variable in zip(trainer.average.values(), trainer.averaged, strict=True):
        np.testing.assert_array_equal(variable, average)
    assert trainer.accuracy(validation) == epoch.accuracy


def test_train_keeps_no_average_when_its_decay_is_zero(new_trainer, epoch_batches, validation):
    trainer = new_trainer(replace(RECIPE, ema_decay=0.0, epochs=1))

    trainer.train(epoch_batches, validation)

    assert trainer.average is None


def test_weight_decay_applies_to_kernels_only_for_all_layer_names(stripes):
    """`mini`, `max` and `bias` contain patterns that would exclude other variables by name."""
    small, large = stripes.SPEC.branches
    tail = tuple(replace(block, name="gamma_max") for block in large.tail)
    spec = replace(
        stripes.SPEC, branches=(replace(small, student="mini_bias"), replace(large, student="beta", tail=tail))
    )
    model = build_family(spec, seed=1)
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable))
    trainer = JointTrainer(model, spec.students, Recipe("distilled", 1, 1, 0.1, weight_decay=0.5))

    trainer.optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])

    decayed = {v.name for v in model.trainable_variables if np.allclose(v, 1 - 0.1 * 0.5)}
    kept = {v.name for v in model.trainable_variables if np.all(v.numpy() == 1)}
    assert decayed == {v.name for v in model.trainable_variables if v.name.endswith("kernel:0")}
    assert kept == {v.name for v in model.trainable_variables} - decayed
    assert "mini_bias_logits/kernel:0" in decayed
    assert "gamma_max_dw/depthwise_kernel:0" in decayed


def test_train_names_a_damaged_shard(new_trainer, stripes_artifacts, stripes, tmp_path):
    examples, logits = (shutil.copytree(folder, tmp_path / folder.name) for folder in stripes_artifacts)
    data = TrainingData.open(examples, logits, batch_size=32, seed=3)
    path = logits / "Split-train" / stripes.SHARD.format(1)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9]))

    with pytest.raises(DataError, match=r"must be whole; got: .*truncated record.* Delete them and run again"):
        new_trainer().train(data.epoch, None)


def test_student_weights_scale_the_losses(new_trainer, epoch_batches):
    trainer = new_trainer(
        replace(RECIPE, loss=LossConfig.model_construct(student_weights={"small": 0.0}), weight_decay=0.0)
    )
    before = {v.name: v.numpy() for v in trainer.model.trainable_variables}

    trainer._train_epoch(0, epoch_batches(0))

    moved = {v.name for v in trainer.model.trainable_variables if not np.array_equal(v, before[v.name])}
    assert moved == {name for name in before if not name.startswith("small_")}


def test_accuracy_counts_every_image_once(new_trainer, validation, stripes):
    trainer = new_trainer()
    images, labels = stripes.draw(40, 1)

    found = trainer.accuracy(validation)

    for name, logits in zip(NAMES, trainer._predict(images), strict=True):
        assert found[name] == np.mean(np.argmax(logits, -1) == labels)


def test_trainer_accepts_a_single_student(stripes, epoch_batches, validation):
    family = build_family(stripes.LEAST, seed=1)
    alone = cut_students(family, NAMES)["large"]

    curve = JointTrainer(alone, ("large",), replace(RECIPE, epochs=1)).train(epoch_batches, validation)

    assert set(curve[0].loss) == {"large"}


def test_train_reports_progress_by_step_and_by_epoch(new_trainer, epoch_batches, validation):
    seen = []

    with listening(seen.append):
        new_trainer(replace(RECIPE, epochs=2)).train(epoch_batches, validation)

    assert [(p.task, p.done, p.total) for p in seen] == [
        ("distilled: epoch 1 step", 1, 2),
        ("distilled: epoch 1 step", 2, 2),
        ("distilled: epoch", 1, 2),
        ("distilled: epoch 2 step", 1, 2),
        ("distilled: epoch 2 step", 2, 2),
        ("distilled: epoch", 2, 2),
    ]
    shown = r"validation accuracy small 0\.\d{3}, large [01]\.\d{3}; loss small \d\.\d{3}, large \d\.\d{3} \(\d+ s\)"
    assert re.fullmatch(shown, seen[2].detail)


def test_describe_epoch_is_one_line():
    losses, accuracies = {"a": 2.34567, "b": 0.5}, {"a": 0.5, "b": 1.0}
    epoch = Epoch(stage="pruned", epoch=3, loss=losses, accuracy=accuracies, learning_rate=0.1, seconds=12.4)

    assert describe_epoch(epoch) == "validation accuracy a 0.500, b 1.000; loss a 2.346, b 0.500 (12 s)"
    without = epoch.model_copy(update={"accuracy": {}})
    assert describe_epoch(without) == "loss a 2.346, b 0.500 (12 s)"
