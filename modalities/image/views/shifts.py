# SPDX-License-Identifier: Apache-2.0
"""Makes views of small images: shifts with reflection, and mirroring. Pixels are moved and never interpolated.

A view is three integers: dy, dx, mirrored.
"""

import numpy as np
import tensorflow as tf

from learn2compress.modalities.draws import draw_bits
from learn2compress.schemas.manifests import ViewRecipe

WIDTH = 3


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
