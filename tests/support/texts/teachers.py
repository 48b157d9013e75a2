# SPDX-License-Identifier: Apache-2.0
"""Makes small text classifiers in each supported form, which count words of two kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

WORDS = ["", "[UNK]", "good", "great", "bad", "awful", "the", "film"]
SCORES = np.array([0, 0, 3, 3, -3, -3, 0, 0], np.float32)


def build_ids(library: Any, length: int | None = 6, units: int = 2, dtype: str = "int32") -> Any:
    """Makes a model of word ids, [batch, length], whose last class is the positive one."""
    layers = library.layers
    ids = library.Input((length,), dtype=dtype, name="ids")
    x = layers.Embedding(len(WORDS), 1, name="table")(ids)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = library.Model(ids, layers.Dense(units, activation="softmax" if units > 1 else "sigmoid", name="scores")(x))
    model.get_layer("table").set_weights([SCORES[:, None]])
    kernel = np.array([[-2.0, 2.0]] if units == 2 else [[4.0]], np.float32)
    model.get_layer("scores").set_weights([kernel, np.zeros(units, np.float32)])
    return model


def build_strings(library: Any, shape: tuple[int, ...] = (), units: int = 2) -> Any:
    """Makes a model of strings with a TextVectorization layer."""
    text = library.Input(shape, dtype="string", name="text")
    vectorize = library.layers.TextVectorization(
        max_tokens=len(WORDS), output_sequence_length=6, vocabulary=WORDS[2:], name="vectorize"
    )
    return library.Model(text, build_ids(library, 6, units, "int64")(vectorize(text)))


class Transformer(tf.Module):
    """A module with the three inputs of a transformer, which counts tokens where the mask is 1."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = tf.Variable(np.zeros((size, 2), np.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name=name)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ]
    )
    def __call__(self, input_ids: tf.Tensor, attention_mask: tf.Tensor, token_type_ids: tf.Tensor) -> tf.Tensor:
        mask = tf.cast(attention_mask, tf.float32)[..., tf.newaxis]
        total = tf.reduce_sum(mask * tf.gather(self.table, input_ids), axis=1)
        return total / tf.reduce_sum(mask, axis=1) + 0 * tf.cast(token_type_ids[:, :1], tf.float32)


class Classes(tf.Module):
    """A module that returns scores and the names of the classes, as estimators do; the names are in another order."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = tf.constant(names)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def __call__(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        good = tf.cast(tf.strings.regex_full_match(inputs, ".*(good|great).*"), tf.float32)
        scores = tf.stack([good, 1 - good], axis=1)
        return {"classes": tf.repeat(self.names[tf.newaxis], tf.shape(inputs)[0], axis=0), "scores": scores}


def save_module(module: Any, folder: Path) -> Path:
    """Saves a module as a SavedModel with its call as the signature."""
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return folder


def texts(*content: str) -> np.ndarray:
    """Makes a batch of stored texts."""
    batch = np.empty(len(content), object)
    batch[:] = [one.encode() for one in content]
    return batch
