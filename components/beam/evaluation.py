# SPDX-License-Identifier: Apache-2.0
"""The Beam pipeline that runs every file on every held-out image; apart from the node, so that workers
import no TFX.

    (shard x file) ─► run the file on the shard ─► by (split, file) ─► join in the shards' order ─► a tally
    on disk

A worker opens a file once and keeps it. What is grouped is some twenty bytes an image and file, not pixels.
Workers on several machines must share the folders of the inputs and of the tallies.
"""

import hashlib
import pickle
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import apache_beam as beam
import numpy as np

from learn2compress.components.beam.options import user_errors
from learn2compress.data.stored_examples import read_shard, read_teacher_classes, stack_contents, with_teacher
from learn2compress.evaluation.measure import Batch, Tally, join, tally
from learn2compress.modalities import modality_of
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import Split, Task
from learn2compress.tflite.interpreter import Classifier
from learn2compress.tflite.model_file import read_bytes

BATCH = 128


@dataclass(frozen=True)
class ModelToRun:
    """A file and the content it must have."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Piece:
    """A shard for a file to be run on. Carries all that a worker must know.

    Attributes:
        order: Place of the shard in its split.
        examples: The shard of Examples.
        logits: The shard of TeacherLogits beside it.
    """

    split: Split
    order: int
    examples: str
    logits: str | None
    model: ModelToRun
    task: Task


def run_models(pipeline: beam.Pipeline, pieces: Sequence[Piece], folder: Path) -> dict[tuple[Split, str], Tally]:
    """Runs the pipeline.

    Args:
        pipeline: Not yet run.
        pieces: Shards times files.
        folder: Where the tallies go; made if it is not there.

    Returns:
        The tally of each split and file by its name.

    Raises:
        ModelFileError: A file has changed since it was described, or the runtime fails on it.
        DataError: A shard is damaged, or the teacher's logits are of other examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with user_errors(), pipeline:
        _ = (
            pipeline
            | "Pieces" >> beam.Create(list(pieces), reshuffle=False)
            | "Share" >> beam.Reshuffle()
            | "Run" >> beam.ParDo(RunModel())
            | "BySplitAndFile" >> beam.GroupByKey()
            | "Join" >> beam.ParDo(WriteTally(str(folder)))
        )
    tallies = {}
    for split, name in {(piece.split, piece.model.name): None for piece in pieces}:
        if (folder / _tally_name(split, name)).exists():  # there is none for a split without images
            tallies[split, name] = read_tally(folder, split, name)
    return tallies


def read_tally(folder: Path, split: Split, name: str) -> Tally:
    """Reads what WriteTally wrote."""
    return pickle.loads((folder / _tally_name(split, name)).read_bytes())


class RunModel(beam.DoFn):
    """Runs a file on a shard."""

    def process(self, piece: Piece) -> Iterator[tuple[tuple[str, str], tuple[int, Tally]]]:
        parts = [tally(_opened(piece.model, piece.task), [batch]) for batch in read_batches(piece)]
        if parts:
            yield (piece.split, piece.model.name), (piece.order, join(parts))


class WriteTally(beam.DoFn):
    """Joins what a file made of the shards of a split."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, element: tuple[tuple[str, str], Iterable[tuple[int, Tally]]]) -> None:
        (split, name), parts = element
        joined = join([part for _, part in sorted(parts, key=lambda part: part[0])])
        Path(self.folder, _tally_name(split, name)).write_bytes(pickle.dumps(joined))


def read_batches(piece: Piece) -> Iterator[Batch]:
    """Streams the images of a piece."""
    examples = read_shard(piece.examples, piece.task)
    teacher = read_teacher_classes(piece.logits, len(piece.task.classes)) if piece.logits else None
    pairs = with_teacher(examples, teacher, piece.examples)
    while some := list(islice(pairs, BATCH)):
        yield Batch(
            ids=np.array([int(example.id, 16) for example, _ in some], np.uint64),
            sources=[example.source for example, _ in some],
            labels=np.array([example.label for example, _ in some], np.int32),
            examples=stack_contents([example for example, _ in some]),
            teacher=None if teacher is None else np.array([label for _, label in some], np.int32),
        )


# An interpreter belongs to its thread; a worker process may have several.
_open_models = threading.local()


def _opened(model: ModelToRun, task: Task) -> Classifier:
    known = _open_models.__dict__.setdefault("by_sha256", {})
    if model.sha256 not in known:
        data = read_bytes(model.path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != model.sha256:
            raise ModelFileError(
                f"{model.path} must have SHA-256 {model.sha256}; got {digest}: "
                "it changed while it was evaluated. Run again."
            )
        known[model.sha256] = modality_of(task).device_format.open_classifier(data, file=model.path)
    return known[model.sha256]


def _tally_name(split: str, name: str) -> str:
    return f"{split}-{name}.tally"
