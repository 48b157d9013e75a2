# SPDX-License-Identifier: Apache-2.0
"""Runs a text classifier from its .tflite bytes: scores for texts, latency, memory.

Any classifier with one input of ids and a score a class out will do, whoever converted it, if the file says how a text
becomes ids: by a RegexTokenizer and its vocabulary in the metadata, or by a list of keys (keys.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from learn2compress.modalities.text.lookup.dictionary import Lookup
from learn2compress.modalities.text.lookup.keys import KEYS_FILE, read_keys
from learn2compress.modalities.text.lookup.vocabulary import read_vocabulary
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import BATCH, Runner, open_batch, planned_arena
from learn2compress.tflite.metadata import ModelMetadata, read_metadata
from learn2compress.tflite.model_file import ModelFile, Tensor, read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, choose_signature, in_front, parse_file
from learn2compress.tflite.scores_output import ScoresReading, read_output, spread_unit


class TextClassifier:
    """An opened text classifier. Make one with `open_text_model`; it belongs to the thread that made it.

    Attributes:
        model: Contents of the file.
        lookup: Lookup of the ids.
        scores: The output with the scores.
        labels: Names of the classes that the file gives; empty if it gives none.
        input_shape: Number of ids of a text.
        classes: Number of classes.
        read_as: How the file is read, in sentences.
        pixels, layout: None, since texts have neither scaling nor axes.
        lost_labels: Name of labels that the metadata name and the file lacks; empty if there are none.
    """

    pixels = None
    layout = None

    def __init__(
        self,
        parsed: ParsedFile,
        threads: int,
        lookup: Lookup,
        scores: ScoresReading,
        metadata: ModelMetadata | None,
        said: str,
    ) -> None:
        self.model = model = parsed.facts
        self.lookup, self.scores = lookup, scores
        self.labels: tuple[str, ...] = metadata.labels if metadata else ()
        self.lost_labels = metadata.lost_labels if metadata else ""
        self.input_shape: tuple[int] = (model.input.shape[1],)
        self.classes: int = scores.classes
        self.read_as: tuple[str, ...] = (f"{self.input_shape[0]} {model.input.dtype} ids of words", said)
        self._dtype = np.dtype(model.input.dtype)
        self._order: tuple[int, ...] | None = None
        self._data = parsed.to_bytes()
        self._single = Runner(self._data, model, threads, 1, scores)
        self._threads = threads
        self._batch: Runner | None = None
        self._batches: bool | None = None

    def order_outputs(self, order: Sequence[int]) -> None:
        """From now on, scores are those of the named outputs, in that order."""
        self._order = tuple(order)
        self.classes = len(self._order)

    def ids(self, texts: Sequence[bytes] | np.ndarray) -> np.ndarray:
        """Looks up the words of texts.

        Args:
            texts: UTF-8 bytes of each text.

        Returns:
            [texts, length] of the input's dtype.
        """
        return self.lookup.encode(texts, self.input_shape[0]).astype(self._dtype)

    def predict(self, texts: np.ndarray) -> np.ndarray:
        """Returns the scores of texts.

        Args:
            texts: [n] UTF-8 bytes.

        Returns:
            [n, classes] float32, dequantized: probabilities or logits, as the model has them.

        Raises:
            ModelFileError: The runtime fails on the model.
        """
        inputs = self.ids(texts)
        scores = np.empty((len(inputs), self.scores.classes), np.float32)
        runner = self._batch_runner() if len(inputs) > 1 else self._single
        for start in range(0, len(inputs), runner.size):
            part = inputs[start : start + runner.size]
            scores[start : start + len(part)] = self._to_classes(self._to_scores(runner(part)))
        return scores if self._order is None else scores[:, self._order]

    def predict_raw(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tensors that go in and come out for one text.

        Args:
            text: UTF-8 bytes.

        Returns:
            [1, length] ids of the input's dtype, and [1, classes] of the output's dtype.
        """
        inputs = self.ids([text])
        return inputs, self._single(inputs)

    def latency(self, repeats: int = 50, warmup: int = 5) -> np.ndarray:
        """Returns the milliseconds that each of `repeats` invocations on one text of ids took, after a warm-up."""
        inputs = np.zeros((1, *self.input_shape), self._dtype)
        times = np.empty(warmup + repeats)
        for i in range(len(times)):
            self._single.fill(inputs)
            start = time.perf_counter_ns()
            self._single.invoke()
            times[i] = time.perf_counter_ns() - start
        return times[warmup:] / 1e6

    def arena_bytes(self) -> int:
        """Returns the memory that the runtime plans for activations; see `tflite.interpreter.arena_bytes`."""
        return planned_arena(self._data, self.model)

    def _to_scores(self, values: np.ndarray) -> np.ndarray:
        output = self.scores.tensor
        if not output.quantized:
            return values.astype(np.float32)
        return (values.astype(np.float32) - np.float32(output.zero_point[0])) * np.float32(output.scale[0])

    def _to_classes(self, values: np.ndarray) -> np.ndarray:
        return spread_unit(values, self.scores.kind == "sigmoid") if self.scores.units == 1 else values

    def _batch_runner(self) -> Runner:
        if self._batches is None:
            self._batch = self._open_batch()
            self._batches = self._batch is not None
        return self._batch or self._single

    def _open_batch(self) -> Runner | None:
        inputs = np.zeros((3, *self.input_shape), self._dtype)
        inputs[1], inputs[2, ::2] = 1, 1
        return open_batch(
            lambda: Runner(self._data, self.model, self._threads, BATCH, self.scores),
            self._single,
            inputs,
            self._to_scores,
            exact=self.scores.tensor.quantized,
        )


def open_text_model(
    source: ParsedFile | bytes | str | Path,
    *,
    threads: int = 1,
    scaling: Scaling | None = None,
    signature: str | None = None,
    output: str | None = None,
    file: str | None = None,
) -> TextClassifier:
    """Opens a text classifier.

    Args:
        source: A .tflite file: parsed, its bytes or its path.
        threads: Threads that the kernels may use.
        scaling: None, since texts are not scaled.
        signature: Signature to run, of several.
        output: Name or index of one of several outputs.
        file: Name of the file in error messages, unless it is parsed already; by default its path.

    Raises:
        ModelFileError: The file is unreadable, no text classifier (one input of ids, one score a class), does not say
            how a text becomes ids, or the runtime cannot run it.
    """
    if isinstance(source, str | Path):
        source, file = read_bytes(source), file or str(source)
    parsed = parse_file(source, file=file or "the model")
    if scaling is not None:
        raise ModelFileError(f"A scaling must be left out for texts; got one for {parsed.file}. Leave --scaling out.")
    chosen = choose_signature(parsed.facts, signature)
    parsed = in_front(parsed, chosen)
    check_ids(parsed.facts)
    scores = read_output(parsed.facts, output)
    subgraph = chosen.subgraph if chosen else 0
    index = parsed.facts.outputs.index(scores.tensor)
    metadata = read_metadata(parsed, subgraph=subgraph, output=index, file=parsed.file)
    lookup, said = read_lookup(parsed, metadata)
    return TextClassifier(parsed, threads, lookup, scores, metadata, said)


def check_ids(model: ModelFile) -> None:
    """Checks that a file takes the ids of a text.

    Raises:
        ModelFileError: It takes something else.
    """
    if len(model.inputs) != 1:
        names = ", ".join(f"{one.name} {list(one.shape)}" for one in model.inputs)
        raise ModelFileError(
            f"A text classifier must have one input, of ids; {model.file} has {len(model.inputs)}: {names}. "
            "Transformers with masks are not measured; convert it with one input."
        )
    tensor = model.input
    if tensor.dtype not in ("int32", "int64", "float32") or len(tensor.shape) != 2 or tensor.shape[1] < 1:
        raise ModelFileError(
            f"A text classifier must take ids [1, length]; got {tensor.dtype} {list(tensor.shape)} in {model.file}. "
            "Give a model that takes the ids of words."
        )


def read_lookup(parsed: ParsedFile, metadata: ModelMetadata | None) -> tuple[Lookup, str]:
    """Reads from a file how a text becomes ids.

    Returns:
        The lookup, and a sentence on it.

    Raises:
        ModelFileError: The file does not say it, or what it says cannot be used.
    """
    if KEYS_FILE in parsed.files:
        keys = read_keys(parsed.files[KEYS_FILE], parsed.file)
        return keys, f"looked up by {len(keys):,} keys in {KEYS_FILE}"
    tokenizer = metadata.tokenizer if metadata else None
    if tokenizer is None or tokenizer.kind != "RegexTokenizer":
        found = f"a {tokenizer.kind}" if tokenizer else "no tokenizer"
        raise ModelFileError(
            f"A text classifier must have a RegexTokenizer in its metadata, or a {KEYS_FILE}; {parsed.file} has "
            f"{found}. Add the metadata with MediaPipe's metadata writer."
        )
    if tokenizer.vocabulary not in parsed.files:
        raise ModelFileError(
            f"The vocabulary {tokenizer.vocabulary!r} must be packed into {parsed.file}; it is not. Write the metadata "
            "again."
        )
    rows = table_rows(parsed.facts)
    content = parsed.files[tokenizer.vocabulary]
    lookup = read_vocabulary(content, 2**31 if rows is None else rows, tokenizer.pattern, parsed.file)
    return lookup, f"looked up among {len(lookup.ids):,} words of {tokenizer.vocabulary}, split by {tokenizer.pattern}"


def table_rows(model: ModelFile) -> int | None:
    """Returns the number of rows of the table that the ids choose from; None if it is not found."""
    for table in gathered(model):
        return table.shape[0]
    return None


def gathered(model: ModelFile) -> Iterator[Tensor]:
    """Lists the constant tables of GATHER and EMBEDDING_LOOKUP operators in the first subgraph."""
    tensors = {tensor.index: tensor for tensor in model.tensors if tensor.subgraph == 0}
    for operator in model.operators:
        if operator.subgraph == 0 and operator.name in ("GATHER", "EMBEDDING_LOOKUP"):
            for index in operator.inputs:
                if index in tensors and tensors[index].constant and len(tensors[index].shape) == 2:
                    yield tensors[index]
