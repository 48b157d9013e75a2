# SPDX-License-Identifier: Apache-2.0
"""Turns texts into the ids of a teacher, by the file of words or the tokenizer that the user gives with it.

A file of words has one word in each line, whose number is its id (as `TextVectorization.get_vocabulary()` lists them),
lines of `word id`, or JSON: a list of words, or an object of words and ids. Texts are split as Keras does: without
punctuation, at white space, and lower-cased unless the file has words in upper case.
"""

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from learn2compress.modalities.text.words import decode_text
from learn2compress.schemas.errors import TeacherError

_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']")
_PADDING = ("", "<PAD>", "[PAD]", "<pad>", "<START>")
_UNKNOWN = ("[UNK]", "<UNKNOWN>", "<UNK>", "<unk>", "<OOV>")
_NUMBERED = re.compile(r"(\S+)[ \t]+(\d+)")
_MOST_IDS = 512  # of a tokenizer that does not state its own limit


@dataclass(frozen=True)
class WordIds:
    """Ids of words.

    Attributes:
        path: File of the words.
        ids: Id of each word.
        unknown: Id of other words.
        lower: Whether texts are lower-cased.
    """

    path: Path
    ids: dict[str, int] = field(repr=False)
    unknown: int
    lower: bool

    @classmethod
    def read(cls, path: Path) -> "WordIds":
        """Reads a file of words.

        Raises:
            TeacherError: It holds none.
        """
        ids = _read_words(path)
        unknown = next((ids[word] for word in _UNKNOWN if word in ids), None)
        if unknown is None:
            raise TeacherError(
                f"teacher.vocabulary must have a word for unknown words, one of {', '.join(_UNKNOWN)}; got none in "
                f"{path}. Add it with the id that the teacher was trained with."
            )
        special = {*_PADDING, *_UNKNOWN}
        return cls(path, ids, unknown, all(word == word.lower() for word in ids if word not in special))

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Looks up the words of texts.

        Args:
            texts: Texts.
            length: Number of ids of each text; the rest is left out, or is 0.

        Returns:
            [texts, length] int32.
        """
        encoded = np.zeros((len(texts), length), np.int32)
        for row, text in zip(encoded, texts, strict=True):
            words = _PUNCTUATION.sub("", text.lower() if self.lower else text).split()[:length]
            row[: len(words)] = [self.ids.get(word, self.unknown) for word in words]
        return encoded

    def samples(self) -> list[str]:
        """Returns words of the file, among them the one of the highest id."""
        words = sorted((word for word in self.ids if word.strip()), key=lambda word: self.ids[word])
        return [*words[:: max(1, len(words) // 200)], words[-1]]


class Tokenizer:
    """Tokenizer of a transformer, as its tokenizer.json describes it.

    Args:
        path: The file.

    Raises:
        TeacherError: The package `tokenizers` is not installed, or the file is no tokenizer.
    """

    def __init__(self, path: Path) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise TeacherError(
                f"teacher.tokenizer needs the package tokenizers, which is not installed; got {path}. Install it with "
                "pip install tokenizers."
            )
        tokenizers = importlib.import_module("tokenizers")
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises plain exceptions
            raise TeacherError(
                f"teacher.tokenizer must be a tokenizer.json; got {path}: {str(error).splitlines()[0][:200]}. Take the "
                "file of that name that lies beside the original model."
            ) from error
        self.path = path
        truncation = self._tokenizer.truncation
        self.most_ids: int = truncation["max_length"] if truncation else _MOST_IDS
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokenizes texts, cut at `length` with the special tokens kept.

        Returns:
            Ids, attention mask and type ids, each [texts, length] int32.
        """
        self._tokenizer.enable_truncation(length)
        parts = np.zeros((3, len(texts), length), np.int32)
        parts[0] = self._padding
        for row, one in enumerate(self._tokenizer.encode_batch(list(texts))):
            size = len(one.ids)
            parts[0, row, :size], parts[1, row, :size], parts[2, row, :size] = one.ids, one.attention_mask, one.type_ids
        return parts[0], parts[1], parts[2]

    def longest(self, texts: Sequence[str]) -> int:
        """Returns the largest number of ids of a text."""
        self._tokenizer.enable_truncation(self.most_ids)
        return max((len(one.ids) for one in self._tokenizer.encode_batch(list(texts))), default=1)

    def samples(self) -> list[str]:
        """Returns some of the tokens, among them the one of the highest id."""
        words = sorted(self._tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        return [word for word, _ in [*words[:: max(1, len(words) // 200)], words[-1]]]

    @property
    def _padding(self) -> int:
        for word in ("[PAD]", "<pad>", "<PAD>"):
            identity = self._tokenizer.token_to_id(word)
            if identity is not None:
                return int(identity)
        return 0


def as_texts(batch: np.ndarray) -> list[str]:
    """Decodes a batch of stored texts."""
    return [decode_text(bytes(text)) for text in batch.tolist()]


def _read_words(path: Path) -> dict[str, int]:
    try:
        content = path.read_text(encoding="utf-8")
        parsed = json.loads(content) if path.suffix == ".json" else content.rstrip("\n").split("\n")
    except (OSError, ValueError) as error:
        raise TeacherError(
            f"teacher.vocabulary must be a readable file of words in UTF-8; got {path}: {error}. Check the path."
        ) from error
    if isinstance(parsed, dict) and all(type(number) is int for number in parsed.values()):
        ids = {str(word): int(number) for word, number in parsed.items()}
    elif isinstance(parsed, list) and all(isinstance(word, str) for word in parsed):
        numbered = [_NUMBERED.fullmatch(line) for line in parsed if line]
        if numbered and all(numbered):
            ids = {match[1]: int(match[2]) for match in numbered if match}
        else:
            ids = {}
            for number, word in enumerate(parsed):
                ids.setdefault(word, number)
    else:
        ids = {}
    if len(ids) < 2:
        raise TeacherError(
            f"teacher.vocabulary must be a file of words: one in each line, 'word id' lines, or a JSON list or object; "
            f"got {path}, which has {len(ids)}. Write the list of TextVectorization.get_vocabulary()."
        )
    return ids
