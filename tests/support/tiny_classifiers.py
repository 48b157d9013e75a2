# SPDX-License-Identifier: Apache-2.0
"""Image classifiers of a few operators, written as .tflite files without a converter, and images for them.

A classifier tells classes by a weighted brightness b of the image in 0..1: its score of a class is -(b - level)^2, less
what is the same for all. It is linear in the pixels and has a bias, so that it is right under one scaling alone; its
weights differ from pixel to pixel and from channel to channel, so that it is right in one layout alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from learn2compress.data.raw_examples import ExampleSource, Piece, RawExample
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack
from learn2compress.tflite.transformations import metadata
from support.tflite_files import write_metadata

SIDE = 6
SHARPNESS = 60.0
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int16": 7, "int8": 9}
_CODES = {"DEQUANTIZE": 6, "FULLY_CONNECTED": 9, "LOGISTIC": 14, "RESHAPE": 22, "SOFTMAX": 25, "CAST": 53}


@dataclass(frozen=True)
class Tiny:
    """How a classifier is made.

    Attributes:
        scaling: What it expects of pixels.
        levels: Brightness of each output's class; of a single unit, where no turns into yes.
        end: Its last operator, or none.
        axes: Layout of its input: nhwc, nchw, nhw, or flattened: flat, and flat chw of whole channels.
        dtype: Type of its input.
        quantization: Scale and zero point of its input; None where pixels enter as they are.
        batch: Number of images that it takes at once.
    """

    scaling: Scaling = Scaling()  # noqa: RUF009
    levels: tuple[float, ...] = (0.1, 0.4, 0.6, 0.9)
    end: str | None = "SOFTMAX"
    axes: str = "nhwc"
    channels: int = 3
    dtype: str = "float32"
    quantization: tuple[float, int] | None = None
    batch: int = 1


def position_weights(channels: int) -> np.ndarray:
    """[SIDE, SIDE, channels], summing to 1: what each pixel counts for the brightness."""
    weights = np.arange(1.0, SIDE * SIDE + 1).reshape(SIDE, SIDE, 1) * np.array([5.0, 3.0, 1.0])[:channels]
    return weights / weights.sum()


def make_images(
    labels: np.ndarray, levels: Sequence[float] = Tiny.levels, channels: int = 3, seed: int = 0
) -> np.ndarray:
    """[n, SIDE, SIDE, channels] uint8 of the weighted brightness that tells each label, and otherwise noise."""
    rng = np.random.default_rng(seed)
    weights = position_weights(channels)
    images = rng.uniform(0, 255, (len(labels), SIDE, SIDE, channels))
    for image, label in zip(images, labels, strict=True):
        for _ in range(20):
            image += 255 * levels[label] - (image * weights).sum()
            np.clip(image, 0, 255, out=image)
    return np.rint(images).astype(np.uint8)


def make_tiny(tiny: Tiny) -> bytes:
    """Writes the file of a classifier."""
    kernel, bias = kernel_and_bias(tiny)
    units, flattened = len(bias), [tiny.batch, kernel.shape[1]]
    builder = _Builder()
    sides = {"nhwc": [SIDE, SIDE, tiny.channels], "nchw": [tiny.channels, SIDE, SIDE], "nhw": [SIDE, SIDE]}
    shape = [tiny.batch, *sides[tiny.axes]] if tiny.axes in sides else flattened
    image = builder.tensor("image", shape, tiny.dtype, quantization=tiny.quantization)
    last = image
    if tiny.dtype != "float32":
        last = builder.apply("CAST" if tiny.quantization is None else "DEQUANTIZE", [last], shape)
    flat = builder.constant("shape", np.array(flattened, np.int32), "int32")
    last = builder.apply("RESHAPE", [last, flat], flattened)
    weights = builder.constant("kernel", kernel.astype(np.float32), "float32")
    biases = builder.constant("bias", bias.astype(np.float32), "float32")
    last = builder.apply("FULLY_CONNECTED", [last, weights, biases], [tiny.batch, units])
    if tiny.end is not None:
        last = builder.apply(tiny.end, [last], [tiny.batch, units])
    return pack(builder.model(image, last))


def described(data: bytes, labels: Sequence[str], scaling: Scaling | None = None) -> bytes:
    """Adds metadata: labels and, where it is given, a normalization."""
    about = {"name": "Tiny", "description": "Tells brightness.", "labels": list(labels)}
    if scaling is not None:
        return write_metadata(data, **about, mean=scaling.mean, std=scaling.std)

    def without_normalization(*arguments: Any) -> dict[str, Any]:
        return {name: value for name, value in whole(*arguments).items() if name != "process_units"}

    whole = metadata._image_tensor
    with patch.object(metadata, "_image_tensor", without_normalization):
        return write_metadata(data, **about)


def plain_classes(data: bytes, tiny: Tiny, images: np.ndarray) -> np.ndarray:
    """[n] the outputs that are largest, by a plain interpreter loop with the preparation that the file expects."""
    mean, std = (np.asarray(values) for values in tiny.scaling.for_channels(tiny.channels))
    pixels = images.astype(np.float64)
    if tiny.scaling.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    inputs = (pixels - mean) / std
    if tiny.quantization is not None:
        scale, zero_point = tiny.quantization
        limits = np.iinfo(tiny.dtype)
        inputs = np.clip(np.rint(inputs / np.float32(scale)) + zero_point, limits.min, limits.max)
    if tiny.axes in ("nchw", "flat chw"):
        inputs = inputs.transpose(0, 3, 1, 2)
    inputs = inputs[..., 0] if tiny.axes == "nhw" else inputs
    inputs = inputs.reshape(len(inputs), -1) if tiny.axes.startswith("flat") else inputs
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    found = []
    for one in inputs.astype(tiny.dtype):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.repeat(one[None], tiny.batch, axis=0))
        interpreter.invoke()
        scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        threshold = 0.5 if tiny.end == "LOGISTIC" else 0.0
        found.append(int(scores[0] > threshold) if len(scores) == 1 else int(scores.argmax()))
    return np.array(found)


@dataclass(frozen=True)
class ArrayPiece(Piece):
    """Test images in memory."""

    images: np.ndarray
    labels: np.ndarray

    def read(self) -> Iterator[RawExample]:
        for index, (image, label) in enumerate(zip(self.images, self.labels, strict=True)):
            yield RawExample(f"test_images[{index}]", "test", int(label), image)


def source_of(images: np.ndarray, labels: np.ndarray, classes: Sequence[str], named: bool = True) -> ExampleSource:
    """Test images in memory as a source."""
    counts = {"test": len(labels)}
    return ExampleSource(tuple(classes), counts, images.shape[1:], [ArrayPiece(images, labels)], named=named)


def save_npz(path: Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Path:
    """Writes test images as a .npz file."""
    few = slice(0, 2 * len(classes))
    np.savez(path, train_images=images[few], train_labels=labels[few], test_images=images, test_labels=labels,
             class_names=np.array(classes))  # fmt: skip
    return path


def kernel_and_bias(tiny: Tiny) -> tuple[np.ndarray, np.ndarray]:
    """Computes the scores as a linear function of what enters the model, [units, inputs] and [units]."""
    mean, std = (np.asarray(values) for values in tiny.scaling.for_channels(tiny.channels))
    weights = position_weights(tiny.channels)
    if tiny.scaling.channel_order == "bgr":
        weights = weights[..., ::-1]
    # Pixels are std · input + mean, and the brightness is the weighted sum of pixels / 255.
    per_input, constant = weights * std / 255, float((weights * mean).sum() / 255)
    if tiny.axes in ("nchw", "flat chw"):
        per_input = per_input.transpose(2, 0, 1)
    levels = np.asarray(tiny.levels)
    slopes, offsets = (4 * np.ones(1), -4 * levels) if len(levels) == 1 else (2 * levels, -(levels**2))
    kernel = SHARPNESS * slopes[:, None] * per_input.reshape(1, -1)
    return kernel, SHARPNESS * (slopes * constant + offsets)


class _Builder:
    """A flatbuffer in the making: one subgraph of operators in a row."""

    def __init__(self) -> None:
        self._buffers = [schema.BufferT()]
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: list[str] = []

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, buffer: int = 0, quantization: tuple | None = None
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), _TYPES[dtype], buffer
        if quantization is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [quantization[0]], [quantization[1]]
        self._tensors.append(made)
        return len(self._tensors) - 1

    def constant(self, name: str, values: np.ndarray, dtype: str) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self.tensor(name, values.shape, dtype, len(self._buffers) - 1)

    def apply(self, name: str, inputs: Sequence[int], shape: Sequence[int]) -> int:
        output = self.tensor(name.lower(), shape, "float32")
        operator = schema.OperatorT()
        if name not in self._codes:
            self._codes.append(name)
        operator.opcodeIndex = self._codes.index(name)
        operator.inputs, operator.outputs = list(inputs), [output]
        if name == "FULLY_CONNECTED":
            operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            operator.builtinOptions = schema.FullyConnectedOptionsT()
        if name == "SOFTMAX":
            operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
            operator.builtinOptions = schema.SoftmaxOptionsT()
            operator.builtinOptions.beta = 1.0
        self._operators.append(operator)
        return output

    def model(self, image: int, scores: int) -> schema.ModelT:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self._tensors, self._operators, [image], [scores]
        made = schema.ModelT()
        made.version, made.subgraphs, made.buffers = 3, [graph], self._buffers
        made.operatorCodes = []
        for name in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = _CODES[name]
            code.version = 1
            made.operatorCodes.append(code)
        return made


def join_signatures(**files: bytes) -> bytes:
    """Joins files as one with a subgraph and a signature each, in that order."""
    joined: schema.ModelT | None = None
    for number, (name, data) in enumerate(files.items()):
        made = unpack(data)
        if joined is None:
            joined = made
            joined.signatureDefs = []
        else:
            for tensor in made.subgraphs[0].tensors:
                tensor.buffer += len(joined.buffers)
            for operator in made.subgraphs[0].operators:
                operator.opcodeIndex += len(joined.operatorCodes)
            joined.buffers += made.buffers
            joined.operatorCodes += made.operatorCodes
            joined.subgraphs += made.subgraphs
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = name.encode(), number
        signature.inputs = [_end("image", made.subgraphs[0].inputs)]
        signature.outputs = [_end("scores", made.subgraphs[0].outputs)]
        joined.signatureDefs.append(signature)
    return pack(joined)


def _end(name: str, tensors: Sequence[int]) -> schema.TensorMapT:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name.encode(), int(tensors[0])
    return made
