# SPDX-License-Identifier: Apache-2.0
"""Students learn standardized features; tests/components/test_distiller.py covers the whole initialization."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from learn2compress.compression.family.model import build_family
from learn2compress.compression.teacher.logits import write_outputs_shard
from learn2compress.compression.training.feature_distillation import FeatureData, feature_losses, learn_features
from learn2compress.compression.training.joint_trainer import Recipe
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    TeacherFeaturesManifest,
    TeacherLogitsManifest,
    read_manifest,
    write_manifest,
)
from learn2compress.schemas.progress import listening


class Columns:
    """Features: the mean brightness of two pairs of columns, one of them on a much larger scale, and a constant."""

    def features(self, images):
        values = images.astype(np.float32).mean(axis=(1, 3)).reshape(-1, 4, 2).mean(axis=2)[:, :2]
        return np.concatenate([values * [5, 1e6], np.full((len(values), 1), 7)], axis=1).astype(np.float32)


class OneView:
    """Features: one that is nearly constant in the first view only, the brightness, and one of rounding errors."""

    def __init__(self):
        self.view = 0

    def features(self, images):
        bright = images.astype(np.float32).mean(axis=(1, 2, 3)) / 255
        small = np.linspace(0, 1e-6, len(images))
        first = small if self.view == 0 else bright
        self.view = 1 - self.view
        return np.stack([first, bright, 1000 + 100 * small], axis=1).astype(np.float32)


class Nothing:
    """Features that do not vary."""

    def features(self, images):
        return np.ones((len(images), 3), np.float32)


def write_features(teacher, folder, stripes, stripes_artifacts, **changes):
    examples, asked = stripes_artifacts[0], read_manifest(stripes_artifacts[1], TeacherLogitsManifest)
    recipe = stripes.RECIPE.model_copy(update=changes)
    for name in asked.shards["train"]:
        target = str(folder / "features/Split-train" / name)
        count = write_outputs_shard(
            lambda images: {"features": teacher.features(images)},
            str(examples / "Split-train" / name),
            {"features": target},
            stripes.TASK,
            recipe,
        )
        assert count.images == 48
    features = TeacherFeaturesManifest(
        layer="pool",
        side="output",
        width=3,
        shards={"train": asked.shards["train"], "unlabeled": []},
        images={"train": 96, "unlabeled": 0},
        forward_passes=192,
    )
    write_manifest(folder, asked.model_copy(update={"features": features, "recipe": recipe}))
    return examples, folder


@pytest.fixture(scope="module")
def folders(stripes, stripes_artifacts, tmp_path_factory):
    """Examples, and logits with features of the training images; there are no unlabelled images."""
    return write_features(Columns(), tmp_path_factory.mktemp("features"), stripes, stripes_artifacts)


@pytest.mark.parametrize("mixed", [False, True])
def test_epoch_gives_features_of_the_view_standardized_over_all_views(
    folders, stripes, stripes_artifacts, tmp_path, mixed
):
    if mixed:
        folders = write_features(Columns(), tmp_path, stripes, stripes_artifacts, mixed=True)
    data = FeatureData.open(*folders, batch_size=32, seed=3)

    assert (data.batch_size, data.steps, data.views) == (32, 3, 2)
    np.testing.assert_array_equal(data.kept, [0, 1])  # without the constant feature
    standardized, shown = [], 0
    for epoch in range(2):  # one view of each image and then the other
        for images, _, features in data.epoch(epoch):
            expected = (Columns().features(images.numpy())[:, :2] - data.mean) / data.deviation
            np.testing.assert_allclose(features, expected, atol=1e-3)
            standardized.append(features.numpy())
            shown += len(images)
    assert shown == 2 * 96
    np.testing.assert_allclose(np.concatenate(standardized).mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(standardized).std(0), 1, rtol=1e-4)


def test_feature_losses_are_mean_squared_errors():
    first, second = tf.constant([[1.0, 3.0], [0.0, 0.0]]), tf.constant([[1.0, 1.0], [0.0, 2.0]])

    found = feature_losses(None, tf.constant([[1.0, 1.0], [0.0, 0.0]]), [first, second])

    np.testing.assert_allclose(found, [[2.0, 0.0], [0.0, 2.0]])


def test_learn_features_trains_all_but_the_logits_and_reports_the_loss(folders, stripes):
    data = FeatureData.open(*folders, batch_size=32, seed=3)
    family = build_family(stripes.LEAST, seed=1)
    before = {layer.name: layer.get_weights() for layer in family.layers}
    said = []

    with listening(said.append), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of the mean of no accuracies
        recipe = Recipe("distilled", 30, 7, 2e-2, ema_decay=0.5)
        curve = learn_features(family, stripes.LEAST.students, data, recipe, epochs=5)

    assert [(epoch.stage, epoch.accuracy) for epoch in curve] == [("features", {})] * 5
    assert all(curve[-1].loss[name] < curve[0].loss[name] for name in stripes.LEAST.students)
    moved = {n for n, w in before.items() if w and not np.array_equal(w[0], family.get_layer(n).get_weights()[0])}
    assert moved == {name for name, weights in before.items() if weights and "logits" not in name}
    assert said[-1].detail.startswith("loss small 0.")


def test_open_refuses_logits_without_features(stripes_artifacts):
    with pytest.raises(
        DataError, match=r"logits in .* must have the teacher's features; got none\. Run the teacher again"
    ):
        FeatureData.open(*stripes_artifacts, batch_size=32, seed=3)


def test_open_leaves_out_features_of_negligible_deviation(stripes, stripes_artifacts, tmp_path):
    data = FeatureData.open(*write_features(OneView(), tmp_path, stripes, stripes_artifacts), batch_size=32, seed=3)

    curve = learn_features(
        build_family(stripes.LEAST, seed=1), stripes.LEAST.students, data, Recipe("distilled", 9, 3, 1e-4), 2
    )

    np.testing.assert_array_equal(data.kept, [0, 1])
    assert all(0 < loss < 10 for epoch in curve for loss in epoch.loss.values()), curve


def test_open_refuses_features_of_which_none_varies(stripes, stripes_artifacts, tmp_path):
    folders = write_features(Nothing(), tmp_path, stripes, stripes_artifacts)
    with pytest.raises(
        DataError, match=r"features in .* must vary from image to image; none of 3 does\. Set distill.init"
    ):
        FeatureData.open(*folders, batch_size=32, seed=3)
