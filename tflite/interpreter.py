# SPDX-License-Identifier: Apache-2.0
"""Runs an image classifier from its .tflite bytes: scores for pixels, latency, memory.

Any classifier with images in and one score a class out will do, whoever converted it: how pixels enter is settled in
image_input.py, and what comes out in scores_output.py.

The runtime is ai-edge-litert, whose results are those of tf.lite. It trusts what it opens, so a file is checked
first: one cut short never reaches it. (Bytes changed so that all structure holds, such as an activation without its
scale, can still abort the process.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from learn2compress.schemas.errors import ConfigError, ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.image_input import Layout, PixelReading, describe_layout, image_layout, read_pixels
from learn2compress.tflite.metadata import ModelMetadata, read_metadata
from learn2compress.tflite.model_file import ModelFile, read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, choose_signature, in_front, parse_file
from learn2compress.tflite.scores_output import ScoresReading, read_output, spread_unit

BATCH = 32
_BATCH_BYTES = 8 << 20  # of activations of a batch; larger images run in smaller batches
_PROBES = 16
_PROBED = 3  # images by which a batch is compared with single images
_ARENA_ALIGNMENT = 64  # of tensors in the runtime's arena (kDefaultTensorAlignment)


class Classifier:
    """An opened image classifier. Make one with `open_model`; it belongs to the thread that made it."""

    def __init__(
        self,
        parsed: ParsedFile,
        threads: int,
        layout: Layout,
        pixels: PixelReading,
        scores: ScoresReading,
        labels: tuple[str, ...] = (),
        lost_labels: str = "",
    ) -> None:
        self.model = model = parsed.facts
        self.lost_labels, self.threads = lost_labels, threads
        self.layout, self.pixels, self.scores, self.labels = layout, pixels, scores, labels
        self.input_shape: tuple[int, int, int] = (layout.height, layout.width, layout.channels)  # type: ignore[assignment]
        self.classes: int = scores.classes
        self._order: tuple[int, ...] | None = None
        self._data, self._table = parsed.to_bytes(), pixels.table
        self._single = Runner(self._data, model, threads, layout.batch, scores)
        self._batch: Runner | None = None
        self._batches: bool | None = None
        self._probability: bool | None = None
        if layout.batch > 1:
            self._check_independence()

    @property
    def read_as(self) -> tuple[str, ...]:
        """How images enter the file, in sentences."""
        return (*describe_layout(self.layout, self.model.input.dtype), self.pixels.said)

    def order_outputs(self, order: Sequence[int]) -> None:
        """From now on, scores are those of the named outputs, in that order."""
        self._order = tuple(order)
        self.classes = len(self._order)

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
        scores = np.empty((len(images), self.scores.classes), np.float32)
        runner = self._batch_runner() if len(images) > 1 else self._single
        for start in range(0, len(images), runner.size):
            part = self._to_input(images[start : start + runner.size])
            scores[start : start + len(part)] = self._to_classes(self._to_scores(runner(part)))
        return scores if self._order is None else scores[:, self._order]

    def predict_raw(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tensors that go in and come out for one image, as another runtime would have to see them.

        Args:
            image: [height, width, channels] uint8.

        Returns:
            One image of the input's dtype and layout, and [1, classes] of the output's dtype.
        """
        inputs = self._to_input(image[None])
        return inputs, self._single(inputs)

    def latency(self, repeats: int = 50, warmup: int = 5) -> np.ndarray:
        """Returns the milliseconds that each of `repeats` invocations took, after a warm-up.

        An invocation is on one image, or on the batch that the file is fixed to. The image is noise from a fixed seed;
        filling it in and reading the scores are not timed.
        """
        image = np.random.default_rng(0).integers(0, 256, (self.layout.batch, *self.input_shape), np.uint8)
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
        return planned_arena(self._data, self.model)

    def _to_input(self, images: np.ndarray) -> np.ndarray:
        if self.pixels.scaling.channel_order == "bgr":
            images = images[..., ::-1]
        values = self._look_up(np.ascontiguousarray(images))
        if self.layout.axes in ("nchw", "flat chw"):
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        if self.layout.axes.startswith("flat"):
            return values.reshape(len(values), -1)
        return values[..., 0] if self.layout.axes == "nhw" else values

    def _look_up(self, images: np.ndarray) -> np.ndarray:
        if (self._table != self._table[:, :1]).any():
            return self._table[images, np.arange(images.shape[-1])]
        table = self._table[:, 0]
        if table.itemsize > 1:
            return table[images]
        # Bytes to bytes: many times as fast as by index.
        return np.frombuffer(images.tobytes().translate(table.tobytes()), table.dtype).reshape(images.shape)

    def _to_scores(self, values: np.ndarray) -> np.ndarray:
        output = self.scores.tensor
        if not output.quantized:
            return values.astype(np.float32)
        scale, zero_point = np.float32(output.scale[0]), np.float32(output.zero_point[0])
        return (values.astype(np.float32) - zero_point) * scale

    def _to_classes(self, values: np.ndarray) -> np.ndarray:
        """Makes scores of two classes of a single unit."""
        return spread_unit(values, self._is_probability()) if self.scores.units == 1 else values

    def _is_probability(self) -> bool:
        """Tells whether a single unit is a probability: by its operator, else by its numbers for some noise."""
        if self._probability is None:
            self._probability = self.scores.kind == "sigmoid"
            if self.scores.kind == "unknown":
                noise = np.random.default_rng(0).integers(0, 256, (_PROBES, *self.input_shape), np.uint8)
                inputs = self._to_input(noise)
                values = np.concatenate([self._to_scores(self._single(inputs[i : i + 1])) for i in range(_PROBES)])
                self._probability = bool(values.min() >= 0 and values.max() <= 1)
        return self._probability

    def _check_independence(self) -> None:
        """Raises ModelFileError if an image's scores in a fixed batch depend on the other images or on its place."""
        noise = np.random.default_rng(0).integers(0, 256, (self.layout.batch, *self.input_shape), np.uint8)
        inputs = self._to_input(noise)
        together = self._to_scores(self._single(inputs))
        alone = np.concatenate([self._to_scores(self._single(inputs[i : i + 1])) for i in range(len(inputs))])
        if not np.allclose(together, alone, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ModelFileError(
                f"A model must give scores of each image by itself; {self.model.file} mixes the {self.layout.batch} "
                "images of its batch. Convert it again with a batch of 1 or a free one."
            )

    def _batch_runner(self) -> Runner:
        if self.layout.batch > 1:
            return self._single
        if self._batches is None:
            self._batch = self._open_batch()
            self._batches = self._batch is not None
        return self._batch or self._single

    def _batch_size(self) -> int:
        """Computes how many images run at a time; a batch has the three of the probe at least."""
        return max(_PROBED, min(BATCH, _BATCH_BYTES // max(1, activation_bytes(self.model))))

    def _open_batch(self) -> Runner | None:
        probe = np.random.default_rng(0).integers(0, 256, (_PROBED, *self.input_shape), np.uint8)
        return open_batch(
            lambda: Runner(self._data, self.model, self.threads, self._batch_size(), self.scores),
            self._single,
            self._to_input(probe),
            self._to_scores,
            exact=self.scores.tensor.quantized,
        )


def open_batch(
    make: Callable[[], Runner],
    single: Runner,
    inputs: np.ndarray,
    to_scores: Callable[[np.ndarray], np.ndarray],
    *,
    exact: bool,
) -> Runner | None:
    """Opens a model for many examples at once, where it computes the same as for one at a time.

    A graph may hold its batch size in constants: the runtime refuses, or mixes examples. So it is tried.

    Args:
        make: Opens the model for a batch.
        single: The model for one example at a time.
        inputs: A few different inputs, [n, …].
        to_scores: Conversion of the output tensor to scores.
        exact: Whether both must be equal, as with quantized kernels; float ones may sum in another order.

    Returns:
        The opened model; None if it does not compute the same.
    """
    try:
        runner = make()
        together = to_scores(runner(inputs))
    except ModelFileError:
        return None
    alone = np.concatenate([to_scores(single(inputs[i : i + 1])) for i in range(len(inputs))])
    tolerance = 0.0 if exact else 1e-5
    return runner if np.allclose(together, alone, rtol=10 * tolerance, atol=tolerance) else None


def open_model(
    source: ParsedFile | bytes | str | Path,
    *,
    threads: int = 1,
    scaling: Scaling | None = None,
    signature: str | None = None,
    output: str | None = None,
    example_shape: tuple[int, ...] | None = None,
    channels_first: bool = False,
    file: str | None = None,
) -> Classifier:
    """Opens an image classifier.

    Args:
        source: a .tflite file: parsed, its bytes or its path.
        threads: that the kernels may use.
        scaling: what the model expects of pixels 0..255. By default what the file's metadata say, or else what the
            range of a quantized input says, or else the pixels as they are.
        signature: which of several; by default serving_default, or the only one, or the first subgraph.
        output: name or index of one of several outputs.
        example_shape: height, width and channels of the data's images, for a file that takes them flattened.
        channels_first: whether a flattened input holds a channel after the other, and not pixel after pixel.
        file: what errors call it, unless it is parsed already; by default its path.

    Raises:
        ModelFileError: the file is unreadable, no image classifier (images of a fixed size in, one score a class
            or a single unit out), or the runtime cannot run it.
    """
    if isinstance(source, str | Path):
        source, file = read_bytes(source), file or str(source)
    parsed = parse_file(source, file=file or "the model")
    chosen = choose_signature(parsed.facts, signature)
    parsed = in_front(parsed, chosen)
    layout = image_layout(parsed.facts, example_shape, channels_first)
    scores = read_output(parsed.facts, output, layout.batch)
    metadata = read_metadata(
        parsed,
        subgraph=chosen.subgraph if chosen else 0,
        output=parsed.facts.outputs.index(scores.tensor),
        file=parsed.file,
    )
    described = None if scaling is not None else _described(metadata, parsed.file)
    pixels = read_pixels(parsed.facts.input, layout.channels or 0, scaling, described, parsed.file)
    labels, lost = (metadata.labels, metadata.lost_labels) if metadata else ((), "")
    return Classifier(parsed, threads, layout, pixels, scores, labels, lost)


def _described(metadata: ModelMetadata | None, file: str) -> Scaling | None:
    if metadata is None or not metadata.mean or not metadata.std:
        return None
    try:
        return Scaling(mean=metadata.mean, std=metadata.std)
    except (ValueError, ConfigError) as error:
        raise ModelFileError(
            f"The metadata must hold one mean and std, or one a channel, with std above 0; got mean "
            f"{list(metadata.mean)} and std {list(metadata.std)} in {file}. Give --scaling."
        ) from error


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
    interpreter = open_interpreter(parsed.to_bytes(), model, 1, OpResolverType.AUTO)
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
    return planned_arena(parsed.to_bytes(), parsed.facts)


def planned_arena(data: bytes, model: ModelFile) -> int:
    """Returns the bytes of the arena of a file's bytes; see `arena_bytes`."""
    interpreter = open_interpreter(data, model, 1, OpResolverType.BUILTIN_REF)
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


class Runner:
    """The runtime, opened for a fixed number of examples; fewer may be given."""

    def __init__(self, data: bytes, model: ModelFile, threads: int, size: int, scores: ScoresReading) -> None:
        self.size = size
        self._file = model.file
        self._units = scores.units
        fixed = size in (1, model.input.shape[0])
        self._interpreter = open_interpreter(data, model, threads, OpResolverType.AUTO, None if fixed else size)
        self._input, self._output = model.input.index, scores.tensor.index

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Examples as the input takes them -> [n, units] of the output's dtype."""
        count = len(inputs)
        if count < self.size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], self.size - count, axis=0)])
        self.fill(inputs)
        self.invoke()
        try:
            outputs = self._interpreter.get_tensor(self._output)
        except ValueError as error:
            raise _refused(self._file, error) from error
        if outputs.size != self.size * self._units:
            raise ModelFileError(
                f"A model must give scores for each image; got {list(outputs.shape)} for {self.size} images "
                f"from {self._file}. Convert it with a free batch dimension."
            )
        return outputs.reshape(self.size, self._units)[:count]

    def fill(self, inputs: np.ndarray) -> None:
        """Sets the input tensor."""
        self._interpreter.set_tensor(self._input, inputs)

    def invoke(self) -> None:
        """Runs the model; raises ModelFileError if the runtime fails on it."""
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise _refused(self._file, error) from error


def open_interpreter(
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
        f"{reason} Convert it for built-in operators, or measure the file that was compiled for an accelerator."
    )
