# SPDX-License-Identifier: Apache-2.0
"""From pixels as the data has them to what a model takes, and any number of them at a time."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from learn2compress.compression.teacher.models import OpenedModel
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import Scaling


def prepare(opened: OpenedModel, scaling: Scaling, resize: bool, images: tf.Tensor) -> tf.Tensor:
    """Turn pixels 0..255 into what a model takes."""
    height, width, _ = opened.image_shape
    if resize and height is not None and width is not None and tuple(images.shape[1:3]) != (height, width):
        # Where nothing is made smaller there is nothing to smooth, and TensorFlow Lite knows plain resizing only.
        sides = zip((height, width), images.shape[1:3], strict=True)
        smaller = any(own is None or wanted < own for wanted, own in sides)
        images = tf.image.resize(images, (height, width), antialias=smaller)
    if opened.dtype.is_integer:
        # Views of an image may be fractional; the model was made for whole pixels.
        if images.dtype.is_floating:
            images = tf.clip_by_value(tf.round(images), 0.0, 255.0)
        images = tf.cast(images, opened.dtype)
    else:
        images = tf.cast(images, tf.float32)
        if scaling.channel_order == "bgr":
            images = tf.reverse(images, axis=[-1])
        if not scaling.is_identity:
            images = (images - tf.constant(scaling.mean)) / tf.constant(scaling.std)
        images = tf.cast(images, opened.dtype)
    return images if opened.has_channel_axis else tf.squeeze(images, axis=-1)


def in_batches(call: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor, batch: int | None) -> tf.Tensor:
    """Call a model of a fixed batch on any number of images, the last group filled up with zeros."""
    if batch is None:
        return tf.cast(call(inputs), tf.float32)
    count = tf.shape(inputs)[0]
    sizes = inputs.shape[1:]
    padding = [[0, tf.math.floormod(-count, batch)], *([0, 0] for _ in sizes)]
    groups = tf.reshape(tf.pad(inputs, padding), tf.concat([[-1, batch], tf.shape(inputs)[1:]], axis=0))
    groups = tf.ensure_shape(groups, [None, batch, *sizes])
    answers = tf.map_fn(
        lambda group: tf.cast(call(group), tf.float32),
        groups,
        fn_output_signature=tf.TensorSpec(None, tf.float32),
    )
    answers = tf.reshape(answers, tf.concat([[-1], tf.shape(answers)[2:]], axis=0))
    return answers[:count]


def check_scaling(path: Path, opened: OpenedModel, scaling: Scaling) -> None:
    """Refuse to scale pixels for a model that takes whole ones (TeacherError)."""
    if opened.dtype.is_integer and not scaling.is_identity:
        raise TeacherError(
            f"teacher.scaling must be none for teacher {path}, which takes {opened.dtype.name} pixels; "
            f"got {scaling}. Set teacher.scaling: none."
        )


def check_scaling_channels(path: Path, scaling: Scaling, channels: int) -> None:
    """Refuse a scaling that is for another number of channels (TeacherError)."""
    if not scaling.suits(channels):
        raise TeacherError(
            f"teacher.scaling must suit images of {channels} channel(s) for teacher {path}; got {scaling}. "
            "Give one mean and std, or one for each channel."
        )
