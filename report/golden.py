# SPDX-License-Identifier: Apache-2.0
"""Writes golden vectors: a few test images with the input and output tensors of the chosen file.

An app that computes the same scores for them decodes, scales and runs the model as the pipeline does. Each vector has
the picture, to check the whole path, and the bytes of the input and output tensors, to check the runtime alone.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from learn2compress.data.stored_examples import StoredExample, read_shard
from learn2compress.modalities import OpenedClassifier, modality_of
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DataManifest, Task

FOLDER = "golden"
INDEX = "golden/golden.json"
VECTORS = 8
LEAST_VECTORS = 2
INPUT_BYTES = 2_000_000  # limit for all vectors together, apart from the least number of vectors
SEARCHED = 2_000  # number of examples that are searched for one of each class
# Tolerances for another runtime: a few steps of an 8-bit output; the summation order of floats.
QUANTIZED_STEPS = 4
FLOAT_TOLERANCE = 1e-3


def golden_examples(examples: str | Path, data: DataManifest, count: int = VECTORS) -> list[StoredExample]:
    """Pick the first test image of each class in the order of the split, which is sorted by id.

    Args:
        examples: Folder of the Examples artifact.
        data: Manifest of the artifact.
        count: Number of images; fewer are picked if there are fewer classes.

    Returns:
        The examples.

    Raises:
        DataError: A shard is missing, truncated or damaged, or all are empty.
    """
    stream = _stream(Path(examples), data)
    chosen: dict[int, StoredExample] = {}
    for example in islice(stream, SEARCHED):
        chosen.setdefault(example.label, example)
        if len(chosen) == min(count, len(data.task.classes)):
            break
    if not chosen:
        raise DataError(f"the test split of {examples} must hold images; it is empty. Run the pipeline again.")
    return list(chosen.values())


def golden_files(
    classifier: OpenedClassifier, task: Task, examples: Sequence[StoredExample], model: str, sha256: str
) -> dict[str, bytes]:
    """Run a file on images and record its input and output tensors.

    Args:
        classifier: The opened file.
        task: The classification task.
        examples: Test examples.
        model: Name of the file.
        sha256: SHA-256 of the file.

    Returns:
        Contents of the golden files by path.
    """
    files: dict[str, bytes] = {}
    vectors = []
    modality = modality_of(task)
    presentation, records = modality.presentation(task), modality.records(task)
    source, result = classifier.model.input, classifier.model.output
    tolerance = QUANTIZED_STEPS * result.scale[0] if result.quantized else FLOAT_TOLERANCE
    chosen: list[tuple[Any, str | None, int | None]] = [
        (one.content, one.id, one.label) for one in examples[: _vector_count(source.bytes)]
    ]
    chosen += [(content, None, None) for content in presentation.golden_extras]
    for number, (stored, identity, label) in enumerate(chosen):
        batch = modality.device_format.fit(records.decode([records.encode(stored)]), classifier)
        content = batch[0]
        entered, left = classifier.predict_raw(content)
        scores = classifier.predict(batch)[0]
        stem = f"{FOLDER}/{number}"
        suffix, written = presentation.golden_file(content)
        files |= {
            f"{stem}{suffix}": written,
            f"{stem}.input.bin": np.ascontiguousarray(entered, entered.dtype.newbyteorder("<")).tobytes(),
            f"{stem}.output.bin": np.ascontiguousarray(left, left.dtype.newbyteorder("<")).tobytes(),
        }
        vectors.append(
            {
                modality.name: f"{stem}{suffix}",
                "input": f"{stem}.input.bin",
                "output": f"{stem}.output.bin",
                "id": identity,
                "label": label,
                "predicted": int(np.argmax(scores)),
                "scores": [float(score) for score in scores],
            }
        )
    index = {
        "model": model,
        "sha256": sha256,
        "input": {"dtype": source.dtype, "shape": list(source.shape)},
        "output": {
            "dtype": result.dtype,
            "shape": list(result.shape),
            "scale": result.scale[0] if result.quantized else None,
            "zero_point": result.zero_point[0] if result.quantized else None,
        },
        "byte_order": "little",
        "tolerance": tolerance,
        "vectors": vectors,
    }
    files[INDEX] = (json.dumps(index, indent=1) + "\n").encode()
    return files


def _stream(examples: Path, data: DataManifest) -> Iterator[StoredExample]:
    for shard in data.shards["test"]:
        yield from read_shard(examples / "Split-test" / shard, data.task)


def _vector_count(input_bytes: int) -> int:
    return max(LEAST_VECTORS, min(VECTORS, INPUT_BYTES // input_bytes))
