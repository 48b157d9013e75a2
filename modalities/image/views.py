# SPDX-License-Identifier: Apache-2.0
"""Makes the fixed views of an image on which teacher and students run: shifts with reflection, and mirroring.

The input of a student must be the pixels for which the teacher's logits were computed ("A good teacher is patient and
consistent", Beyer et al., 2106.05237). A view is therefore three integers (dy, dx, mirrored), stored with the logits,
and its pixels are moved and never interpolated, so that they are the same bytes in both cases.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from learn2compress.modalities.draws import draw_bits
from learn2compress.modalities.image.photo_views import WIDTH as PHOTO_WIDTH
from learn2compress.modalities.image.photo_views import apply_photo_view, draw_photo_views
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import AnyViewRecipe, ViewRecipe

_SHIFT_WIDTH = 3


class ImageViews:
    """Implements `Views` for images: a view's parameters are dy, dx, mirrored, or those of views of photographs.

    Args:
        shape: Height, width and channels of the task's images.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    def width(self, recipe: AnyViewRecipe) -> int:
        """Returns the number of parameters of a view."""
        assert isinstance(recipe, ViewRecipe)  # of this modality
        return _SHIFT_WIDTH if recipe.smallest_area is None else PHOTO_WIDTH

    def on_trial(self, config: TeacherImportConfig) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns mirroring from left to right; None if the configuration decides whether views are mirrored."""
        return mirror if config.view_flip == "auto" else None

    def recipe(self, config: TeacherImportConfig, seed: int, passed: bool) -> ViewRecipe:
        """Makes the recipe: the largest shift is a fraction of each side, rounded to whole pixels."""
        flip = passed if config.view_flip == "auto" else config.view_flip == "yes"
        if config.view_area is not None:
            return ViewRecipe(
                count=config.views, shift_pixels=(0, 0), flip=flip, seed=seed,
                smallest_area=config.view_area, colour=config.view_colour or 0.0,
            )  # fmt: skip
        high_y, high_x = (min(side - 1, round(config.view_shift * side)) for side in self.shape[:2])
        return ViewRecipe(count=config.views, shift_pixels=(high_y, high_x), flip=flip, seed=seed)

    def draw(self, ids: np.ndarray, recipe: AnyViewRecipe) -> np.ndarray:
        """Draws the parameters of views; see `draw_views` and `draw_photo_views`."""
        assert isinstance(recipe, ViewRecipe)  # of this modality
        if recipe.smallest_area is not None:
            return draw_photo_views(draw_bits(ids, recipe.count, recipe.seed), self.shape, recipe)
        return draw_views(ids, recipe)

    def apply(self, batch: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Makes a view of each image; see `apply_view` and `apply_photo_view`."""
        if parameters.shape[-1] == PHOTO_WIDTH:
            return apply_photo_view(batch, parameters)
        return apply_view(batch, parameters)


def mirror(images: np.ndarray) -> np.ndarray:
    """Mirrors images, [batch, height, width, channels], from left to right."""
    return images[:, :, ::-1]


def draw_views(ids: np.ndarray, recipe: ViewRecipe) -> np.ndarray:
    """Draw the views of images, as a function of the id, the view's number and the recipe's seed only.

    Args:
        ids: [batch] of 16 hexadecimal digits, as bytes or text.
        recipe: Number of views, largest shift, mirroring and seed.

    Returns:
        [batch, recipe.count, 3] int16: dy, dx, mirrored (0 or 1). View 0 is (0, 0, 0), the image itself.

    Source:
        SplitMix64 generates the bits, see `draw_bits`.
    """
    bits = draw_bits(ids, recipe.count, recipe.seed)
    high_y, high_x = recipe.shift_pixels
    # The three numbers use disjoint bits; the bias of the modulo is below 1e-4 for shifts of up to 100,000 pixels.
    shift_y = (bits & np.uint64(0x7FFFFFFF)) % np.uint64(2 * high_y + 1)
    shift_x = (bits >> np.uint64(31) & np.uint64(0x7FFFFFFF)) % np.uint64(2 * high_x + 1)
    mirrored = bits >> np.uint64(63) if recipe.flip else np.zeros_like(bits)
    views = np.stack([shift_y.astype(np.int64) - high_y, shift_x.astype(np.int64) - high_x, mirrored], axis=-1)
    views[:, 0] = 0
    return views.astype(np.int16)


def apply_view(images: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
    """Make a view of each image; also works in a graph.

    Row i of a view is row reflect(i + dy) of the image, where reflect does not repeat the border (… 2 1 0 1 2 …), and
    likewise for columns by dx; then the view is mirrored from left to right if its third number is not 0.

    Args:
        images: [batch, height, width, channels], any dtype.
        views: [batch, 3] integers: dy, dx, mirrored; |dy| < height and |dx| < width.

    Returns:
        [batch, height, width, channels] of the same dtype.
    """
    images = tf.convert_to_tensor(images)
    views = tf.cast(views, tf.int32)
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    columns = tf.range(width)[tf.newaxis]
    columns = tf.where(views[:, 2:3] != 0, width - 1 - columns, columns)
    rows = _reflect(tf.range(height)[tf.newaxis] + views[:, 0:1], height)
    columns = _reflect(columns + views[:, 1:2], width)
    moved = tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(moved, images.shape)


def _reflect(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return size - 1 - tf.abs(size - 1 - tf.abs(index))
