# SPDX-License-Identifier: Apache-2.0
"""Runs an image classifier from its .tflite bytes: scores for pixels, latency, memory.

Any classifier with one image in and one score a class out will do, whoever converted it: how pixels enter
follows from the file. A quantized input takes round((pixel - mean) / std / scale) + zero_point, so that uint8
with scale 1 takes the pixel itself and int8 with scale 1 and zero point -128 takes pixel - 128; a float input
takes (pixel - mean) / std. Mean and std are the caller's, or those of the file's metadata, or 0 and 1.

The runtime is ai-edge-litert, whose results are those of tf.lite. It trusts what it opens, so a file is checked
first: one cut short never reaches it. (Bytes changed so that all structure holds, such as an activation without its
scale, can still abort the process.)
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.metadata import read_metadata
from learn2compress.tflite.model_file import ModelFile, Tensor, read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

_INPUT_DTYPES = ("uint8", "int8", "int16", "float32")
_BATCH = 32
_ARENA_ALIGNMENT = 64  # of tensors in the runtime's arena (kDefaultTensorAlignment)


class Classifier:
    """An opened image classifier. Make one with `open_model`; it belongs to the thread that made it."""

    def __init__(self, parsed: ParsedFile, threads: int, pixels: np.ndarray) -> None:
        self.model = model = parsed.facts
        self.threads = threads
        self.input_shape: tuple[int, int, int] = model.input.shape[1:]  # type: ignore[assignment]
        self.classes: int = model.output.shape[1]
        self._data = parsed.to_bytes()
        self._pixels = pixels  # what each pixel value becomes, [256, channels]
        self._single = _Runner(self._data, model, threads, 1)
        self._batch: _Runner | None = None
        self._batches: bool | None = None

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the scores of images.

        Args:
            images: [n, height, width, channels] uint8.

        Returns:
            [n, classes] float32, dequantized: probabilities or logits, as the model has them.

        Raises:
            ModelFileError: the images do not have the model's shape, or the runtime fails on it.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.input_shape:
            raise ModelFileError(
                f"Images must be uint8 [n, {', '.join(map(str, self.input_shape))}]; got {images.dtype} "
                f"{list(images.shape)} for {self.model.file}. Resize them to the model's input."
            )
        inputs = self._to_input(images)
        scores = np.empty((len(images), self.classes), np.float32)
        runner = self._batch_runner() if len(images) > 1 else self._single
        for start in range(0, len(images), runner.size):
            part = inputs[start : start + runner.size]
            scores[start : start + len(part)] = self._to_scores(runner(part))
        return scores

    def predict_raw(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tensors that go in and come out for one image, as another runtime would have to see them.

        Args:
            image: [height, width, channels] uint8.

        Returns:
            [1, height, width, channels] of the input's dtype, and [1, classes] of the output's.
        """
        inputs = self._to_input(image[None])
        return inputs, self._single(inputs)

    def latency(self, repeats: int = 50, warmup: int = 5) -> np.ndarray:
        """Returns the milliseconds that each of `repeats` invocations on one image took, after a warm-up.

        The image is noise from a fixed seed; filling it in and reading the scores are not timed.
        """
        image = np.random.default_rng(0).integers(0, 256, (1, *self.input_shape), np.uint8)
        inputs = self._to_input(image)
        times = np.empty(warmup + repeats)
        for i in range(len(times)):
            # Filled in anew each time: the runtime may reuse the input's memory for other tensors.
            self._single.fill(inputs)
            start = time.perf_counter_ns()
            self._single.invoke()
            times[i] = time.perf_counter_ns() - start
        return times[warmup:] / 1e6

    def arena_bytes(self) -> int:
        """Returns the memory the runtime plans for activations: see the function `arena_bytes`."""
        return _arena_bytes(self._data, self.model)

    def _to_input(self, images: np.ndarray) -> np.ndarray:
        if (self._pixels != self._pixels[:, :1]).any():
            return self._pixels[images, np.arange(images.shape[-1])]
        table = self._pixels[:, 0]
        if table.itemsize > 1:
            return table[images]
        # Bytes to bytes: many times as fast as by index.
        return np.frombuffer(images.tobytes().translate(table.tobytes()), table.dtype).reshape(images.shape)

    def _to_scores(self, values: np.ndarray) -> np.ndarray:
        output = self.model.output
        if not output.quantized:
            return values.astype(np.float32)
        scale, zero_point = np.float32(output.scale[0]), np.float32(output.zero_point[0])
        return (values.astype(np.float32) - zero_point) * scale

    def _batch_runner(self) -> "_Runner":
        if self._batches is None:
            self._batch = self._open_batch()
            self._batches = self._batch is not None
        return self._batch or self._single

    def _open_batch(self) -> "_Runner | None":
        """Opens the model for many images at once, where it computes the same as for one at a time.

        A graph may hold its batch size in constants: the runtime refuses, or mixes images. So it is tried.
        """
        try:
            runner = _Runner(self._data, self.model, self.threads, _BATCH)
        except ModelFileError:
            return None
        probe = np.random.default_rng(0).integers(0, 256, (3, *self.input_shape), np.uint8)
        inputs = self._to_input(probe)
        try:
            together = self._to_scores(runner(inputs))
        except ModelFileError:
            return None
        alone = np.concatenate([self._to_scores(self._single(inputs[i : i + 1])) for i in range(len(inputs))])
        # Quantized kernels are exact; float ones may sum in another order.
        tolerance = 0.0 if self.model.output.quantized else 1e-5
        return runner if np.allclose(together, alone, rtol=10 * tolerance, atol=tolerance) else None


def open_model(
    source: ParsedFile | bytes | str | Path,
    *,
    threads: int = 1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    file: str | None = None,
) -> Classifier:
    """Opens an image classifier.

    Args:
        source: a .tflite file: parsed, its bytes or its path.
        threads: that the kernels may use.
        mean, std: the float model takes (pixel - mean) / std of pixels 0..255; one value, or one a channel.
            By default what the file's metadata say, or else the pixels as they are.
        file: what errors call it, unless it is parsed already; by default its path.

    Raises:
        ModelFileError: the file is unreadable, no image classifier (one input [1, height, width, channels],
            one output [1, classes]), or the runtime cannot run it.
    """
    if isinstance(source, str | Path):
        source, file = read_bytes(source), file or str(source)
    parsed = parse_file(source, file=file or "the model")
    image = _image_input(parsed.facts)
    _scores_output(parsed.facts)
    if mean is None or std is None:
        metadata = read_metadata(parsed, file=parsed.file)
        described = metadata is not None and metadata.mean and metadata.std
        mean, std = (metadata.mean, metadata.std) if described else ((0.0,), (1.0,))  # type: ignore[union-attr]
    return Classifier(parsed, threads, _pixel_table(image, mean, std, parsed.file))


def run_images(source: bytes | ParsedFile, inputs: np.ndarray, *, file: str = "the model") -> list[np.ndarray]:
    """Runs a model of one input and any outputs, an image at a time.

    Args:
        source: a .tflite file, parsed or its bytes.
        inputs: [n, ...] as the model takes them.
        file: what errors call it.

    Returns:
        For each output [n, ...], as the model gives them.

    Raises:
        ModelFileError: the runtime cannot run it.
    """
    parsed = parse_file(source, file=file)
    model = parsed.facts
    interpreter = _open(parsed.to_bytes(), model, 1, OpResolverType.AUTO)
    found: list[list[np.ndarray]] = [[] for _ in model.outputs]
    for image in inputs:
        interpreter.set_tensor(model.input.index, image[None])
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise _refused(parsed.file, error) from error
        for values, tensor in zip(found, model.outputs, strict=True):
            values.append(interpreter.get_tensor(tensor.index)[0])
    return [np.stack(values) for values in found]


def activation_bytes(model: ModelFile) -> int:
    """Returns the memory the activations need at once: the largest sum of tensors that are alive together.

    A tensor is alive from the operator that writes it to the last that reads it; inputs from the start,
    outputs to the end. Tensors are rounded up as in the runtime's arena. It is what a perfect plan needs
    without computing in place.
    """
    tensors = [tensor for tensor in model.tensors if tensor.subgraph == 0]
    operators = [operator for operator in model.operators if operator.subgraph == 0]
    first: dict[int, int] = {tensor.index: -1 for tensor in model.inputs}
    last: dict[int, int] = {tensor.index: len(operators) for tensor in model.outputs}
    for step, operator in enumerate(operators):
        for i in operator.outputs:
            first.setdefault(i, step)
            last.setdefault(i, step)
        for i in operator.inputs:
            last[i] = max(step, last.get(i, step))
    alive = [
        sum(
            -(-tensors[i].bytes // _ARENA_ALIGNMENT) * _ARENA_ALIGNMENT
            for i in first
            if first[i] <= step <= last.get(i, -1) and not tensors[i].constant
        )
        for step in range(-1, len(operators))
    ]
    return max(alive, default=0)


def arena_bytes(parsed: ParsedFile) -> int:
    """Returns the bytes of the arena that the runtime's own memory planner lays out for one image.

    The runtime does not report it. Its planner has placed every activation after `allocate_tensors`, so the
    arena is the distance from the first activation's address to the end of the last one. Measured with the
    reference kernels, which need no scratch memory of their own: optimized kernels and delegates add to it
    what they like. Where activations do not lie in one arena (sizes known only while running),
    `activation_bytes` stands in.
    """
    return _arena_bytes(parsed.to_bytes(), parsed.facts)


def _arena_bytes(data: bytes, model: ModelFile) -> int:
    interpreter = _open(data, model, 1, OpResolverType.BUILTIN_REF)
    planned = [t for t in model.tensors if t.subgraph == 0 and not t.constant and t.bytes]
    spans = []
    for tensor in planned:
        try:
            start = interpreter.tensor(tensor.index)().__array_interface__["data"][0]
        except ValueError:
            # No memory yet: a tensor of unknown size, or one nothing computes.
            continue
        spans.append((start, start + tensor.bytes))
    if not spans:
        return 0
    span = max(stop for _, stop in spans) - min(start for start, _ in spans)
    most = sum(tensor.bytes + _ARENA_ALIGNMENT for tensor in planned)
    return span if span <= most else activation_bytes(model)


class _Runner:
    """The runtime, opened for a fixed number of images; fewer may be given."""

    def __init__(self, data: bytes, model: ModelFile, threads: int, size: int) -> None:
        self.size = size
        self._file = model.file
        self._interpreter = _open(data, model, threads, OpResolverType.AUTO, None if size == 1 else size)
        self._input, self._output = model.input.index, model.output.index

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """[n, height, width, channels] of the input's dtype -> [n, classes] of the output's."""
        count = len(inputs)
        if count < self.size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], self.size - count, axis=0)])
        self.fill(inputs)
        self.invoke()
        try:
            outputs = self._interpreter.get_tensor(self._output)
        except ValueError as error:
            raise _refused(self._file, error) from error
        if outputs.ndim != 2 or len(outputs) != self.size:
            raise ModelFileError(
                f"A model must give scores for each image; got {list(outputs.shape)} for {self.size} images "
                f"from {self._file}. Convert it with a free batch dimension."
            )
        return outputs[:count]

    def fill(self, inputs: np.ndarray) -> None:
        self._interpreter.set_tensor(self._input, inputs)

    def invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise _refused(self._file, error) from error


def _open(
    data: bytes, model: ModelFile, threads: int, kernels: OpResolverType, batch: int | None = None
) -> Interpreter:
    try:
        interpreter = Interpreter(model_content=data, num_threads=threads, experimental_op_resolver_type=kernels)
        if batch is not None:
            interpreter.resize_tensor_input(model.input.index, (batch, *model.input.shape[1:]))
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _refused(model.file, error) from error
    return interpreter


def _refused(file: str, error: Exception) -> ModelFileError:
    reason = " ".join(str(error).split())
    return ModelFileError(
        f"A model must run on TensorFlow Lite's built-in operators; got {file}, of which the runtime says: "
        f"{reason} Convert it for built-in operators."
    )


def _image_input(model: ModelFile) -> Tensor:
    tensor = model.input
    fixed = all(side > 0 for side in tensor.shape_signature[1:])
    if len(tensor.shape) != 4 or tensor.shape[0] != 1 or not fixed or tensor.dtype not in _INPUT_DTYPES:
        raise ModelFileError(
            f"An image classifier must take [1, height, width, channels] of {', '.join(_INPUT_DTYPES)}; got "
            f"{tensor.dtype} {list(tensor.shape_signature)} in {model.file}. "
            "Give a model that takes an image of a fixed size."
        )
    return tensor


def _scores_output(model: ModelFile) -> Tensor:
    tensor = model.output
    if len(tensor.shape) != 2 or tensor.shape[0] != 1 or tensor.shape[1] < 2:
        raise ModelFileError(
            f"An image classifier must give [1, classes]; got {tensor.dtype} {list(tensor.shape)} in "
            f"{model.file}. Give a model with one score a class."
        )
    return tensor


def _pixel_table(image: Tensor, mean: Sequence[float], std: Sequence[float], file: str) -> np.ndarray:
    """Returns what each pixel value becomes in each channel, [256, channels] of the input's dtype."""
    channels = image.shape[3]
    if len(mean) not in (1, channels) or len(std) not in (1, channels) or 0 in std:
        raise ModelFileError(
            f"A scaling must have one mean and std, or one a channel ({channels}), with std not 0; got mean "
            f"{list(mean)} and std {list(std)} for {file}. Correct the scaling."
        )
    pixels = np.repeat(np.arange(256.0)[:, None], channels, axis=1)
    real = (pixels - np.asarray(mean)) / np.asarray(std)
    if not image.quantized:
        if image.dtype == "float32":
            return real.astype(np.float32)
        # Integers without a scale, as a model with pre-processing of its own takes them: the pixels.
        return pixels.astype(image.dtype)
    limits = np.iinfo(image.dtype)
    quantized = np.rint(real / image.scale[0]) + image.zero_point[0]
    return np.clip(quantized, limits.min, limits.max).astype(image.dtype)
