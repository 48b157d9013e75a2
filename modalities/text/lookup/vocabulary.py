# SPDX-License-Identifier: Apache-2.0
r"""Looks up the words of a text in `vocab.txt`, as MediaPipe and the Task Library do.

A file with one int32 input and a RegexTokenizer in its metadata is fed by these loaders as follows: the text is split
where the delimiter matches, each word is looked up as it is typed, a word that is not in the list has the id of
`<UNKNOWN>`, and the ids are cut or filled with that of `<PAD>` to the length of the input. If the list has `<START>`,
its id comes first. `vocab.txt` holds a word and its id on each line; several words may have one id.

Source: mediapipe/tasks/cc/text/tokenizers/regex_tokenizer.cc and
mediapipe/calculators/tensor/regex_preprocessor_calculator.cc
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from learn2compress.modalities.text.words import SEPARATOR, decode_text, split_words
from learn2compress.schemas.errors import ModelFileError

VOCABULARY_FILE = "vocab.txt"
PAD, START, UNKNOWN = "<PAD>", "<START>", "<UNKNOWN>"


class VocabularyLookup:
    """Finds the ids of the words of texts.

    Args:
        ids: Id by word, as typed, with the ids of `<PAD>` and `<UNKNOWN>`.
        pattern: Delimiter of the words, a regular expression of RE2.
        file: Name of the .tflite file in error messages.

    Raises:
        ModelFileError: A special word is missing, or the delimiter cannot be read.
    """

    def __init__(self, ids: Mapping[str, int], pattern: str = SEPARATOR, file: str = "the model") -> None:
        missing = [word for word in (PAD, UNKNOWN) if word not in ids]
        if missing:
            raise ModelFileError(
                f"The vocabulary of {file} must have {PAD} and {UNKNOWN}; it has no {' and no '.join(missing)}. "
                "Add them with their ids."
            )
        self.ids = dict(ids)
        self._split = splitter(pattern, file)
        self._pad, self._unknown, self._start = ids[PAD], ids[UNKNOWN], ids.get(START)

    def encode(self, texts: Sequence[bytes] | np.ndarray, length: int) -> np.ndarray:
        """Finds the ids of texts.

        Args:
            texts: UTF-8 bytes of each text.
            length: Number of ids of a text; further ones are cut off, missing ones are those of `<PAD>`.

        Returns:
            [texts, length] int32.
        """
        encoded = np.full((len(texts), length), self._pad, np.int32)
        first = [] if self._start is None else [self._start]
        for row, text in zip(encoded, texts, strict=True):
            words = self._split(decode_text(text))[: length - len(first)]
            found = [*first, *(self.ids.get(word, self._unknown) for word in words)]
            row[: len(found)] = found
        return encoded


def splitter(pattern: str, file: str = "the model") -> Callable[[str], list[str]]:
    r"""Makes a function that splits a text where a delimiter of RE2 matches.

    Python's `re` is used, whose `\w`, `\d`, `\s` and `\b` are made ASCII as in RE2; the delimiter of this project,
    which `re` cannot read, is replaced by its equal.

    Raises:
        ModelFileError: The delimiter cannot be read.
    """
    if pattern == SEPARATOR:
        return split_words
    try:
        delimiter = re.compile(pattern, re.ASCII)
    except re.error as error:
        raise ModelFileError(
            f"The delimiter of words in {file} must be a regular expression; got {pattern!r}, {error}. Correct the "
            "metadata."
        ) from error
    return lambda text: [word for word in _between(delimiter, text) if word]


def _between(delimiter: re.Pattern[str], text: str) -> Iterable[str]:
    end = 0
    for match in delimiter.finditer(text):
        yield text[end : match.start()]
        end = match.end()
    yield text[end:]


def write_vocabulary(entries: Iterable[tuple[str, int]]) -> bytes:
    """Writes the file `vocab.txt`; 0 is the id of `<PAD>` and of `<UNKNOWN>`.

    Args:
        entries: Words with their ids, from 1.
    """
    lines = [(PAD, 0), (UNKNOWN, 0), *entries]
    return "".join(f"{word} {number}\n" for word, number in lines).encode()


def read_vocabulary(content: bytes, rows: int, pattern: str, file: str) -> VocabularyLookup:
    """Reads the file `vocab.txt`.

    Args:
        content: Its bytes: a word and its id on each line, or only words, whose ids are the numbers of their lines.
        rows: Number of ids that the model has.
        pattern: Delimiter of the words, from the metadata.
        file: Name of the .tflite file in error messages.

    Raises:
        ModelFileError: A line cannot be read, or an id is not one of the model's.
    """
    ids: dict[str, int] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").rstrip("\n").split("\n")):
        line = line.rstrip("\r")
        word, space, last = line.rpartition(" ")
        if not space:
            word, last = line, str(number)
        if not last.isdecimal():
            raise ModelFileError(
                f"Each line of {VOCABULARY_FILE} must be a word and its id; got {line!r} in line {number + 1} of "
                f"{file}. Correct it."
            )
        ids[word] = int(last)
    largest = max(ids.values(), default=0)
    if largest >= rows:
        raise ModelFileError(
            f"The vocabulary of {file} must have ids below {rows}, the rows of its table; got {largest}. It belongs to "
            "another model."
        )
    return VocabularyLookup(ids, pattern, file)
