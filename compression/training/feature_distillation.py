# SPDX-License-Identifier: Apache-2.0
"""Initializes students by predicting the teacher's features: `distill.init: features`.

A separate linear layer W p + b maps the pooled features p of each student to the teacher's penultimate features f of
the same view, each of which is standardized over all views of all images (mean 0, variance 1):

    L = 1/d · ‖W p + b - (f - mean) / deviation‖²,  d features that vary

(FitNets, Romero et al., arXiv:1412.6550, with the layer before the logits as hint). No labels are required, so
unlabelled images can be used as well. Composed with the teacher's last layer, the linear layers begin the logits layers
afterwards.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.family.model import feature_outputs
from learn2compress.compression.training.devices.distribution import Distribution
from learn2compress.compression.training.feature_heads import Layer, composed_heads
from learn2compress.compression.training.joint_trainer import JointTrainer, Recipe
from learn2compress.compression.training.training_data import epoch_seed, record_bytes, shuffle_buffer
from learn2compress.data.batches import read_features, read_with_features, whole_shards
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    DataManifest,
    Epoch,
    Initialization,
    Task,
    TeacherLogitsManifest,
    read_manifest,
)

# Features with a deviation below these fractions of their mean, or of the largest deviation, are left out, since they
# contain only the rounding errors of the teacher.
_MIN_OF_MEAN, _MIN_OF_LARGEST = 1e-5, 1e-7


@dataclass(frozen=True)
class FeatureData:
    """Images with the teacher's features of their views, ready for `JointTrainer`.

    Attributes:
        task: The classification task.
        examples: Folder of the `Examples` artifact.
        logits: Folder of the `TeacherLogits` artifact with features.
        batch_size: Images per step.
        steps: Full batches per epoch.
        views: Number of views K.
        kept: Indices of the features that vary, [width] int64.
        every_mean: Means of all features, also those that do not vary, [all features] float32.
        mean: Means over all views, [width] float32. View 0 alone would not be sufficient: a feature may vary much more
            in other views.
        deviation: Standard deviations over all views, [width] float32.
        seed: Seed of the order of the images.
        shuffle_buffer: Number of records from which the next one is drawn.
    """

    task: Task
    examples: Path
    logits: Path
    batch_size: int
    steps: int
    views: int
    kept: np.ndarray
    every_mean: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    seed: int
    shuffle_buffer: int

    @classmethod
    def open(cls, examples: str | Path, logits: str | Path, batch_size: int, seed: int) -> "FeatureData":
        """Compute mean and deviation of the features, and check that images and features belong together.

        Args:
            examples: Folder of the `Examples` artifact.
            logits: Folder of the `TeacherLogits` artifact with features.
            batch_size: Images per step, if there are that many.
            seed: Seed of the order of the images.

        Raises:
            DataError: Images and features do not belong together, a shard is missing, or no feature varies.
        """
        data, taught = read_manifest(examples, DataManifest), read_manifest(logits, TeacherLogitsManifest)
        read_with_features(examples, logits, 1, 0, 0)  # only for its checks
        features = taught.require_features()
        count, width = sum(features.images.values()), features.width
        seen, total, squares = 0, np.zeros(width), np.zeros(width)
        with whole_shards():
            for batch in read_features(logits).as_numpy_iterator():
                values = batch.astype(np.float64).reshape(-1, width)
                seen += len(values)
                total += values.sum(0)
                squares += (values**2).sum(0)
        mean = total / seen
        deviation = np.sqrt(np.maximum(squares / seen - mean**2, 0))
        (kept,) = np.nonzero(deviation > np.maximum(_MIN_OF_MEAN * np.abs(mean), _MIN_OF_LARGEST * deviation.max()))
        if not len(kept):
            raise DataError(
                f"the teacher's features in {logits} must vary from image to image; none of {width} does. "
                "Set distill.init: none, or distill from another teacher."
            )
        images_per_step = min(batch_size, count)
        return cls(
            data.task,
            Path(examples),
            Path(logits),
            images_per_step,
            count // images_per_step,
            taught.recipe.count,
            kept,
            mean.astype(np.float32),
            mean[kept].astype(np.float32),
            deviation[kept].astype(np.float32),
            seed,
            shuffle_buffer(count, record_bytes(data.task, taught.recipe, 4 * width)),
        )

    def epoch(self, epoch: int) -> tf.data.Dataset:
        """Make batches of (images [b, h, w, c] uint8, labels [b] int64, standardized features [b, width] float32).

        Args:
            epoch: Number of the epoch, from 0; equal numbers give equal batches.
        """
        order = (self.batch_size, self.shuffle_buffer, epoch_seed(self.seed, epoch))
        batches = read_with_features(self.examples, self.logits, *order)

        views = modality_of(self.task).views(self.task)

        @tf.autograph.experimental.do_not_convert
        def pick_view(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            view = (tf.strings.to_hash_bucket_fast(batch["id"], self.views) + epoch) % self.views
            parameters = tf.gather(batch["views"], view, axis=1, batch_dims=1)
            examples = views.apply(batch["example"], parameters, batch.get("partner"))
            features = tf.gather(tf.gather(batch["features"], view, axis=1, batch_dims=1), self.kept, axis=1)
            return examples, batch["label"], (features - self.mean) / self.deviation

        return batches.map(pick_view, num_parallel_calls=2, deterministic=True).take(self.steps).prefetch(2)


def learn_features(
    family: keras.Model,
    names: tuple[str, ...],
    data: FeatureData,
    recipe: Recipe,
    epochs: int,
    checkpoint: Path | None = None,
    distribution: Distribution | None = None,
    teacher: Layer | None = None,
) -> list[Epoch]:
    """Train a family, except for its logits layers, to predict the teacher's features.

    The logits layers begin as the learned maps composed with the teacher's last layer, see feature_heads.py.

    Args:
        family: Joint model of the built-in family; its weights are changed.
        names: Names of the students, in the order of the outputs.
        data: Images and features.
        recipe: Recipe of the subsequent distillation; learning rate, warm-up, weight decay and moving average are used.
        epochs: Number of epochs.
        checkpoint: Checkpoint file, see `JointTrainer.train`.
        distribution: Devices of the training; by default one.
        teacher: Kernel and bias of the teacher's last layer; without it, the logits layers stay as they are.

    Returns:
        The training curve, with losses only.
    """
    width = len(data.mean)
    # A child sequence, since the layers of the family use the seed itself.
    (sequence,) = np.random.SeedSequence(data.seed).spawn(1)
    seeds = sequence.generate_state(len(names)).tolist()
    outputs = [
        keras.layers.Dense(
            width, kernel_initializer=keras.initializers.GlorotUniform(seed=seed), name=f"{name}_projection"
        )(features)
        for name, features, seed in zip(names, feature_outputs(family, names), seeds, strict=True)
    ]
    own = replace(
        recipe,
        stage="features",
        epochs=epochs,
        steps_per_epoch=data.steps,
        warmup_epochs=min(recipe.warmup_epochs, epochs / 2),
        patience=None,
    )
    distribution = distribution or Distribution()
    predictor = keras.Model(family.input, outputs)
    model = distribution.replicate(predictor)
    trainer = JointTrainer(model, names, own, losses=feature_losses, distribution=distribution)
    curve = trainer.train(data.epoch, None, checkpoint)
    distribution.gather(model, predictor)
    if teacher is not None:
        maps = {name: tuple(predictor.get_layer(f"{name}_projection").get_weights()) for name in names}
        heads = composed_heads(maps, teacher, data.kept, data.every_mean, data.deviation)
        for name, (kernel, bias) in heads.items():
            family.get_layer(f"{name}_logits").set_weights([kernel, bias])
    return curve


def feature_losses(labels: tf.Tensor, features: tf.Tensor, outputs: list[tf.Tensor]) -> list[tf.Tensor]:  # noqa: ARG001
    """Compute the mean squared error of each student's prediction of the features.

    Args:
        labels: Ignored.
        features: Standardized features, [batch, width] float32.
        outputs: Predictions, one [batch, width] float32 per student.

    Returns:
        Losses, one [batch] float32 per student.
    """
    return [tf.reduce_mean(tf.math.squared_difference(output, features), axis=-1) for output in outputs]


def describe_features(logits: str | Path, epochs: int, new_logits: bool = True) -> Initialization:
    """Describe the initialization by features for the manifest.

    Args:
        logits: Folder of the `TeacherLogits` artifact with features.
        epochs: Number of epochs of feature prediction.
        new_logits: Whether the logits layers were initialized at random nevertheless.
    """
    taught = read_manifest(logits, TeacherLogitsManifest)
    features = taught.require_features()
    return Initialization(
        kind="features",
        source_sha256=taught.teacher_sha256,
        new_logits=new_logits,
        feature_layer=features.layer,
        epochs=epochs,
        labeled_images=features.images["train"],
        unlabeled_images=features.images["unlabeled"],
        forward_passes=features.forward_passes,
    )
