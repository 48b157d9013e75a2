# SPDX-License-Identifier: Apache-2.0
"""Trains the teacher of the example: a Keras 3 classifier that takes strings, with a TextVectorization layer inside.

It learns from messages of its own (another seed of make_messages.py), which neither students nor figures see.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
from make_messages import CORES, make_messages

CLASSES = sorted(CORES)  # the order in which learn2compress names the classes of a table


def build_teacher(texts: list[str]) -> keras.Model:
    """Builds a network of word embeddings and convolutions; input strings, output probabilities."""
    layers = keras.layers
    vectorize = layers.TextVectorization(max_tokens=4000, output_sequence_length=32)
    vectorize.adapt(tf.constant(texts))
    text = keras.Input((), dtype="string", name="text")
    words = layers.Embedding(4000, 64)(vectorize(text))
    words = layers.SpatialDropout1D(0.3)(words)
    pairs = layers.Conv1D(96, 2, activation="relu")(words)
    found = layers.Concatenate()([layers.GlobalMaxPooling1D()(one) for one in (words, pairs)])
    found = layers.Dropout(0.4)(found)
    return keras.Model(text, layers.Dense(len(CLASSES), activation="softmax")(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the .keras file to write")
    parser.add_argument("--count", type=int, default=8000, help="messages to learn from (default: 8000)")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the messages (default: 6)")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(7)
    rows = make_messages(arguments.count + 1000, seed=3)
    texts = [row["text"] for row in rows]
    labels = np.array([CLASSES.index(row["label"]) for row in rows])
    teacher = build_teacher(texts[:-1000])
    teacher.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = tf.data.Dataset.from_tensor_slices((texts[:-1000], labels[:-1000])).shuffle(10_000, seed=1).batch(64)
    teacher.fit(batches, epochs=arguments.epochs, verbose=0)
    _, accuracy = teacher.evaluate(tf.constant(texts[-1000:]), labels[-1000:], verbose=0)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    teacher.save(arguments.output)
    print(f"wrote {arguments.output}: {teacher.count_params():,} parameters, {accuracy:.3f} of 1000 held-out messages")


if __name__ == "__main__":
    main()
