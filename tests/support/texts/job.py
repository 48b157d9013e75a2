# SPDX-License-Identifier: Apache-2.0
"""Makes a small real job of texts: messages of the example, a teacher of strings in closed form, two students."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import yaml

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "text"
SETTINGS = {
    "teacher": {"path": "teacher.keras", "views": 2},
    "data": {"path": "messages.csv", "unlabeled": "unlabeled.csv"},
    "students": {"sizes": {"small": {"size_bytes": "3500"}, "large": {"size_bytes": "6KB"}}},
    "distill": {"epochs": 8, "batch_size": 50},
    "prune": {"sparsity": 0.0},
    "quantize": {"variants": ["int8"]},
    "evaluate": {"latency_runs": 5},
    "pipeline": {"name": "texts"},
}


def load_messages() -> Any:
    """Imports the example's script that makes messages."""
    spec = importlib.util.spec_from_file_location("make_messages", EXAMPLE / "make_messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_teacher(path: Path, rows: list[dict[str, str]]) -> None:
    """Writes a teacher of strings: a bag of words with a closed-form ridge regression."""
    import tf_keras as keras

    texts, classes = [row["text"] for row in rows], sorted({row["label"] for row in rows})
    vectorize = keras.layers.TextVectorization(max_tokens=400, output_mode="multi_hot")
    vectorize.adapt(texts)
    bags = vectorize(texts).numpy()
    targets = np.eye(len(classes), dtype="float32")[[classes.index(row["label"]) for row in rows]] * 2 - 1
    kernel = np.linalg.solve(bags.T @ bags + 2 * np.eye(bags.shape[1]), bags.T @ targets).astype("float32") * 4
    text = keras.Input((), dtype="string")
    model = keras.Model(text, keras.layers.Dense(len(classes), name="scores")(vectorize(text)))
    model.get_layer("scores").set_weights([kernel, np.zeros(len(classes), "float32")])
    model.save(path)


def write_job(folder: Path) -> Path:
    """Writes data, teacher and configuration; returns the configuration's path."""
    make_messages = load_messages().make_messages
    folder.mkdir(parents=True, exist_ok=True)
    tables = (("messages.csv", 500, 1, ("text", "label", "group", "split")), ("unlabeled.csv", 600, 2, ("text",)))
    for name, count, seed, columns in tables:
        with open(folder / name, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(make_messages(count, seed))
    write_teacher(folder / "teacher.keras", make_messages(1500, 3))
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    return config
