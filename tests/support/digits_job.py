# SPDX-License-Identifier: Apache-2.0
"""A small real job for end-to-end tests: handwritten digits, a two-layer teacher, two students; and commands on it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from support import forked

TRAIN, TEST = 500, 150


def write_data(path: Path, invert: int | None = None) -> None:
    """Writes the digits as .npz; `invert` is the index of a training image to invert."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    if invert is not None:
        images[invert] = 255 - images[invert]
    np.savez(
        path,
        train_images=images[:TRAIN],
        train_labels=digits.target[:TRAIN],
        test_images=images[TRAIN : TRAIN + TEST],
        test_labels=digits.target[TRAIN : TRAIN + TEST],
        class_names=np.array([f"digit {n}" for n in range(10)]),
    )


def write_teacher(path: Path, seed: int = 0) -> None:
    """Writes a two-layer Keras teacher with a closed-form solution: random features and a ridge regression."""
    import tf_keras as keras

    with np.load(path.parent / "digits.npz") as data:
        images, labels = data["train_images"].reshape(TRAIN, -1).astype("float32"), data["train_labels"]
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(64, 256)).astype("float32") / 255 / 4
    features = np.maximum(images @ hidden, 0)
    targets = np.eye(10, dtype="float32")[labels] * 2 - 1
    gram = features.T @ features + 0.05 * np.trace(features.T @ features) / 256 * np.eye(256)
    output = np.linalg.solve(gram, features.T @ targets).astype("float32") * 4
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.set_weights([hidden, np.zeros(256, "float32"), output, np.zeros(10, "float32")])
    model.save(path)


SETTINGS = {
    "teacher": {"path": "teacher.keras", "views": 2, "view_shift": 0.125},
    "data": {"path": "digits.npz", "validation_fraction": 0.2},
    "students": {"sizes": {"small": None, "large": None}},
    "distill": {"epochs": 8, "batch_size": 50, "learning_rate": 0.01, "ema_decay": 0.9},
    "prune": {"sparsity": 0.5, "epochs": 3, "learning_rate": 0.002},
    "quantize": {"epochs": 2, "teacher_variants": ["int8"]},
    "evaluate": {"latency_runs": 5},
    "select": {"max_size": "60KB"},
    "pipeline": {"name": "tiny"},
}

# Students of few layers, for tests that do not depend on their sizes: most of a short run builds and converts layers.
FEW_LAYERS = "students.sizes={small: {size_bytes: 4500}, large: {size_bytes: 6KB}}"
# Options for a short run, for tests that do not depend on the students' accuracy either.
QUICK = [
    "--allow-near-chance",
    *(f"--set={setting}"
        for setting in (
            FEW_LAYERS, "distill.epochs=1", "prune.sparsity=0", "quantize.epochs=0", "quantize.variants=[int8]",
            "quantize.teacher_variants=[]",
        )),
]  # fmt: skip


def write_job(folder: Path) -> Path:
    """Writes data, teacher and configuration; returns the configuration's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_data(folder / "digits.npz")
    write_teacher(folder / "teacher.keras")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    return config


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs `learn2compress` in a process forked from one that has imported TFX."""
    return forked.run(forked.CLI, [*map(str, arguments)])


def fresh_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs `learn2compress` in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "learn2compress.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def states(output: str) -> dict[str, str]:
    """Reads the state of each finished node from the output: "ran" or "cached"."""
    found = {}
    for line in output.splitlines():
        if line.startswith("[") and line.rstrip()[-1] != "…":
            found[line.split()[1]] = "cached" if "cache" in line else "ran"
    return found
