# SPDX-License-Identifier: Apache-2.0
"""Runs every file on every held-out image in a Beam pipeline, separate from the node, so that workers import no TFX.

    shard x files ─► read the shard once, run each file ─► by (split, file) ─► join in the order of the shards ─► tally
    on disk

A piece of work is a shard with all files, so that each shard is decompressed and parsed once: for small files this
takes longer than inference. If there are fewer shards than the workers need, each shard is assigned several times, each
time with a part of the files. Only one batch of a shard's images is in memory at a time. A worker opens a file once and
keeps it open. Beam groups some twenty bytes for each image and file, and no pixels. Workers on several machines share
the folders of the inputs and of the tallies, or have an exchange (exchange.py).
"""

import dataclasses
import hashlib
import os
import pickle
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from learn2compress.components.beam.exchange import Exchange, fetch, fetched, write
from learn2compress.components.beam.signals import Signals, Worker
from learn2compress.data.stored_examples import (
    bounded_batch,
    read_shard,
    read_teacher_classes,
    stack_contents,
    with_teacher,
)
from learn2compress.evaluation.measure import Batch, Tally, Tallying, join
from learn2compress.modalities import OpenedClassifier, modality_of
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import Split, Task
from learn2compress.tflite.model_file import read_bytes

# Images in memory at a time, and their bytes: a float input of large images takes four times as many.
BATCH, BATCH_BYTES = 128, 4 << 20
# Pieces are assigned before work begins; with a few for each worker, the workers finish at about the same time.
PIECES_A_WORKER = 3
# Assumed number of workers of a runner other than the direct one, whose options do not state it.
_WORKERS_ELSEWHERE = 16


@dataclass(frozen=True)
class ModelToRun:
    """A file to run, and the digest that its content must have."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Shard:
    """A shard of held-out images.

    Attributes:
        split: Split of the images.
        order: Index of the shard in its split.
        examples: Path of the shard of Examples.
        logits: Path of the corresponding shard of TeacherLogits; None if there is no teacher.
    """

    split: Split
    order: int
    examples: str
    logits: str | None


@dataclass(frozen=True)
class Piece:
    """A shard and the files to run on it: all that a worker needs."""

    shard: Shard
    models: tuple[ModelToRun, ...]
    task: Task


def cut_pieces(shards: Sequence[Shard], models: Sequence[ModelToRun], task: Task, least: int) -> list[Piece]:
    """Divides the work: each shard once with all files, or, if shards are few, several times with a part of the files.

    Args:
        shards: Shards of all splits.
        models: Files to run.
        task: Task of the examples.
        least: Minimum number of pieces, as far as shards times files allow.
    """
    if not shards or not models:
        return []
    parts = min(len(models), -(-least // len(shards)))
    return [Piece(shard, tuple(models[part::parts]), task) for shard in shards for part in range(parts)]


def run_models(
    pipeline: beam.Pipeline, shards: Sequence[Shard], models: Sequence[ModelToRun], task: Task, folder: Path
) -> dict[tuple[Split, str], Tally]:
    """Runs the pipeline.

    Args:
        pipeline: Beam pipeline, not yet run.
        shards: Shards of all splits.
        models: Files to run on each shard.
        task: Task of the examples.
        folder: Folder for the tallies; created if it does not exist.

    Returns:
        The tallies by split and name of the file.

    Raises:
        ModelFileError: A file has changed since it was described, or the runtime fails on it.
        DataError: A shard is damaged, or the teacher's logits are of other examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Exchange.of(pipeline.options) as exchange:
        there = exchange.folder(folder)
        offered = [_offer_shard(shard, exchange) for shard in shards]
        files = [dataclasses.replace(model, path=exchange.offer(model.path)) for model in models]
        pieces = cut_pieces(offered, files, task, PIECES_A_WORKER * workers_of(pipeline.options))
        signals = Signals(f"{there}/signals")
        with signals.running(pipeline, exchange, "evaluation: part", {_done(piece): 1 for piece in pieces}):
            _ = (
                pipeline
                | "Pieces" >> beam.Create(pieces, reshuffle=False)
                | "Distribute" >> beam.Reshuffle()
                | "Run" >> beam.ParDo(RunModels(signals))
                | "BySplitAndFile" >> beam.GroupByKey()
                | "Join" >> beam.ParDo(WriteTally(there, signals))
            )
        exchange.take(there, folder)
    _open_models.clear()  # of a runner with its threads in this process
    tallies = {}
    for split, name in {(shard.split, model.name): None for model in models for shard in shards}:
        if (folder / _tally_name(split, name)).exists():  # a split without images has no tally
            tallies[split, name] = read_tally(folder, split, name)
    return tallies


def read_tally(folder: Path, split: Split, name: str) -> Tally:
    """Reads a tally that WriteTally wrote."""
    return pickle.loads((folder / _tally_name(split, name)).read_bytes())


class RunModels(Worker):
    """Runs files on a shard, one batch of images after another."""

    def __init__(self, signals: Signals | None = None) -> None:
        self.signals = signals

    def work(self, piece: Piece) -> Iterator[tuple[tuple[str, str], tuple[int, Tally]]]:
        tallying = {model.name: Tallying(_opened(model, piece.task), piece.task) for model in piece.models}
        seen = False
        for batch in read_batches(piece.shard, piece.task):
            seen = True
            for running in tallying.values():
                running.add(batch)
        if seen:
            for name, running in tallying.items():
                yield (piece.shard.split, name), (piece.shard.order, running.tally())
        self.tell_done(_done(piece))


class WriteTally(Worker):
    """Joins a file's tallies of all shards of a split, and writes the result."""

    def __init__(self, folder: str, signals: Signals | None = None) -> None:
        self.folder, self.signals = folder, signals

    def work(self, element: tuple[tuple[str, str], Iterable[tuple[int, Tally]]]) -> None:
        (split, name), parts = element
        joined = join([part for _, part in sorted(parts, key=lambda part: part[0])])
        write(f"{self.folder}/{_tally_name(split, name)}", pickle.dumps(joined))


def read_batches(shard: Shard, task: Task) -> Iterator[Batch]:
    """Streams the examples of a shard in batches, with the teacher's classes."""
    with ExitStack() as copies:
        examples = copies.enter_context(fetched(shard.examples))
        logits = copies.enter_context(fetched(shard.logits)) if shard.logits else None
        teacher = read_teacher_classes(logits, len(task.classes)) if logits else None
        pairs = with_teacher(read_shard(examples, task), teacher, examples)
        size = bounded_batch(task, BATCH, BATCH_BYTES)
        while some := list(islice(pairs, size)):
            yield Batch(
                ids=np.array([int(example.id, 16) for example, _ in some], np.uint64),
                sources=[example.source for example, _ in some],
                labels=np.array([example.label for example, _ in some], np.int32),
                examples=stack_contents([example for example, _ in some]),
                teacher=None if teacher is None else np.array([label for _, label in some], np.int32),
            )


# An interpreter must stay in its thread, and a worker process may have several threads.
_open_models: dict[tuple[int, str], OpenedClassifier] = {}


def _opened(model: ModelToRun, task: Task) -> OpenedClassifier:
    key = threading.get_ident(), model.sha256
    if key not in _open_models:
        data = read_bytes(fetch(model.path))
        digest = hashlib.sha256(data).hexdigest()
        if digest != model.sha256:
            raise ModelFileError(
                f"{model.path} must have SHA-256 {model.sha256}; got {digest}: "
                "it changed while it was evaluated. Run again."
            )
        _open_models[key] = modality_of(task).device_format.open_classifier(data, file=model.path)
    return _open_models[key]


def workers_of(options: PipelineOptions) -> int:
    """Returns the number of a runner's workers, or a generous estimate if its options do not state it."""
    runner = options.view_as(StandardOptions).runner or ""
    if runner and not runner.endswith(("DirectRunner", "FnApiRunner")):
        return _WORKERS_ELSEWHERE
    # Without a number the runner starts one worker for each core.
    return options.view_as(DirectOptions).direct_num_workers or os.cpu_count() or 1


def _offer_shard(shard: Shard, exchange: Exchange) -> Shard:
    logits = exchange.offer(shard.logits) if shard.logits else None
    return dataclasses.replace(shard, examples=exchange.offer(shard.examples), logits=logits)


def _done(piece: Piece) -> str:
    """Names a piece of work."""
    models = hashlib.sha256("\n".join(model.name for model in piece.models).encode()).hexdigest()[:16]
    return f"{piece.shard.split}-{piece.shard.order}-{models}"


def _tally_name(split: str, name: str) -> str:
    return f"{split}-{name}.tally"
