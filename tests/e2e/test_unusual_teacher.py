# SPDX-License-Identifier: Apache-2.0
"""A whole run of what cannot be known: each refusal's remedy is followed, until the run ends.

The teacher is of half precision and has two outputs of one name; labels begin at 1; validation images are MedMNIST's.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.digits_job import QUICK, command

from learn2compress.schemas.manifests import DataManifest, TeacherManifest, read_manifest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SPLITS = {"train": slice(0, 500), "val": slice(500, 650), "test": slice(650, 800)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Writes the data, the teacher and the configuration."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    arrays = {f"{part}_images": images[rows] for part, rows in SPLITS.items()}
    np.savez(
        tmp_path / "digits.npz",
        **arrays,
        **{f"{part}_labels": digits.target[rows, None] + 1 for part, rows in SPLITS.items()},
    )
    inputs = images[SPLITS["train"]].reshape(500, 64).astype("float64")
    weights = np.linalg.solve(inputs.T @ inputs + 1e5 * np.eye(64), inputs.T @ (np.eye(10)[digits.target[:500]] - 0.1))
    policy = keras.mixed_precision.Policy("mixed_bfloat16")
    inner = keras.Input((8, 8, 1), dtype="float32")
    flat = keras.layers.Flatten(dtype=policy)(inner)
    heads = [keras.layers.Dense(10, activation="softmax", dtype=policy) for _ in range(2)]
    body = keras.Model(inner, [head(flat) for head in heads], name="body")
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, body(image))
    heads[1].set_weights([20 * weights, np.zeros(10)])
    model.save(tmp_path / "teacher.keras")
    path = tmp_path / "config.yaml"
    path.write_text("teacher: {path: teacher.keras}\ndata: {path: digits.npz}\nstudents: {sizes: {small: , large: }}\n")
    return path


def test_run_ends_once_the_remedies_of_its_refusals_are_followed(config, tmp_path):
    output = tmp_path / "out"
    first = command("run", config, "--output", output, *QUICK)
    assert first.returncode == 2
    assert "Set data.label_offset: 1 (evaluate: --label-offset 1)" in first.stderr

    second = command("run", config, "--output", output, *QUICK, "--set=data.label_offset=1")
    assert second.returncode == 2
    assert "got 0: body [?, 10], 1: body [?, 10]. Set teacher.output, for instance teacher.output: 1" in second.stderr

    settings = [*QUICK, "--set=data.label_offset=1", "--set=teacher.output=1"]
    third = command("run", config, "--output", output, *settings)
    assert third.returncode == 0, third.stdout + third.stderr
    [examples] = (output / "pipeline" / "ImageExampleGen" / "examples").iterdir()
    assert read_manifest(examples, DataManifest).counts == {"train": 500, "validation": 150, "test": 150}
    [teacher] = (output / "pipeline" / "TeacherImporter" / "teacher").iterdir()
    found = read_manifest(teacher, TeacherManifest)
    assert found.output == "probabilities"
    assert found.accuracy["test"] > 0.7
