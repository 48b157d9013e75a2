# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's teacher: a Keras 3 classifier of scikit-learn's handwritten digits, 8x8 grey, in under a minute.

The pipeline handles it like any other Keras file. It is trained on the first four fifths of the images. The last fifth
is the test split of the pipeline, so that neither the teacher nor a student is trained on it.
"""

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
warnings.simplefilter("ignore", FutureWarning)  # google.api_core's, of the age of Python 3.10

import keras
import numpy as np
from sklearn.datasets import load_digits

TRAIN_ROWS = 1437


def build_teacher() -> keras.Model:
    """Builds a plain convolutional network, some 20 times as large as the small student; input 0..255, output
    probabilities.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(96, 3, padding="same", activation="relu"),
            layers.Conv2D(96, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(96, activation="relu", name="features"),
            layers.Dropout(0.4),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the .keras file to write")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the images (default: 40)")
    arguments = parser.parse_args()
    output = arguments.output

    keras.utils.set_random_seed(7)
    digits = load_digits()
    images = np.clip(np.rint(digits.images * (255 / 16)), 0, 255).astype("float32")[..., None]
    train, held_out = np.arange(TRAIN_ROWS), np.arange(TRAIN_ROWS, len(images))
    teacher = build_teacher()
    teacher.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    teacher.fit(images[train], digits.target[train], batch_size=64, epochs=arguments.epochs, verbose=0)
    _, accuracy = teacher.evaluate(images[held_out], digits.target[held_out], verbose=0)
    output.parent.mkdir(parents=True, exist_ok=True)
    teacher.save(output)
    print(f"wrote {output}: {teacher.count_params():,} parameters, {accuracy:.3f} of {len(held_out)} held-out digits")


if __name__ == "__main__":
    main()
