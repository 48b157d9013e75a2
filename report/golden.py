# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: a few test images, and what the chosen file makes of them.

An app that shows the same scores for them decodes, scales and runs as the pipeline does. Each vector has the picture,
for the whole way, and the bytes of the input and output tensors, for a check of the runtime alone.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from learn2compress.data.stored_examples import StoredExample, read_shard
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DataManifest, Task
from learn2compress.tflite.interpreter import Classifier

FOLDER = "golden"
INDEX = "golden/golden.json"
VECTORS = 8
LEAST_VECTORS = 2
INPUT_BYTES = 2_000_000  # of all vectors together, beyond the least
SEARCHED = 2_000  # examples among which one of each class is looked for
# By how much a score may differ in another runtime: some steps of an 8-bit output; of floats, their order of summing.
QUANTIZED_STEPS = 4
FLOAT_TOLERANCE = 1e-3


def golden_examples(examples: str | Path, data: DataManifest, count: int = VECTORS) -> list[StoredExample]:
    """Picks test images: the first of each class in the order of the split, which is that of their ids.

    Args:
        examples: Folder of Examples.
        data: Its manifest.
        count: Of images; fewer where there are fewer classes.

    Raises:
        DataError: A shard is missing, cut short or damaged, or all are empty.
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
    classifier: Classifier, task: Task, examples: Sequence[StoredExample], model: str, sha256: str
) -> dict[str, bytes]:
    """Runs a file on images and writes down what goes in and comes out.

    Args:
        classifier: The opened file.
        task: What it classifies.
        examples: Test examples.
        model: The file's name.
        sha256: Its digest.

    Returns:
        Contents by path.
    """
    files: dict[str, bytes] = {}
    vectors = []
    kind = modality_of(task)
    write_example = kind.presentation(task).golden_file
    source, result = classifier.model.input, classifier.model.output
    tolerance = QUANTIZED_STEPS * result.scale[0] if result.quantized else FLOAT_TOLERANCE
    for number, example in enumerate(examples[: _affordable(source.bytes)]):
        content = example.content
        entered, left = classifier.predict_raw(content)
        scores = classifier.predict(content[None])[0]
        stem = f"{FOLDER}/{number}"
        suffix, written = write_example(content)
        files |= {
            f"{stem}{suffix}": written,
            f"{stem}.input.bin": np.ascontiguousarray(entered, entered.dtype.newbyteorder("<")).tobytes(),
            f"{stem}.output.bin": np.ascontiguousarray(left, left.dtype.newbyteorder("<")).tobytes(),
        }
        vectors.append(
            {
                kind.name: f"{stem}{suffix}",
                "input": f"{stem}.input.bin",
                "output": f"{stem}.output.bin",
                "id": example.id,
                "label": example.label,
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


def _affordable(input_bytes: int) -> int:
    return max(LEAST_VECTORS, min(VECTORS, INPUT_BYTES // input_bytes))
