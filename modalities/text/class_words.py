# SPDX-License-Identifier: Apache-2.0
"""Finds the words that speak most for each class, from the table and the kernel of a text classifier's file.

Where a file is only GATHER, MEAN, FULLY_CONNECTED and the like, a word adds its row times the kernel to the logits;
what it adds above the mean over the classes speaks for a class. The unknown word is not listed.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from learn2compress.modalities.text.classifier import gathered
from learn2compress.tflite.model_file import Tensor
from learn2compress.tflite.parsed_file import ParsedFile

_LINEAR = ("GATHER", "EMBEDDING_LOOKUP", "MEAN", "SUM", "RESHAPE", "SQUEEZE", "DEQUANTIZE", "QUANTIZE", "SOFTMAX")
_TYPES = {"int8": np.int8, "uint8": np.uint8, "float32": np.float32, "float16": np.float16}


def class_words(parsed: ParsedFile, words: Mapping[str, int], count: int = 10) -> list[list[str]] | None:
    """Finds the words that speak for each class.

    Args:
        parsed: The file.
        words: Id by word; of several words with one id, the first is listed.
        count: Number of words of a class.

    Returns:
        Words of each class in the order of the outputs, the strongest first; None if the file computes otherwise.
    """
    operators = [operator for operator in parsed.facts.operators if operator.subgraph == 0]
    dense = [operator for operator in operators if operator.name == "FULLY_CONNECTED"]
    table = next(gathered(parsed.facts), None)
    others = [operator.name for operator in operators if operator.name not in (*_LINEAR, "FULLY_CONNECTED")]
    if table is None or len(dense) != 1 or others:
        return None
    kernel = next(tensor for tensor in parsed.facts.tensors if tensor.index == dense[0].inputs[1])
    rows, weights = _values(parsed, table), _values(parsed, kernel)
    if rows is None or weights is None or rows.shape[1] != weights.shape[1]:
        return None
    named: dict[int, str] = {}
    for word, number in words.items():
        named.setdefault(number, word)
    numbers = [number for number, word in named.items() if 0 < number < len(rows) and not word.startswith("<")]
    logits = rows[numbers] @ weights.T
    logits -= logits.mean(axis=1, keepdims=True)
    return [_strongest(column, numbers, named, count) for column in logits.T]


def _strongest(column: np.ndarray, numbers: Sequence[int], named: Mapping[int, str], count: int) -> list[str]:
    return [named[numbers[i]] for i in np.argsort(-column, kind="stable")[:count] if column[i] > 0]


def _values(parsed: ParsedFile, tensor: Tensor) -> np.ndarray | None:
    """Reads a constant matrix as float32; None for types that are not read."""
    if tensor.dtype not in _TYPES:
        return None
    content = parsed.content_of(tensor.index)
    if not content:
        return None
    values = np.frombuffer(content, _TYPES[tensor.dtype]).reshape(tensor.shape).astype(np.float32)
    if tensor.quantized and len(tensor.scale) == 1:
        return (values - tensor.zero_point[0]) * tensor.scale[0]
    if tensor.quantized:
        return (values - np.array(tensor.zero_point)[:, None]) * np.array(tensor.scale, np.float32)[:, None]
    return values
