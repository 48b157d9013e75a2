# SPDX-License-Identifier: Apache-2.0
"""Stores texts as UTF-8 in Unicode's normal form C, otherwise as given: neither lower-cased nor cut."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from learn2compress.modalities.text.words import decode_text, split_words

if TYPE_CHECKING:
    import tensorflow as tf

MOST_BYTES = 1 << 20
"""Bytes of the longest text that is stored."""


class TextRecords:
    """Implements `Records` for texts: a raw example is a string, a stored one its UTF-8 bytes."""

    feature = "text"
    example_bytes = 256

    def read_file(self, path: Path) -> str:
        """Reads a text file in UTF-8; see `decode_file`."""
        return decode_file(path.read_bytes())

    def fit(self, raw: str) -> bytes:
        """Normalizes a text (NFC) and encodes it."""
        return unicodedata.normalize("NFC", raw).encode("utf-8")

    def digest(self, example: str | bytes) -> bytes:
        """Computes the SHA-256 of the text in its stored form."""
        stored = self.fit(example) if isinstance(example, str) else example
        return hashlib.sha256(b"text:" + stored).digest()

    def split_key(self, raw: str) -> bytes:
        """Computes the SHA-256 of the words regardless of case and of what separates them.

        Texts that differ in punctuation alone have the same key. A text without words, such as one of emoji, is
        compared as it is.
        """
        words = split_words(unicodedata.normalize("NFKC", raw).casefold())
        return hashlib.sha256(b"words:" + " ".join(words).encode()).digest() if words else self.digest(raw)

    def encode(self, stored: bytes) -> bytes:
        """Returns the bytes themselves."""
        return stored

    def pack(self, raw: str, stored: bytes, file: bytes | None) -> bytes:  # noqa: ARG002
        """Returns the bytes of the text themselves."""
        return stored

    def decode(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Makes a batch, [texts] objects of bytes."""
        batch = np.empty(len(encoded), object)
        batch[:] = list(encoded)
        return batch

    def decode_tensor(self, encoded: tf.Tensor) -> tf.Tensor:
        """Returns the tensor itself, [texts] string."""
        return encoded

    def statistics(self, raw: str, stored: bytes) -> dict[str, int | float]:  # noqa: ARG002
        """Counts the words and the characters."""
        text = decode_text(stored)
        return {"words": len(split_words(text)), "characters": len(text)}


def decode_file(content: bytes) -> str:
    """Decodes the content of a text file or of a record.

    Raises:
        ValueError: It is not UTF-8, or too long; the message is the reason only.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, more than {MOST_BYTES:,}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16, not UTF-8")
    try:
        return check_text(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte 0x{content[error.start]:02x} at position {error.start}") from error


def check_text(text: object) -> str:
    """Checks a raw text of a table.

    Returns:
        The text.

    Raises:
        ValueError: It is no text, too long, or cannot be encoded; the message is the reason only.
    """
    if text is None:
        raise ValueError("it has no text")
    if not isinstance(text, str):
        raise ValueError(f"its text is of type {type(text).__name__}")
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        # Surrogates stand for bytes that are not UTF-8 (see sources/text/tables.py), or for half a character in JSON.
        code = ord(text[error.start])
        what = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"half a character, \\u{code:04x},"
        raise ValueError(f"it is not UTF-8: {what} at position {error.start}") from error
    if length > MOST_BYTES:
        raise ValueError(f"it has {length:,} bytes, more than {MOST_BYTES:,}")
    return text
