# SPDX-License-Identifier: Apache-2.0
"""A job of 20,000 generated images, in several shards, for runs on several engines."""

from pathlib import Path

import numpy as np
import yaml

from support.digits_job import SETTINGS

TRAIN, TEST, SIDE, CLASSES = 14_000, 6_000, 32, 10


def write_large_job(folder: Path) -> Path:
    """Writes data, teacher and configuration; returns the configuration's path."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = draw(TRAIN + TEST)
    np.savez(
        folder / "images.npz",
        train_images=images[:TRAIN],
        train_labels=labels[:TRAIN],
        test_images=images[TRAIN:],
        test_labels=labels[TRAIN:],
    )
    _write_teacher(folder / "teacher.keras", images[:2000], labels[:2000])
    sections = {
        "data": {"path": "images.npz", "validation_fraction": 0.2},
        "distill": {"epochs": 1, "batch_size": 128, "learning_rate": 0.01},
        "prune": {"sparsity": 0},
        "quantize": {"epochs": 0, "variants": ["int8"], "teacher_variants": []},
        "students": {"sizes": {"small": {"size_bytes": 7500}, "large": {"size_bytes": 10_000}}},
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, **sections}, sort_keys=False))
    return config


def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws images of coarse patterns, one for each class, in noise: [n, 32, 32, 3] uint8, [n] int64."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(60, 196, (CLASSES, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    labels = np.arange(count) % CLASSES
    noise = rng.integers(-60, 60, (count, SIDE, SIDE, 3), np.int8)
    return (patterns[labels] + noise).astype(np.uint8), labels


def _write_teacher(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes a linear teacher on the means of squares of eight pixels, with a closed-form solution."""
    import tf_keras as keras

    squares = images.reshape(-1, 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(images), -1) / 255
    inputs = np.concatenate([squares, np.ones((len(images), 1))], 1)
    targets = np.eye(CLASSES)[labels] * 8 - 4
    weights = np.linalg.solve(inputs.T @ inputs + 0.1 * np.eye(inputs.shape[1]), inputs.T @ targets)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.AveragePooling2D(8), layers.Flatten(), layers.Dense(CLASSES)]
    )
    model.set_weights([weights[:-1].astype("float32"), weights[-1].astype("float32")])
    model.save(path)
