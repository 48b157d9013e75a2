# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from learn2compress.modalities.image.views.image_views import ImageViews
from learn2compress.modalities.image.views.mixing import WHOLE, draw_shares, mix
from learn2compress.modalities.image.views.shifts import draw_views
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import ViewRecipe

SHAPE = (4, 6, 3)
IDS = np.array([b"%016x" % (977 * n) for n in range(400)])


def images(seed: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.uint8)


def recipe(**changes) -> ViewRecipe:
    return ViewRecipe(**({"count": 5, "shift_pixels": (1, 1), "flip": True, "seed": 3, "mixed": True} | changes))


@pytest.mark.parametrize("photographs", [{}, {"smallest_area": 0.5, "colour": 0.1}])
def test_every_second_view_is_a_mix_in_which_the_image_has_the_larger_share(photographs):
    views = ImageViews(SHAPE)
    drawn = views.draw(IDS, recipe(**photographs))

    assert drawn.shape == (400, 5, views.width(recipe(**photographs)))
    assert np.all(drawn[:, ::2, -1] == WHOLE)
    shares = drawn[:, 1::2, -1]
    assert shares.min() == 128
    assert shares.max() == 255
    assert abs(shares.mean() - 191.5) < 5
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.15, "views of an image have shares of their own"


def test_mixes_leave_the_other_parameters_as_they_are():
    drawn = ImageViews(SHAPE).draw(IDS, recipe())

    np.testing.assert_array_equal(drawn[..., :-1], draw_views(IDS, recipe()))
    moved = drawn[:, 1, 0] != 0
    assert abs(np.corrcoef(moved, drawn[:, 1, -1])[0, 1]) < 0.15, "shares do not depend on shifts"


def test_share_of_a_mix_depends_on_the_seed():
    one, other = (ImageViews(SHAPE).draw(IDS, recipe(seed=seed))[:, 1, -1] for seed in (3, 4))

    assert np.mean(one != other) > 0.9


def test_mix_is_the_rounded_mean_by_shares():
    one, other = images(0), images(1)
    shares = np.array([128, 200, WHOLE])

    found = mix(one, other, shares).numpy()

    part = shares[:, None, None, None] / WHOLE
    np.testing.assert_array_equal(found, np.floor(part * one + (1 - part) * other + 0.5).astype(np.uint8))
    np.testing.assert_array_equal(found[2], one[2])


def test_apply_mixes_before_it_moves():
    views, one, other = ImageViews(SHAPE), images(0), images(1)
    parameters = np.array([[1, 0, 1, 128], [0, -1, 0, 255], [0, 0, 0, WHOLE]], np.int16)

    found = views.apply(one, tf.constant(parameters), other).numpy()

    plain = ImageViews(SHAPE)
    expected = plain.apply(mix(one, other, parameters[:, -1]), tf.constant(parameters[:, :-1])).numpy()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[2], one[2])
    assert np.any(found[0] != one[0])


def test_apply_mixes_photographs_before_their_parts_are_taken():
    views, one, other = ImageViews(SHAPE), images(0), images(1)
    parameters = views.draw(IDS[:3], recipe(smallest_area=0.5, colour=0.1))[:, 1]

    found = views.apply(one, tf.constant(parameters), other).numpy()

    mixed = mix(one, other, parameters[:, -1])
    np.testing.assert_array_equal(found, views.apply(mixed, tf.constant(parameters[:, :-1])).numpy())
    assert np.any(found != views.apply(one, tf.constant(parameters[:, :-1])).numpy())


def test_labels_of_mixes_are_left_out():
    views = ImageViews(SHAPE)
    parameters = tf.constant([[0, 0, 0, WHOLE], [0, 0, 0, 255]], tf.int16)

    assert views.labels(tf.constant([2, 1], tf.int64), parameters).numpy().tolist() == [2, -1]
    assert views.labels(tf.constant([2, 1], tf.int64), parameters[:, :-1]).numpy().tolist() == [2, 1]


def test_recipe_has_mixes_only_if_they_are_requested():
    views = ImageViews(SHAPE)
    plain = views.recipe(TeacherImportConfig(path="t"), 1, True)
    mixed = views.recipe(TeacherImportConfig(path="t", view_mix=True), 1, True)

    assert (views.mixes(plain), views.width(plain)) == (False, 3)
    assert (views.mixes(mixed), views.width(mixed)) == (True, 4)
    assert "mixed" not in plain.model_dump()
    assert views.recipe(TeacherImportConfig(path="t", view_mix=True, view_area=0.5), 1, True).mixed


def test_shares_of_a_single_view_are_whole():
    assert np.all(draw_shares(np.zeros((3, 1), np.uint64)) == WHOLE)
