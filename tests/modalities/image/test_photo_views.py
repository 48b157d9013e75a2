# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tensorflow as tf

from learn2compress.modalities.image.views.image_views import ImageViews
from learn2compress.modalities.image.views.photo_views import apply_photo_view
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import ViewRecipe

SHAPE = (40, 60, 3)
RECIPE = ViewRecipe(count=5, shift_pixels=(0, 0), flip=True, seed=3, smallest_area=0.5, colour=0.1)
IDS = np.array([f"{n:016x}" for n in range(1, 60)])


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(np.uint8)


def test_draw_is_a_function_of_id_view_and_seed():
    views = ImageViews(SHAPE)
    drawn = views.draw(IDS, RECIPE)
    np.testing.assert_array_equal(views.draw(IDS[::-1], RECIPE)[::-1], drawn)
    assert np.any(views.draw(IDS, RECIPE.model_copy(update={"seed": 4})) != drawn)
    assert drawn.dtype == np.int16
    assert views.width(RECIPE) == drawn.shape[-1] == 8


def test_draw_keeps_parts_within_the_image_and_above_the_smallest_area():
    top, left, height, width, mirrored, *colours = np.moveaxis(ImageViews(SHAPE).draw(IDS, RECIPE)[:, 1:], -1, 0)
    assert (top + height).max() <= 40
    assert (left + width).max() <= 60
    assert min(top.min(), left.min()) >= 0
    assert (height * width).min() >= 0.45 * 40 * 60
    assert set(mirrored.ravel()) == {0, 1}
    assert np.abs(np.stack(colours) / 256 - 1).max() <= 0.11


def test_view_0_is_the_image_itself():
    drawn = ImageViews(SHAPE).draw(IDS[:2], RECIPE)
    np.testing.assert_array_equal(ImageViews(SHAPE).apply(images(), drawn[:, 0]), images())


def test_apply_mirrors_and_enlarges_a_part():
    shown = images(1)
    mirrored = apply_photo_view(shown, np.array([[0, 0, 40, 60, 1, 256, 256, 256]]))
    np.testing.assert_array_equal(mirrored, shown[:, :, ::-1])
    part = apply_photo_view(shown, np.array([[10, 20, 20, 30, 0, 256, 256, 256]])).numpy()
    np.testing.assert_array_equal(part[0, 0, 0], shown[0, 10, 20])
    np.testing.assert_array_equal(part[0, -1, -1], shown[0, 29, 49])


def test_apply_changes_brightness_contrast_and_saturation():
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    brighter = apply_photo_view(grey, np.array([[0, 0, 4, 4, 0, 320, 256, 256]])).numpy()
    assert set(brighter.ravel()) == {125}
    contrast = apply_photo_view(grey, np.array([[0, 0, 4, 4, 0, 256, 128, 256]])).numpy()
    assert set(contrast.ravel()) == {114}  # 127.5 + (100 - 127.5) / 2
    colourful = np.zeros((1, 4, 4, 3), np.uint8)
    colourful[..., 0] = 200
    dull = apply_photo_view(colourful, np.array([[0, 0, 4, 4, 0, 256, 256, 0]])).numpy()
    assert set(dull.ravel()) == {60}  # 0.299 · 200


def test_a_view_is_the_same_whatever_the_batch_alone_and_in_a_graph():
    shown, drawn = images(6), ImageViews(SHAPE).draw(IDS[:6], RECIPE)[:, 1]
    together = ImageViews(SHAPE).apply(shown, drawn).numpy()
    singly = [ImageViews(SHAPE).apply(shown[i : i + 1], drawn[i : i + 1]).numpy() for i in range(6)]
    np.testing.assert_array_equal(together, np.concatenate(singly))
    signature = [tf.TensorSpec([None, *SHAPE], tf.uint8), tf.TensorSpec([None, 8], tf.int16)]
    in_graph = tf.function(ImageViews(SHAPE).apply, autograph=False, input_signature=signature)(shown, drawn)
    np.testing.assert_array_equal(in_graph, together)


def test_colours_change_as_computed_by_hand():
    shown = images(3)
    drawn = np.array([[0, 0, 40, 60, 0, *factors] for factors in [(300, 240, 200), (230, 280, 256), (256, 256, 310)]])
    pixels, (brightness, contrast, saturation) = (
        shown.astype(float),
        drawn[:, 5:, None, None, None].swapaxes(0, 1) / 256,
    )
    grey = pixels @ np.array([[0.299], [0.587], [0.114]])
    expected = brightness * (127.5 + contrast * (grey + saturation * (pixels - grey) - 127.5))
    changed = apply_photo_view(shown, drawn).numpy()
    np.testing.assert_allclose(changed, np.clip(expected, 0, 255), atol=0.501)


def test_recipe_is_of_photographs_if_an_area_is_given():
    views = ImageViews(SHAPE)
    config = TeacherImportConfig(path="t", views=6, view_area=0.3, view_colour=0.2)
    recipe = views.recipe(config, 1, True)
    assert (recipe.smallest_area, recipe.colour, recipe.flip, recipe.count) == (0.3, 0.2, True, 6)
    plain = views.recipe(TeacherImportConfig(path="t"), 1, True)
    assert "smallest_area" not in plain.model_dump()
    assert views.width(plain) == 3
