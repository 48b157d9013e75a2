# SPDX-License-Identifier: Apache-2.0
"""Any .tflite classifiers on any labelled examples, without a pipeline: what `learn2compress evaluate` does.

The examples are streamed from their source once, and each file sees them in turn. A file that cannot be measured, at
whichever step, is returned as failed, and the others are measured all the same.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learn2compress.data.raw_examples import ExampleSource, Part, RawExample
from learn2compress.evaluation.examination.classes import DataClasses
from learn2compress.evaluation.examination.tflite_file import Choices, ExaminedFile, examine, judge, open_options
from learn2compress.evaluation.measure import (
    Batch,
    Identity,
    Tallying,
    describe,
    figures_of,
    measure_latency,
)
from learn2compress.modalities import modality_of
from learn2compress.schemas.config import EvaluateConfig
from learn2compress.schemas.errors import DataError, ModelFileError
from learn2compress.schemas.manifests import BadFile, Task
from learn2compress.schemas.reports import Candidate
from learn2compress.tflite.model_file import read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

BATCH = 256
_PARTS: tuple[Part, ...] = ("test", None, "validation", "train")  # the first that the data have is measured
SAMPLE = 128  # images on which other readings of a file are tried


class FileEvaluation(NamedTuple):
    """The results of an evaluation."""

    candidates: list[Candidate]  # in the order of the files; figures under `test`
    part: str  # "test", "all" if the data have no parts, or "validation" or "train" if they have no test part
    skipped: list[BadFile]
    notes: list[str] = []  # what may not be meant so in the data


def evaluate_files(
    files: Sequence[Path],
    source: ExampleSource,
    config: EvaluateConfig,
    choices: Choices | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FileEvaluation:
    """Measure files on the test part of a source, on all examples if it has no parts, or on another part, and say so.

    Args:
        files: .tflite files. A file that is not a classifier for the data is returned as failed.
        source: The examples, which are resized to each file's input shape.
        config: Settings of the measurement.
        choices: What the user says of the files; what is left open is read from each file.
        on_progress: Called with the number of images that are done and the total.

    Raises:
        DataError: The source is broken, or has no suitable image.
    """
    choices = (choices or Choices())._replace(example_shape=source.example_shape or _first_shape(source))
    part: Part = next(part for part in _PARTS if part in source.counts)
    measured = [_Measured(path, source, choices) for path in files]
    skipped: list[BadFile] = []
    done, total = 0, source.counts[part]
    examples = _examples(source, part, skipped)
    while some := list(islice(examples, BATCH)):
        batches: dict[tuple[int, ...], Batch] = {}
        for file in measured:
            if file.examined is not None:
                shape = file.examined.classifier.input_shape
                if shape not in batches:
                    batches[shape] = _batch(some, _task(source, shape), done)
                file.add(batches[shape], max(1, total // SAMPLE))
        done += len(some)
        if on_progress:
            on_progress(done, total)
    if not done:
        raise DataError(f"the data must hold images that can be read; all {len(skipped)} were skipped. Check the path.")
    candidates = [file.finish(config) for file in measured]
    notes = [*source.notes, *_other_part(part), *_without_images(source, measured)]
    return FileEvaluation(candidates, part or "all", skipped, notes)


class _Measured:
    """A file while it is measured."""

    def __init__(self, path: Path, source: ExampleSource, choices: Choices) -> None:
        self._path, self._source, self._choices = path, source, choices
        self._identity = Identity(name=path.stem, student=path.stem, variant="", file=str(path))
        self._sample: list[tuple[np.ndarray, np.ndarray]] = []
        self.labels = np.zeros(len(source.classes), np.int64)  # images of each class
        self.examined: ExaminedFile | None = None
        try:
            self._parsed: ParsedFile = parse_file(read_bytes(path), file=str(path))
            data = DataClasses(source.classes, source.named, choices.classes_stated)
            examined = examine(self._parsed, source.modality, data, choices)
            task = _task(source, examined.classifier.input_shape)
            self.candidate = describe(path, self._identity, task, examined.classifier)
            self._tallying = Tallying(examined.classifier)
            self.examined = None if self.candidate.failed else examined
        except ModelFileError as error:
            self._fail(error)

    def add(self, batch: Batch, every: int) -> None:
        """Run the file on some images, and keep each `every`-th for trying other readings."""
        try:
            self._tallying.add(batch)
        except ModelFileError as error:
            self._fail(error)
        chosen = np.flatnonzero(batch.ids.astype(np.int64) % every == 0)
        if len(chosen):
            self._sample.append((batch.examples[chosen], batch.labels[chosen]))
        self.labels += np.bincount(batch.labels, minlength=len(self.labels))

    def finish(self, config: EvaluateConfig) -> Candidate:
        """Judge the figures, measure the latency and return all."""
        if self.examined is None:
            return self.candidate
        examined, source = self.examined, self._source
        try:
            tally = self._tallying.tally()
            if not np.isfinite(tally.confidences).all():
                doubtful = int((~np.isfinite(tally.confidences)).sum())
                raise ModelFileError(
                    f"{self._path} must return finite scores; got NaN or infinity for {doubtful} of "
                    f"{len(tally.confidences)} images. Check its weights, and give --scaling."
                )
            images, labels = (np.concatenate(parts) for parts in zip(*self._sample, strict=True))
            right = tally.ranks == 0
            judge(examined, self._parsed, right, tally.labels, (images, labels), source.modality, self._choices)
            options = open_options(self._choices)
            latency = measure_latency(self._path, config.threads, config.latency_runs, source.modality, **options)
        except ModelFileError as error:
            self._fail(error)
            return self.candidate
        known = {"read_as": examined.read_as, "warnings": examined.warnings, "latency": latency}
        figures = {"test": figures_of(tally, len(source.classes), config.top_k)}
        return self.candidate.model_copy(update={**known, "figures": figures})

    def _fail(self, error: ModelFileError) -> None:
        self.examined = None
        task = _task(self._source, (1,) if self._source.modality == "text" else (1, 1, 1))
        try:
            self.candidate = describe(self._path, self._identity, task, failed=str(error))
        except ModelFileError:  # there is no such file
            self.candidate = Candidate(**self._identity._asdict(), sha256="", bytes=0, gzip_bytes=0, failed=str(error))


def _other_part(part: Part) -> Iterator[str]:
    """Say so if the measured images may have had a part in the training of the files."""
    if part in ("train", "validation"):
        yield f"the data have no test part: measured on the {part} images, which the files may have been made with"


def _without_images(source: ExampleSource, measured: Sequence[_Measured]) -> Iterator[str]:
    """Name the classes that none of the measured images is of."""
    counts = next((file.labels for file in measured if file.labels.any()), None)
    if counts is None:
        return
    absent = [name for name, count in zip(source.classes, counts, strict=True) if not count]
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        yield f"no measured image is of the class {shown}: the figures say nothing of it"


def _first_shape(source: ExampleSource) -> tuple[int, ...] | None:
    """Return the shape of the first example that can be read, if it is an array."""
    examples = (example for piece in source.pieces for example in piece.read() if isinstance(example, RawExample))
    return getattr(getattr(next(examples, None), "content", None), "shape", None)


def _task(source: ExampleSource, shape: tuple[int, ...]) -> Task:
    return Task(modality=source.modality, input_shape=shape, classes=list(source.classes))


def _examples(source: ExampleSource, part: Part, skipped: list[BadFile]) -> Iterator[RawExample]:
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
