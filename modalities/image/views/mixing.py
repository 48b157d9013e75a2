# SPDX-License-Identifier: Apache-2.0
"""Mixes two images: every second view is mostly the image itself, and partly its partner.

A teacher knows its training images by heart, so that its logits on them say little more than their labels; on a mix
they tell what it sees in it (mixup, Zhang et al., 1710.09412; function matching, Beyer et al., 2106.05237). The partner
is the image behind it in its shard, where images are in random order. The share is stored with the logits, in units of
1/256, and the mix is computed in integers: the pixels are the same bytes for the teacher and for the students.
"""

import numpy as np
import tensorflow as tf

WHOLE = 256  # share of an image that is not mixed
_LEAST = 128  # smallest share of the image in a mix
_STREAM = 0x6D69786573  # added to the seed, since the bits of the seed itself draw the other parameters


def mixing_seed(seed: int) -> int:
    """Computes the seed of the shares from that of the views."""
    return seed ^ _STREAM


def draw_shares(bits: np.ndarray) -> np.ndarray:
    """Draws the share of each image in its views: 256, and from 128 to 255 in views 1, 3, 5, …

    Args:
        bits: [images, views] uint64 random bits, a function of the image's id, the view's number and the seed.

    Returns:
        [images, views, 1] int16.
    """
    shares = np.full(bits.shape, WHOLE, np.int16)
    shares[:, 1::2] = _LEAST + bits[:, 1::2] % np.uint64(WHOLE - _LEAST)
    return shares[..., np.newaxis]


def mix(images: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Mixes images with others; also works in a graph.

    Args:
        images: [batch, height, width, channels] uint8.
        partners: The other images, of the same shape and type.
        shares: [batch] integers, the share of `images` in units of 1/256.

    Returns:
        [batch, height, width, channels] uint8: the weighted mean, with halves rounded up.
    """
    share = tf.cast(shares, tf.int32)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    total = share * tf.cast(images, tf.int32) + (WHOLE - share) * tf.cast(partners, tf.int32)
    return tf.cast((total + WHOLE // 2) // WHOLE, tf.uint8)
