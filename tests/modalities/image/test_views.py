# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from learn2compress.modalities.image.views.image_views import ImageViews
from learn2compress.modalities.image.views.shifts import apply_view, draw_views, mirror
from learn2compress.schemas.config import TeacherConfig
from learn2compress.schemas.manifests import ViewRecipe

IDS = np.array([f"{17 * i:016x}".encode() for i in range(4000)])


def recipe(**changes) -> ViewRecipe:
    return ViewRecipe(**{"count": 4, "shift_pixels": (2, 1), "flip": True, "seed": 7, **changes})


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ((0, 0, 0), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        ((1, 0, 0), [[3, 4, 5], [6, 7, 8], [3, 4, 5]]),
        ((-2, 0, 0), [[6, 7, 8], [3, 4, 5], [0, 1, 2]]),
        ((0, -1, 0), [[1, 0, 1], [4, 3, 4], [7, 6, 7]]),
        ((0, 2, 0), [[2, 1, 0], [5, 4, 3], [8, 7, 6]]),
        ((0, 0, 1), [[2, 1, 0], [5, 4, 3], [8, 7, 6]]),
        # Shifting gives [[1, 2, 1], ...], which is then mirrored.
        ((0, 1, 1), [[1, 2, 1], [4, 5, 4], [7, 8, 7]]),
        ((1, -1, 1), [[4, 3, 4], [7, 6, 7], [4, 3, 4]]),
    ],
)
def test_apply_view_moves_pixels_as_computed_by_hand(view, expected):
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)
    assert apply_view(image, np.array([view], np.int16)).numpy()[0, :, :, 0].tolist() == expected


def test_apply_view_applies_each_view_to_its_image_in_a_graph():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    views = np.array([[1, -2, 0], [0, 0, 0], [-1, 3, 1]], np.int16)
    signature = [tf.TensorSpec([None, 4, 6, 3], tf.uint8), tf.TensorSpec([None, 3], tf.int16)]
    together = tf.function(apply_view, input_signature=signature)(images, views)
    assert together.dtype == tf.uint8
    singly = np.concatenate([apply_view(images[i : i + 1], views[i : i + 1]) for i in range(3)])
    assert np.array_equal(together, singly)
    assert np.array_equal(together[1], images[1])


def test_draw_views_starts_with_the_image_itself_and_stays_within_bounds():
    views = draw_views(IDS, recipe())
    assert views.dtype == np.int16
    assert views.shape == (4000, 4, 3)
    assert not views[:, 0].any()
    assert set(np.unique(views[:, :, 0])) == {-2, -1, 0, 1, 2}
    assert set(np.unique(views[:, :, 1])) == {-1, 0, 1}
    assert set(np.unique(views[:, :, 2])) == {0, 1}


def test_draw_views_is_uniform_and_uncorrelated():
    views = draw_views(IDS, recipe())[:, 1:].reshape(-1, 3).astype(float)
    for column, values in enumerate((5, 3, 2)):
        counts = np.unique(views[:, column], return_counts=True)[1]
        assert np.abs(counts / (len(views) / values) - 1).max() < 0.06
    correlation = np.corrcoef(views.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.04


def test_draw_views_depends_on_id_view_and_seed_only():
    views = draw_views(IDS, recipe())
    assert np.array_equal(draw_views(IDS[[5]], recipe())[0], views[5])
    assert np.array_equal(draw_views(np.array([i.decode() for i in IDS[:9]]), recipe()), views[:9])
    assert np.array_equal(draw_views(IDS, recipe(count=2)), views[:, :2])
    assert not np.array_equal(draw_views(IDS, recipe(seed=8)), views)
    # A change of these numbers would pair stored logits with other pixels.
    assert views[1].tolist() == [[0, 0, 0], [-1, 1, 1], [0, 0, 0], [1, 1, 0]]


def test_draw_views_never_mirrors_when_the_recipe_does_not():
    assert not draw_views(IDS, recipe(flip=False))[:, :, 2].any()


def test_draw_views_accepts_an_empty_batch():
    assert draw_views(np.array([], object), recipe()).shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("shape", "shift", "pixels"),
    [((8, 8, 1), 0.125, (1, 1)), ((32, 20, 3), 0.1, (3, 2)), ((8, 8, 1), 1.0, (7, 7)), ((28, 28, 1), 0.0, (0, 0))],
)
def test_recipe_shifts_by_whole_pixels_within_the_image(shape, shift, pixels):
    config = TeacherConfig(path="t.keras", views=4, view_shift=shift)

    assert ImageViews(shape).recipe(config, 9, True) == ViewRecipe(count=4, shift_pixels=pixels, flip=True, seed=9)


@pytest.mark.parametrize(
    ("setting", "passed", "flip"), [("yes", False, True), ("no", True, False), ("auto", True, True)]
)
def test_recipe_mirrors_as_configured_or_as_measured_on_the_teacher(setting, passed, flip):
    views, config = ImageViews((8, 8, 1)), TeacherConfig(path="t.keras", view_flip=setting)

    assert views.recipe(config, 0, passed).flip is flip
    assert (views.on_trial(config) is mirror) is (setting == "auto")
