# SPDX-License-Identifier: Apache-2.0
"""Reads the input of an image classifier, and converts pixels 0..255 to its tensor."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from learn2compress.modalities.protocol import InputFiles
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import PRESETS, Scaling

# Size of probe images if neither the model nor the data determine it.
PROBE_SIDE = 96
_WHOLE_DTYPES = (tf.uint8, tf.int32, tf.int64)
# A batch of this many numbers keeps a large model's activations within a few hundred megabytes.
_BATCH_NUMBERS = 1_000_000

Shape = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class ImageTeacherInput:
    """Implements `TeacherInput` for images.

    Attributes:
        path: Path of the model, for error messages.
        name: Name of the input.
        batch: Fixed batch size; None if any size is accepted.
        shape: (height, width, channels), with None for each that the model leaves open.
        has_channel_axis: Whether the tensor is [batch, height, width, channels]; otherwise [batch, height, width].
        dtype: Type of the input tensor.
    """

    path: Path
    name: str
    batch: int | None
    shape: Shape
    has_channel_axis: bool
    dtype: tf.DType

    def batch_size(self, shape: tuple[int, ...]) -> int:
        """Returns at most 256 images, fewer of large ones."""
        return int(np.clip(_BATCH_NUMBERS // max(1, int(np.prod(shape))), 8, 256))

    def as_tensor(self, batch: np.ndarray) -> tf.Tensor:
        """Converts pixels to a tensor: uint8 unchanged, other types as float32."""
        return tf.constant(batch, tf.uint8 if batch.dtype == np.uint8 else tf.float32)

    def prepare(self, batch: tf.Tensor, scaling: Scaling, resize: bool) -> tf.Tensor:
        """Converts pixels 0..255 to the input of the model."""
        height, width, _ = self.shape
        images = batch
        if resize and height is not None and width is not None and tuple(images.shape[1:3]) != (height, width):
            # Smoothing matters only when an image is reduced, and TensorFlow Lite supports plain resizing only.
            sides = zip((height, width), images.shape[1:3], strict=True)
            smaller = any(own is None or wanted < own for wanted, own in sides)
            images = tf.image.resize(images, (height, width), antialias=smaller)
        if self.dtype.is_integer:
            # Pixels of a view may be fractional, but the model expects integers.
            if images.dtype.is_floating:
                images = tf.clip_by_value(tf.round(images), 0.0, 255.0)
            images = tf.cast(images, self.dtype)
        else:
            images = tf.cast(images, tf.float32)
            if scaling.channel_order == "bgr":
                images = tf.reverse(images, axis=[-1])
            if not scaling.is_identity:
                images = (images - tf.constant(scaling.mean)) / tf.constant(scaling.std)
            images = tf.cast(images, self.dtype)
        return images if self.has_channel_axis else tf.squeeze(images, axis=-1)

    def arguments(self, prepared: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names the one input."""
        return {self.name: prepared}

    def check_scaling(self, scaling: Scaling) -> None:
        """Raises TeacherError for a scaling of pixels if the model takes integers."""
        if self.dtype.is_integer and not scaling.is_identity:
            raise TeacherError(
                f"teacher.scaling must be none for teacher {self.path}, which takes {self.dtype.name} pixels; "
                f"got {scaling}. Set teacher.scaling: none."
            )

    def check_examples(self, shape: tuple[int, ...], scaling: Scaling, resize: bool) -> None:
        """Raises TeacherError if the examples are no images, or have other channels or another size than the input."""
        if len(shape) != 3:
            raise TeacherError(
                f"images for teacher {self.path} must be [batch, height, width, channels]; got "
                f"{1 + len(shape)} dimensions. Give grey images a last dimension of 1."
            )
        height, width, channels = self.shape
        if channels not in (None, shape[2]):
            kind = {1: "grey", 3: "colour"}
            raise TeacherError(
                f"images must have the {channels} channel(s) that teacher {self.path} takes; "
                f"got {shape[2]}, {kind.get(shape[2], 'other')} images for a "
                f"{kind.get(channels or 0, 'other')} model. "
                f"Set data.channels: {channels}, or use a teacher of such images."
            )
        self._check_channels(scaling, shape[2])
        if resize:
            return
        if height not in (None, shape[0]) or width not in (None, shape[1]):
            raise TeacherError(
                f"images must be {height or 'any'}x{width or 'any'}, as teacher {self.path} takes them; got "
                f"{shape[0]}x{shape[1]}. Set data.height: {height or shape[0]} and data.width: "
                f"{width or shape[1]}, or teacher.resize: true to resize for the teacher alone."
            )

    def other_scalings(self, shape: tuple[int, ...], scaling: Scaling) -> Iterator[Scaling]:
        """Lists the presets that suit the channels; none for a model that takes integers."""
        if self.dtype.is_integer:
            return
        for name in PRESETS:
            other = Scaling.named(name)
            if other != scaling and other.suits(shape[-1]):
                yield other

    def probes(self, count: int, shape: tuple[int, ...] | None, scaling: Scaling) -> np.ndarray:
        """Draws images of all brightnesses and contrasts, none of them uniform."""
        defaults = (PROBE_SIDE, PROBE_SIDE, 3)
        sides = zip(self.shape, shape or (None, None, None), defaults, strict=True)
        height, width, channels = (own or data or default for own, data, default in sides)
        self._check_channels(scaling, channels)
        return _probe_images(count, (height, width, channels))

    def failure(self, probes: np.ndarray, reason: str) -> TeacherError:
        """Makes the error of a model that fails on images."""
        return TeacherError(
            f"teacher {self.path} must answer images of shape {list(probes.shape[1:])}; got: {reason}. "
            "Check the model with the library that saved it, and the size of the data's images."
        )

    def _check_channels(self, scaling: Scaling, channels: int) -> None:
        if not scaling.suits(channels):
            raise TeacherError(
                f"teacher.scaling must suit images of {channels} channel(s) for teacher {self.path}; got {scaling}. "
                "Give one mean and std, or one for each channel."
            )


def read_image_input(path: Path, specs: Mapping[str, tf.TensorSpec], files: InputFiles) -> ImageTeacherInput:
    """Reads the input of a model from its signature.

    Args:
        path: Path of the model, for error messages.
        specs: Shape, including the batch, and type of each input tensor by name.
        files: Files beside the model; a model of images needs none.

    Raises:
        TeacherError: The model takes no images, encoded images, or images with channels first, or has several inputs.
    """
    for field in ("tokenizer", "vocabulary"):
        if getattr(files, field) is not None:
            raise TeacherError(
                f"teacher.{field} must be left out for a teacher of images; got {getattr(files, field)}. Remove it, or "
                "set data.modality: text."
            )
    if len(specs) != 1:
        raise TeacherError(
            f"teacher {path} must have images as its one input; got {len(specs)} inputs: "
            f"{', '.join(sorted(specs)) or 'none'}. "
            "Export a SavedModel whose signature takes the images alone and fixes the others."
        )
    [(name, spec)] = specs.items()
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    batch, sides, has_channels = _read_shape(path, shape)
    return ImageTeacherInput(path, name, batch, sides, has_channels, _check_dtype(path, spec.dtype))


def _read_shape(path: Path, shape: tuple[int | None, ...] | None) -> tuple[int | None, Shape, bool]:
    """Reads the batch size, (height, width, channels), and whether there is a channel axis."""
    if shape is None:
        return None, (None, None, None), True
    if len(shape) == 3:
        return shape[0], (shape[1], shape[2], 1), False
    if len(shape) != 4:
        raise TeacherError(
            f"teacher {path} must take images [batch, height, width, channels]; got an input of shape "
            f"{_shape_text(shape)}. Put the reshaping inside the model and export it again."
        )
    batch, second, third, last = shape
    if second in (1, 3) and last not in (1, 3, 4) and (third is None or third > 4):
        raise TeacherError(
            f"teacher {path} must take images with channels last; got {_shape_text(shape)}, channels first. "
            "Export it with tf.transpose(images, [0, 3, 1, 2]) in front."
        )
    return batch, (second, third, last), True


def _check_dtype(path: Path, dtype: tf.DType) -> tf.DType:
    if not (dtype.is_floating or dtype in _WHOLE_DTYPES):
        what = "encoded images or other strings" if dtype == tf.string else dtype.name
        raise TeacherError(
            f"teacher {path} must take pixels as floats or as whole numbers 0..255; got an input of {what}. "
            "Export it with a signature that takes decoded pixels."
        )
    return dtype


def _probe_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(count, *shape))
    slopes = rng.normal(size=(count, 2, 1, 1, shape[2]))
    rows = np.linspace(-1, 1, shape[0])[:, None, None]
    columns = np.linspace(-1, 1, shape[1])[None, :, None]
    contrast = np.linspace(8, 80, count)[:, None, None, None]
    brightness = rng.uniform(48, 208, size=(count, 1, 1, 1))
    images = brightness + contrast * (noise + slopes[:, 0] * rows + slopes[:, 1] * columns)
    return np.clip(images, 0, 255).astype(np.uint8)


def _shape_text(shape: Any) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
