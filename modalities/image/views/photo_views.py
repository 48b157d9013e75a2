# SPDX-License-Identifier: Apache-2.0
"""Makes views that suit photographs: a random part of the image at full size, mirrored, with mildly changed colours.

A view is eight integers, stored with the teacher's logits: top, left, height and width of the part in pixels, whether
it is mirrored, and brightness, contrast and saturation in units of 1/256. The part is scaled to the size of the image
(bilinear), so that the teacher sees it at its own size; students see the same pixels, reduced to theirs.
"""

import numpy as np
import tensorflow as tf

from learn2compress.schemas.manifests import ViewRecipe

WIDTH = 8
_UNIT = 256  # integer that stands for an unchanged brightness, contrast or saturation
_ASPECT = 4 / 3  # largest ratio of the sides of a part, relative to that of the image
_LUMA = (0.299, 0.587, 0.114)


def draw_photo_views(numbers: np.ndarray, shape: tuple[int, int, int], recipe: ViewRecipe) -> np.ndarray:
    """Draw the parameters of views from random bits.

    Args:
        numbers: [batch, views] uint64 random bits, a function of the image's id, the view's number and the seed.
        shape: (height, width, channels) of the images.
        recipe: Smallest area of a part, strength of the colour changes, mirroring.

    Returns:
        [batch, views, 8] int16; view 0 is the image itself.
    """
    height, width, channels = shape
    uniform = _uniforms(numbers)  # [8, batch, views]
    area = (recipe.smallest_area or 1.0) + uniform[0] * (1 - (recipe.smallest_area or 1.0))
    aspect = _ASPECT ** (2 * uniform[1] - 1)
    part_height = np.clip(np.rint(height * np.sqrt(area / aspect)), 1, height)
    part_width = np.clip(np.rint(width * np.sqrt(area * aspect)), 1, width)
    top = np.floor(uniform[2] * (height - part_height + 1))
    left = np.floor(uniform[3] * (width - part_width + 1))
    mirrored = uniform[4] < 0.5 if recipe.flip else np.zeros_like(top)
    factors = [_UNIT * (1 + recipe.colour * (2 * uniform[5 + i] - 1)) for i in range(3)]
    if channels == 1:
        factors[2] = np.full_like(top, _UNIT)
    views = np.stack([top, left, part_height, part_width, mirrored, *map(np.rint, factors)], axis=-1)
    views[:, 0] = (0, 0, height, width, 0, _UNIT, _UNIT, _UNIT)
    return views.astype(np.int16)


# Compiled, since single operations on so many pixels would each allocate their result.
@tf.function(autograph=False, reduce_retracing=True)
def apply_photo_view(images: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
    """Make a view of each image; also works within a graph.

    Args:
        images: [batch, height, width, channels] uint8.
        views: [batch, 8] integers, see `draw_photo_views`.

    Returns:
        [batch, height, width, channels] uint8.
    """
    images = tf.convert_to_tensor(images)
    sides = tf.cast(tf.shape(images)[1:3], tf.float32)
    values = tf.cast(views, tf.float32)
    top, left, height, width = (values[:, index] for index in range(4))
    low, high = left / (sides[1] - 1), (left + width - 1) / (sides[1] - 1)
    mirrored = values[:, 4] != 0
    boxes = tf.stack(
        [
            top / (sides[0] - 1),
            tf.where(mirrored, high, low),
            (top + height - 1) / (sides[0] - 1),
            tf.where(mirrored, low, high),
        ],
        axis=1,
    )
    parts = tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), tf.shape(images)[1:3])
    changed = _change_colours(parts, values[:, 5:] / _UNIT)
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(changed), 0.0, 255.0), tf.uint8), images.shape)


def _change_colours(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Multiply saturation, contrast around middle grey, and brightness of images by factors, [batch, 3]."""
    brightness, contrast, saturation = (factors[:, index, None, None, None] for index in range(3))
    scale = brightness * contrast
    added = 127.5 * (brightness - scale)
    if images.shape[-1] != 3:
        return scale * images + added
    # Of the pixel and its grey, which is one number: few passes over the pixels, most of the time of a view.
    red, green, blue = (images[..., index : index + 1] for index in range(3))
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return scale * saturation * images + (scale * (1 - saturation) * grey + added)


def _uniforms(numbers: np.ndarray) -> np.ndarray:
    """Derive eight uniform numbers in [0, 1) from each number of 64 random bits, [8, *numbers.shape] float64."""
    found = []
    for index in range(WIDTH):
        bits = numbers + np.uint64((index * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found.append(((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53)
    return np.stack(found)
