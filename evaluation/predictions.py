# SPDX-License-Identifier: Apache-2.0
"""Stores what each file predicts for each held-out image: a class and a confidence, four bytes together.

`predictions.npz` holds, for each split, arrays over its images in the order of the examples:

    <split>/ids                  uint64, the examples' ids
    <split>/labels               int32
    <split>/teacher              int32, the teacher's class; absent if there is no teacher
    <split>/<model>/class        int16
    <split>/<model>/confidence   float16, of that class, in [0, 1]

Two files can therefore be compared image by image (McNemar's test, flips) without running them again.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from learn2compress.schemas.errors import Learn2CompressError
from learn2compress.schemas.files.arrays import write_arrays
from learn2compress.schemas.manifests import Split

PREDICTIONS = "predictions.npz"
# What NumPy and zipfile raise on bytes that are no archive, or a damaged one.
_DAMAGED = (
    *(OSError, ValueError, KeyError, EOFError, IndexError, TypeError, RuntimeError, SyntaxError, MemoryError),
    *(BadZipFile, zlib.error, struct.error),
)


class ModelPredictions(NamedTuple):
    """Predictions of one file on the images of one split, or on a part of them."""

    classes: np.ndarray  # [images] int16
    confidences: np.ndarray  # [images] float16


class SplitPredictions(NamedTuple):
    """Predictions of all files on one split."""

    ids: np.ndarray  # [images] uint64
    labels: np.ndarray  # [images] int32
    teacher: np.ndarray | None  # [images] int32
    models: dict[str, ModelPredictions]


def write_predictions(path: str | Path, splits: dict[Split, SplitPredictions]) -> None:
    """Write the predictions of all splits to an .npz file.

    Raises:
        OSError: It cannot be written; the former file is as it was.
    """
    arrays: dict[str, Any] = {}
    for split, predictions in splits.items():
        arrays[f"{split}/ids"] = predictions.ids.astype(np.uint64)
        arrays[f"{split}/labels"] = predictions.labels.astype(np.int32)
        if predictions.teacher is not None:
            arrays[f"{split}/teacher"] = predictions.teacher.astype(np.int32)
        for name, model in predictions.models.items():
            arrays[f"{split}/{name}/class"] = model.classes.astype(np.int16)
            arrays[f"{split}/{name}/confidence"] = model.confidences.astype(np.float16)
    write_arrays(Path(path), arrays)


def read_predictions(path: str | Path) -> dict[Split, SplitPredictions]:
    """Read a file written by `write_predictions`.

    Raises:
        Learn2CompressError: The file is missing or has other contents.
    """
    try:
        with np.load(path) as arrays:
            splits = {}
            for key in arrays.files:
                split, _, array = key.partition("/")
                if array == "ids":
                    splits[split] = SplitPredictions(
                        arrays[key],
                        arrays[f"{split}/labels"],
                        arrays[f"{split}/teacher"] if f"{split}/teacher" in arrays.files else None,
                        {
                            name.split("/")[1]: ModelPredictions(
                                arrays[name], arrays[name.removesuffix("class") + "confidence"]
                            )
                            for name in arrays.files
                            if name.startswith(f"{split}/") and name.endswith("/class")
                        },
                    )
            return splits
    except _DAMAGED as error:
        raise Learn2CompressError(f"{path} must be a file of predictions; {error}.") from error


def validation_correctness(path: str | Path) -> dict[str, np.ndarray]:
    """Read the correctness on validation images, [images] bool by model, as used by `choose`."""
    validation = read_predictions(path).get("validation")
    if validation is None:
        return {}
    images = validation.labels.shape
    strange = next((name for name, model in validation.models.items() if model.classes.shape != images), None)
    if strange is not None:
        raise Learn2CompressError(f"{path} must be a file of predictions; those of {strange} are not one an image.")
    return {name: model.classes == validation.labels for name, model in validation.models.items()}
