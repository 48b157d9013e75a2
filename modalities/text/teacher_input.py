# SPDX-License-Identifier: Apache-2.0
"""Reads the input of a text classifier, and converts texts to it: strings, ids of words, or tokens of a transformer.

A transformer has up to three inputs of the same shape: token ids, the mask of those that are not padding, and the
numbers of the segments, which are all 0. They pass through the code as one tensor, [batch, inputs, ids].
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from learn2compress.modalities.protocol import InputFiles
from learn2compress.modalities.text.encoding import Tokenizer, WordIds, as_texts
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import Scaling

Part = Literal["ids", "mask", "types"]

_PARTS: dict[Part, tuple[str, ...]] = {
    "ids": ("input_ids", "input_word_ids", "token_ids", "ids", "tokens"),
    "mask": ("attention_mask", "input_mask", "padding_mask", "mask"),
    "types": ("token_type_ids", "input_type_ids", "segment_ids", "type_ids"),
}
_DEFAULT_TOKENS = 128
_ROUNDED_TO = 64  # lengths of a batch, so that few graphs are traced
_TEXTS_A_BATCH, _IDS_A_BATCH = 256, 8192
_PROBES = (
    "The team won the game in the last minute, and the crowd went home happy.",
    "I am very disappointed: it broke after two days and nobody answers my e-mails!",
    "Shares fell sharply on Monday after the company lowered its forecast for the year.",
    "a wonderful, moving and beautifully acted film",
    "How do I reset my password? The app says ERROR 403",
    "Das Paket ist leider nicht angekommen, bitte um Rückmeldung.",
    "شكرا جزيلا على المساعدة السريعة",
    "Спасибо, всё отлично работает 😀",
    "import numpy as np\nfor i in range(10):\n    print(i)",
    "",
)


@dataclass(frozen=True)
class TextTeacherInput:
    """Implements `TeacherInput` for texts.

    Attributes:
        path: Path of the model, for error messages.
        parts: Part of the encoding by input name; empty for strings.
        name: Name of the input of strings.
        batch: Fixed batch size; None if any size is accepted.
        shape: Shape of a stored example, which is a single string.
        dtype: Type of the input tensors.
        rank: Number of dimensions of the input: strings may be [batch] or [batch, 1].
        length: Number of ids; None if it follows the texts of a batch.
        encoding: What makes ids of texts; None for strings.
    """

    path: Path
    parts: tuple[tuple[str, Part], ...]
    name: str
    batch: int | None
    dtype: tf.DType
    rank: int
    length: int | None
    encoding: WordIds | Tokenizer | None
    shape: tuple[int | None, ...] = ()

    def batch_size(self, shape: tuple[int, ...]) -> int:  # noqa: ARG002
        """Returns 256 texts, fewer for a model of long sequences of tokens."""
        if not isinstance(self.encoding, Tokenizer):
            return _TEXTS_A_BATCH
        return max(8, _IDS_A_BATCH // (self.length or self.encoding.most_ids))

    def as_tensor(self, batch: np.ndarray) -> tf.Tensor:
        """Makes a tensor, [texts] string."""
        return tf.constant(batch, tf.string)

    def prepare(self, batch: tf.Tensor, scaling: Scaling, resize: bool) -> tf.Tensor:  # noqa: ARG002
        """Converts texts to [texts] or [texts, 1] string, [texts, ids], or [texts, inputs, ids]."""
        if self.encoding is None:
            return batch[:, tf.newaxis] if self.rank == 2 else batch
        made = tf.numpy_function(self._encode, [batch], tf.int32, stateful=False)
        if not tf.executing_eagerly():
            made = tf.ensure_shape(made, [None, len(self.parts), self.length])
        return tf.cast(made[:, 0] if len(self.parts) == 1 else made, self.dtype)

    def arguments(self, prepared: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names strings, or each part of the encoding."""
        if len(self.parts) < 2:
            return {self.name: prepared}
        return {name: prepared[:, index] for index, (name, _) in enumerate(self.parts)}

    def check_scaling(self, scaling: Scaling) -> None:
        """Raises TeacherError for a scaling, which texts do not have."""
        if not scaling.is_identity:
            raise TeacherError(
                f"teacher.scaling must be none for teacher {self.path}, which takes texts; got {scaling}. "
                "Set teacher.scaling: none."
            )

    def check_examples(self, shape: tuple[int, ...], scaling: Scaling, resize: bool) -> None:
        """Raises TeacherError if the examples are no texts, or are to be resized."""
        self.check_scaling(scaling)
        if shape != ():
            raise TeacherError(
                f"examples for teacher {self.path} must be texts; got arrays of shape {list(shape)}. Set data.modality."
            )
        if resize:
            raise TeacherError(
                f"teacher.resize must be false for teacher {self.path}, which takes texts; got true. Remove it."
            )

    def other_scalings(self, shape: tuple[int, ...], scaling: Scaling) -> Iterator[Scaling]:  # noqa: ARG002
        """Lists nothing: texts have no scaling."""
        yield from ()

    def probes(self, count: int, shape: tuple[int, ...] | None, scaling: Scaling) -> np.ndarray:  # noqa: ARG002
        """Makes texts of several kinds, and of the words that the teacher has ids for."""
        texts = [_PROBES[index % len(_PROBES)] for index in range(count)]
        if self.encoding is not None:
            words, rng = self.encoding.samples(), np.random.default_rng(0)
            texts[0] = words[-1]  # the highest id
            for index in range(1, count, 2):
                texts[index] = " ".join(rng.choice(words, 12))
        probes = np.empty(count, object)
        probes[:] = [text.encode() for text in texts]
        return probes

    def failure(self, probes: np.ndarray, reason: str) -> TeacherError:  # noqa: ARG002
        """Makes the error of a model that fails on texts: ids that it does not have point to another vocabulary."""
        if self.encoding is not None and ("is not in [0, " in reason or "out of range" in reason.lower()):
            field = "tokenizer" if isinstance(self.encoding, Tokenizer) else "vocabulary"
            return TeacherError(
                f"teacher.{field} must be the one that teacher {self.path} was trained with; got {self.encoding.path}, "
                f"which has ids that the model does not have ({reason}). Take the file that belongs to the model."
            )
        return TeacherError(
            f"teacher {self.path} must return scores for texts; got: {reason}. Check the model with the library that "
            "saved it."
        )

    def _encode(self, batch: np.ndarray) -> np.ndarray:
        texts = as_texts(batch)
        if isinstance(self.encoding, WordIds):
            return self.encoding.encode(texts, self.length or _DEFAULT_TOKENS)[:, None]
        assert self.encoding is not None
        length = self.length
        if length is None:
            length = min(self.encoding.most_ids, -(-self.encoding.longest(texts) // _ROUNDED_TO) * _ROUNDED_TO)
        ids, mask, types = self.encoding.encode(texts, length)
        made = {"ids": ids, "mask": mask, "types": types}
        return np.stack([made[part] for _, part in self.parts], axis=1)


def read_text_input(path: Path, specs: Mapping[str, tf.TensorSpec], files: InputFiles) -> TextTeacherInput:
    """Reads the input of a model from its signature.

    Args:
        path: Path of the model, for error messages.
        specs: Shape, including the batch, and type of each input tensor by name.
        files: Tokenizer or vocabulary of a model that takes ids.

    Raises:
        TeacherError: The model takes neither strings nor ids, or ids without a file that makes them.
    """
    if files.tokenizer and files.vocabulary:
        raise TeacherError(
            f"teacher.tokenizer and teacher.vocabulary must not both be given; got {files.tokenizer} and "
            f"{files.vocabulary}. Remove one."
        )
    given = [f"{name} {spec.dtype.name} {spec.shape}" for name, spec in specs.items()]
    if len(specs) == 1:
        [(name, spec)] = specs.items()
        if spec.dtype == tf.string:
            return _read_strings(path, name, spec, files)
        ranks = (2, None)
        if (spec.dtype.is_integer or spec.dtype.is_floating) and spec.shape.rank in ranks:
            return _read_ids(path, specs, ((name, "ids"),), files)
    else:
        parts = [(name, part) for name in specs for part, known in _PARTS.items() if _plain(name) in known]
        if len(parts) == len(specs) == len({part for _, part in parts}) and "ids" in dict(parts).values():
            return _read_ids(path, specs, tuple(parts), files)
    raise TeacherError(
        f"teacher {path} must take strings [batch] or [batch, 1], ids [batch, ids], or the inputs of a transformer "
        f"(input_ids, attention_mask, token_type_ids); got {', '.join(given) or 'no input'}. Export it with such a "
        "signature, or set data.modality: image."
    )


def _read_strings(path: Path, name: str, spec: tf.TensorSpec, files: InputFiles) -> TextTeacherInput:
    for field in ("tokenizer", "vocabulary"):
        if getattr(files, field) is not None:
            raise TeacherError(
                f"teacher.{field} must be left out for teacher {path}, which takes strings; got "
                f"{getattr(files, field)}. Remove it."
            )
    rank = spec.shape.rank
    if rank not in (None, 1, 2) or (rank == 2 and spec.shape[1] not in (None, 1)):
        raise TeacherError(
            f"teacher {path} must take one string for each text, [batch] or [batch, 1]; got {spec.shape}. Export it "
            "with such a signature."
        )
    batch = spec.shape[0] if rank else None
    return TextTeacherInput(path, (), name, batch, tf.string, rank or 1, None, None)


def _read_ids(
    path: Path, specs: Mapping[str, tf.TensorSpec], parts: tuple[tuple[str, Part], ...], files: InputFiles
) -> TextTeacherInput:
    if files.vocabulary and len(parts) == 1:
        encoding: WordIds | Tokenizer = WordIds.read(files.vocabulary)
    elif files.tokenizer:
        encoding = Tokenizer(files.tokenizer)
    else:
        field = "teacher.tokenizer" if len(parts) > 1 else "teacher.vocabulary or teacher.tokenizer"
        raise TeacherError(
            f"{field} must be given for teacher {path}, which takes ids ({', '.join(sorted(specs))}); got none. Set "
            "teacher.tokenizer to its tokenizer.json"
            + (", or teacher.vocabulary to its list of words." if len(parts) == 1 else ".")
        )
    dtypes = {spec.dtype for spec in specs.values()}
    lengths = {spec.shape[1] for spec in specs.values() if spec.shape.rank == 2} - {None}
    batches = {spec.shape[0] for spec in specs.values() if spec.shape.rank == 2} - {None}
    if len(dtypes) > 1 or len(lengths) > 1:
        raise TeacherError(
            f"the inputs of teacher {path} must have one type and length; got "
            f"{', '.join(f'{name} {spec.dtype.name} {spec.shape}' for name, spec in specs.items())}. Export it so."
        )
    length = next(iter(lengths), None)
    if length is None and "mask" not in dict(parts).values():
        # Without a mask, padding may change the scores: every text has the same length.
        length = files.tokens or _DEFAULT_TOKENS
    return TextTeacherInput(
        path, parts, parts[0][0], next(iter(batches), None), next(iter(dtypes)), 2, length, encoding
    )


def _plain(name: str) -> str:
    """Returns an input's name without the prefix of a scope and the number of a copy."""
    return name.lower().split("/")[-1].rstrip("0123456789").rstrip("_") if name[-1:].isdigit() else name.lower()
