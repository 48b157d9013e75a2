# SPDX-License-Identifier: Apache-2.0
"""Any .tflite classifiers on any labelled examples, without a pipeline: what `learn2compress evaluate` does.

The examples are streamed from their source once, and each file sees them in turn.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learn2compress.data.raw_examples import ExampleSource, RawExample
from learn2compress.evaluation.measure import (
    Batch,
    Identity,
    Tallying,
    describe,
    figures_of,
    measure_latency,
)
from learn2compress.modalities import modality_named, modality_of
from learn2compress.schemas.config import EvaluateConfig
from learn2compress.schemas.errors import DataError, ModelFileError
from learn2compress.schemas.manifests import BadFile, Task
from learn2compress.schemas.reports import Candidate
from learn2compress.schemas.scaling import Scaling
from learn2compress.tflite.interpreter import Classifier

BATCH = 256


class FileEvaluation(NamedTuple):
    """The results of an evaluation."""

    candidates: list[Candidate]  # in the order of the files; figures under `test`
    part: str  # "test", or "all" if the data has no parts
    skipped: list[BadFile]


def evaluate_files(
    files: Sequence[Path],
    source: ExampleSource,
    config: EvaluateConfig,
    scaling: Scaling | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FileEvaluation:
    """Measure files on the test part of a source, or on all examples if it has no parts.

    Args:
        files: .tflite files. A file that is not a classifier for the data is returned as failed.
        source: The examples, which are resized to each file's input shape.
        config: Settings of the measurement.
        scaling: Pixel scaling of float files; by default from their metadata, or none.
        on_progress: Called with the number of images that are done and the total.

    Raises:
        DataError: The source is broken, or has no suitable image.
        ModelFileError: A file does not exist.
    """
    part = "test" if "test" in source.counts else None if None in source.counts else next(iter(source.counts))
    opened = [_open(path, source, scaling) for path in files]
    tallying = [None if classifier is None else Tallying(classifier) for _, classifier in opened]
    skipped: list[BadFile] = []
    done, total = 0, source.counts[part]
    examples = _examples(source, part, skipped)
    while some := list(islice(examples, BATCH)):
        batches: dict[tuple[int, ...], Batch] = {}
        for (_, classifier), running in zip(opened, tallying, strict=True):
            if classifier is not None and running is not None:
                shape = classifier.input_shape
                if shape not in batches:
                    batches[shape] = _batch(some, _task(source, shape), done)
                running.add(batches[shape])
        done += len(some)
        if on_progress:
            on_progress(done, total)
    if not done:
        raise DataError(f"the data must hold images that can be read; all {len(skipped)} were skipped. Check the path.")
    candidates = []
    for path, (candidate, _), running in zip(files, opened, tallying, strict=True):
        if running is not None:
            figures = figures_of(running.tally(), len(source.classes), config.top_k)
            latency = measure_latency(path, config.threads, config.latency_runs, source.modality)
            candidate = candidate.model_copy(update={"figures": {"test": figures}, "latency": latency})
        candidates.append(candidate)
    return FileEvaluation(candidates, part or "all", skipped)


def _open(path: Path, source: ExampleSource, scaling: Scaling | None) -> tuple[Candidate, Classifier | None]:
    """Describe a file, and open it if it is a classifier with as many classes as the data."""
    given = {} if scaling is None else {"mean": scaling.mean, "std": scaling.std}
    identity = Identity(name=path.stem, student=path.stem, variant="", file=str(path))
    try:
        classifier = modality_named(source.modality).device_format.open_classifier(path, **given)
        shape = classifier.input_shape
    except ModelFileError:
        classifier, shape = None, (1, 1, 1)
    candidate = describe(path, identity, _task(source, shape), classifier)
    return candidate, None if candidate.failed else classifier


def _task(source: ExampleSource, shape: tuple[int, ...]) -> Task:
    return Task(modality=source.modality, input_shape=shape, classes=list(source.classes))


def _examples(source: ExampleSource, part: str | None, skipped: list[BadFile]) -> Iterator[RawExample]:
    for piece in source.pieces:
        for example in piece.read():
            if isinstance(example, BadFile):
                skipped.append(example)
            elif example.part == part:
                yield example


def _batch(examples: Sequence[RawExample], task: Task, first: int) -> Batch:
    records = modality_of(task).records(task)
    return Batch(
        ids=np.arange(first, first + len(examples), dtype=np.uint64),
        sources=[example.source for example in examples],
        labels=np.array([example.label for example in examples], np.int32),
        examples=records.decode([records.encode(records.fit(example.content)) for example in examples]),
        teacher=None,
    )
