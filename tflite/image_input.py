# SPDX-License-Identifier: Apache-2.0
"""What an image classifier's input takes: the layout of its tensor, and what each pixel value becomes in it.

What a file expects of pixels follows, in this order, from the caller's scaling, from the file's metadata, and from the
range of numbers that a quantized input covers. Only where none of them says anything are pixels taken as they are, and
that is recorded as an assumption. A quantized input takes round((pixel - mean) / std / scale) + zero_point.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import PRESETS, Scaling
from learn2compress.tflite.model_file import ModelFile, Tensor

INPUT_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32")
_FLOATS = ("float16", "float32")
IMAGE_CHANNELS = (1, 3)
# Of the range that a preset's pixels span, what a quantized input's range may differ from it to be said of it …
_SAME_RANGE = 0.06
# … and to be assumed of it: the images that a file was calibrated with may have had no black or no white.
_LIKE_RANGE = 0.3
_MOST_CLIPPED = 0.5  # share of the 256 pixel values
_FEWEST_VALUES = 32  # that are left of 256

Axes = Literal["nhwc", "nchw", "nhw", "flat", "flat chw"]


class Layout(NamedTuple):
    """How an input tensor holds images; None for each size that the model leaves open.

    Attributes:
        axes: Order of the axes; `flat` is one axis of rows of pixels, `flat chw` one of whole channels.
        batch: Number of images that one invocation takes.
    """

    height: int | None
    width: int | None
    channels: int | None
    axes: Axes
    batch: int = 1


def read_layout(shape: tuple[int | None, ...]) -> Layout | None:
    """Reads a layout off the shape of an input tensor with its batch, or None where it is none of an image."""
    if len(shape) == 3:
        return Layout(shape[1], shape[2], 1, "nhw")
    if len(shape) != 4:
        return None
    _, second, third, last = shape
    if second in IMAGE_CHANNELS and last not in (1, 3, 4) and (third is None or third > 4):
        return Layout(third, last, second, "nchw")
    return Layout(second, third, last, "nhwc")


class PixelReading(NamedTuple):
    """What each pixel value becomes.

    Attributes:
        scaling: Of pixels 0..255, before they are quantized.
        source: Where it comes from.
        said: The same in a sentence, for a reader.
        table: [256, channels] of the input's dtype, in the model's channel order.
        doubt: Why figures would be meaningless; empty if nothing speaks against them.
    """

    scaling: Scaling
    source: Literal["given", "metadata", "range", "assumed", "whole pixels"]
    said: str
    table: np.ndarray
    doubt: str = ""


def read_pixels(
    image: Tensor, channels: int, given: Scaling | None, described: Scaling | None, file: str
) -> PixelReading:
    """Settles what an input expects of pixels.

    Args:
        image: The input tensor.
        channels: Of its images.
        given: The caller's scaling.
        described: That of the file's metadata.
        file: What errors call it.

    Raises:
        ModelFileError: The scaling does not suit the channels, or the input cannot take it.
    """
    for scaling in (given, described):
        if scaling is not None and not scaling.suits(channels):
            raise ModelFileError(
                f"A scaling must have one mean and std, or one a channel ({channels}); got {scaling} for {file}. "
                "Correct the scaling."
            )
    if image.dtype not in _FLOATS and not image.quantized:
        return _whole_pixels(image, channels, given, file)
    if given is not None:
        return _read(image, channels, given, "given", f"pixels scaled as given ({_words(given)})")
    if described is not None:
        read = _read(image, channels, described, "metadata", f"pixels scaled as its metadata say ({_words(described)})")
        if not read.doubt:
            return read
    if not image.quantized:
        if described is not None:
            return read
        none = Scaling()
        return _read(image, channels, none, "assumed", "pixels 0..255 as they are: nothing in the file says otherwise")
    return _from_range(image, channels)


def _whole_pixels(image: Tensor, channels: int, given: Scaling | None, file: str) -> PixelReading:
    if given is not None and not given.is_identity:
        raise ModelFileError(
            f"--scaling must be none for {file}, which takes {image.dtype} pixels without a scale; got {given}. "
            "Measure it without --scaling."
        )
    if image.dtype == "int8":
        raise ModelFileError(
            f"An int8 input must have a scale and a zero point; {file} has none, so that it is not known how pixels "
            "0..255 enter. Convert it with quantization parameters at its input."
        )
    table = np.repeat(np.arange(256)[:, None], channels, axis=1).astype(image.dtype)
    return PixelReading(Scaling(), "whole pixels", f"pixels 0..255 as {image.dtype}", table)


def _from_range(image: Tensor, channels: int) -> PixelReading:
    """Finds the preset whose pixels span the numbers that a quantized input covers."""
    low, high = covered_range(image)
    presets = [(name, scaling) for name in PRESETS if (scaling := Scaling.named(name)).suits(channels)]
    ranked = sorted((_mismatch(image, scaling, channels), name, scaling) for name, scaling in presets if name)
    distance, name, scaling = ranked[0]
    said = f"pixels scaled as its input's range {low:.4g}..{high:.4g} says ({_words(scaling)})"
    read = _read(image, channels, scaling, "range", said)
    covered = f"its input's range {low:.4g}..{high:.4g}"
    alike = [other for mismatch, other, _ in ranked[1:] if mismatch <= max(2 * distance, _SAME_RANGE)]
    if alike:
        choice = " or ".join([name, *alike])
        return read._replace(
            doubt=f"its input's range {low:.4g}..{high:.4g} suits several scalings. Give --scaling {choice}"
        )
    if distance > _LIKE_RANGE:
        remedy = f"Give --scaling with one of {', '.join(PRESETS)}"
        return read._replace(
            doubt=f"its input's range {low:.4g}..{high:.4g} suits no known scaling of pixels. {remedy}"
        )
    if distance > _SAME_RANGE:
        return read._replace(
            source="assumed",
            said=f"pixels scaled as {_words(scaling)}, to which {covered} comes nearest",
        )
    return read


def covered_range(image: Tensor) -> tuple[float, float]:
    """Returns the lowest and the highest number that a quantized input can take."""
    limits = np.iinfo(image.dtype)
    scale, zero_point = image.scale[0], image.zero_point[0]
    return (limits.min - zero_point) * scale, (limits.max - zero_point) * scale


def _mismatch(image: Tensor, scaling: Scaling, channels: int) -> float:
    """Tells how far a preset's range lies from the covered one, as a share of its width."""
    low, high = covered_range(image)
    mean, std = (np.asarray(values) for values in scaling.for_channels(channels))
    least, most = float((-mean / std).min()), float(((255 - mean) / std).max())
    if image.dtype == "int16":
        # Its zero point is 0 by rule: only the largest magnitude says anything.
        most = max(-least, most)
        least = -most
    return max(abs(low - least), abs(high - most)) / (most - least)


def _read(image: Tensor, channels: int, scaling: Scaling, source: str, said: str) -> PixelReading:
    mean, std = (np.asarray(values) for values in scaling.for_channels(channels))
    real = (np.arange(256.0)[:, None] - mean) / std
    if not image.quantized:
        return PixelReading(scaling, source, said, real.astype(image.dtype))  # type: ignore[arg-type]
    limits = np.iinfo(image.dtype)
    quantized = np.rint(real / image.scale[0]) + image.zero_point[0]
    table = np.clip(quantized, limits.min, limits.max).astype(image.dtype)
    # Rounding may lead a step beyond an end of the range: only what is further away is lost.
    clipped = float(((quantized < limits.min - 1) | (quantized > limits.max + 1)).mean())
    low, high = covered_range(image)
    doubt = ""
    if clipped > _MOST_CLIPPED:
        doubt = (
            f"its input covers {low:.4g}..{high:.4g}, where a scaling of {_words(scaling)} clips {clipped:.0%} of the "
            "256 pixel values"
        )
    elif (left := len(np.unique(table[:, 0]))) < _FEWEST_VALUES:
        doubt = (
            f"its input covers {low:.4g}..{high:.4g}, where a scaling of {_words(scaling)} leaves {left} of the 256 "
            "pixel values apart"
        )
    if doubt:
        doubt += ". Measure it without --scaling" if source == "given" else ". Give --scaling"
    return PixelReading(scaling, source, said, table, doubt)  # type: ignore[arg-type]


def _words(scaling: Scaling) -> str:
    return scaling.name or str(scaling)


def image_layout(
    model: ModelFile, example_shape: tuple[int, ...] | None = None, channels_first: bool = False
) -> Layout:
    """Checks that a file takes images of a fixed size, and reads its layout.

    Args:
        model: The file.
        example_shape: Height, width and channels of the data's images, which those of a flattened input must be.
        channels_first: Whether a flattened input holds a channel after the other.

    Raises:
        ModelFileError: It takes something else.
    """
    tensor = model.input
    if len(tensor.shape) == 2 and tensor.dtype in INPUT_DTYPES:
        return _flat_layout(tensor, model.file, example_shape, channels_first)
    layout = read_layout(tensor.shape)
    fixed = all(side > 0 for side in tensor.shape_signature[1:])
    if layout is None or not fixed or tensor.dtype not in INPUT_DTYPES:
        raise ModelFileError(
            f"An image classifier must take [1, height, width, channels] of {', '.join(INPUT_DTYPES)}; got "
            f"{tensor.dtype} {list(tensor.shape_signature)} in {model.file}. "
            "Give a model that takes an image of a fixed size."
        )
    if layout.channels not in IMAGE_CHANNELS:
        raise ModelFileError(
            f"An image classifier must take 1 or 3 channels; got {layout.channels} in {model.file}, whose input is "
            f"{list(tensor.shape)}. Give a model that takes grey or colour images."
        )
    return layout._replace(batch=tensor.shape[0])


def _flat_layout(tensor: Tensor, file: str, example_shape: tuple[int, ...] | None, channels_first: bool) -> Layout:
    batch, length = tensor.shape
    if example_shape is None or math.prod(example_shape) != length:
        known = f"of {list(example_shape)}" if example_shape else "of several sizes"
        raise ModelFileError(
            f"An image classifier must take [1, height, width, channels], or the data's images flattened; got "
            f"{tensor.dtype} {list(tensor.shape)} in {file}, and images {known}. "
            "Measure it on images that are stored in the size and "
            "the channels that it takes, or convert it with the reshaping inside."
        )
    height, width, channels = example_shape
    return Layout(height, width, channels, "flat chw" if channels_first and channels > 1 else "flat", batch)


def describe_layout(layout: Layout, dtype: str) -> list[str]:
    """Says in words how images lie in an input of a type."""
    axes = {
        **{"nhwc": "channels last", "nchw": "channels first", "nhw": "without a channel axis"},
        **{"flat": "flattened row by row, channels last"},
    }
    said = [f"{dtype} images, {axes[layout.axes]}"]
    if layout.batch > 1:
        size = layout.batch
        said.append(
            f"in batches of {size}, the last one filled up: MACs, memory and latency are those of {size} images"
        )
    return said
