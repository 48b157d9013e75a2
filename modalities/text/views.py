# SPDX-License-Identifier: Apache-2.0
"""Makes the fixed views of a text on which teacher and students run: with words left out, and windows of long texts.

A view is three integers, stored with the logits: the seed of the choice of words, the fraction that is left out, and
the place of the window. Teacher and students therefore read the same words, as in "A good teacher is patient and
consistent" (Beyer et al., 2106.05237). Separators of the words that are kept stay as they are, for teachers that read
punctuation.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from learn2compress.modalities.draws import draw_bits
from learn2compress.modalities.text.words import decode_text, word_spans
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import AnyViewRecipe, TextViewRecipe

DROPPED_WORDS = 0.25
_RATE_UNIT, _START_UNIT = 10_000, 32_767
_TABLE_BITS = 16
# Numbers in [0, 1) that decide which words of a view are left out, from a place that the view's seed determines.
_UNIFORM = np.random.default_rng(0).random(1 << _TABLE_BITS)


class TextViews:
    """Implements `Views` for texts: a view's parameters are seed, dropped words per 10,000, start of the window.

    Args:
        tokens: Number of words of a window.
    """

    def width(self, recipe: AnyViewRecipe) -> int:  # noqa: ARG002
        """Returns the number of parameters of a view."""
        return 3

    def mixes(self, recipe: AnyViewRecipe) -> bool:  # noqa: ARG002
        """Returns False: a view is made of one text."""
        return False

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def on_trial(self, config: TeacherImportConfig) -> Callable[[np.ndarray], np.ndarray] | None:  # noqa: ARG002
        """Returns None: the configuration alone decides what views contain."""
        return None

    def recipe(self, config: TeacherImportConfig, seed: int, passed: bool) -> TextViewRecipe:  # noqa: ARG002
        """Makes the recipe of the section `teacher`."""
        dropped = DROPPED_WORDS if config.view_dropped_words is None else config.view_dropped_words
        return TextViewRecipe(count=config.views, dropped_words=dropped, window_words=self.tokens, seed=seed)

    def draw(self, ids: np.ndarray, recipe: AnyViewRecipe) -> np.ndarray:
        """Draws the parameters of views as a function of the id, the view's number and the recipe only."""
        assert isinstance(recipe, TextViewRecipe)  # of this modality
        bits = draw_bits(ids, recipe.count, recipe.seed)
        seeds = (bits & np.uint64(0xFFFF)).astype(np.uint16).view(np.int16)
        starts = (bits >> np.uint64(16) & np.uint64(0x7FFF)).astype(np.int16)
        rates = np.full_like(seeds, round(recipe.dropped_words * _RATE_UNIT))
        views = np.stack([seeds, rates, starts], axis=-1)
        views[:, 0] = 0
        return views

    def apply(
        self,
        batch: tf.Tensor,
        parameters: tf.Tensor,
        partners: tf.Tensor | None = None,  # noqa: ARG002
    ) -> tf.Tensor:
        """Makes a view of each text, [texts] string; in a graph by a Python function."""
        made = tf.numpy_function(self.apply_to_texts, [batch, tf.cast(parameters, tf.int16)], tf.string, stateful=False)
        return tf.ensure_shape(made, [None])

    def labels(self, labels: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """Returns the labels as they are."""
        return labels

    def apply_to_texts(self, texts: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Makes a view of each text.

        Args:
            texts: [texts] objects of bytes.
            parameters: [texts, 3] int16.

        Returns:
            [texts] objects of bytes.
        """
        made = np.empty(len(texts), object)
        made[:] = [self._view(text, *row) for text, row in zip(texts, parameters.tolist(), strict=True)]
        return made

    def _view(self, stored: bytes, seed: int, rate: int, start: int) -> bytes:
        if seed == rate == start == 0:
            return stored
        text = decode_text(stored)
        spans = word_spans(text)
        surplus = max(0, len(spans) - self.tokens)
        first = round(surplus * start / _START_UNIT)
        last = first + min(len(spans), self.tokens)
        if not spans:
            return stored
        numbers = (np.arange(first, last) + (seed & 0xFFFF) * 40_503) % (1 << _TABLE_BITS)
        kept = _UNIFORM[numbers] >= rate / _RATE_UNIT
        if not kept.any():
            # A text without words would say nothing; it keeps the word that is the last to be left out.
            kept[int(np.argmax(_UNIFORM[numbers]))] = True
        # A word goes together with the separator behind it; the window begins and ends with a word.
        ends = [*(start for start, _ in spans[1:]), len(text)]
        head = text[: spans[0][0]] if first == 0 else ""
        pieces = [text[spans[i][0] : ends[i]] for i in (np.flatnonzero(kept) + first).tolist()]
        return (head + "".join(pieces)).strip().encode("utf-8")
