# SPDX-License-Identifier: Apache-2.0
"""Measures .tflite files: their accuracy on held-out images and their costs, from the bytes that would be shipped.

A part of a split gives a `Tally` of a few bytes per image. Tallies can be joined in any grouping that keeps their
order, and the figures are computed from the tally of a whole split. The same code therefore serves a loop over batches
and a Beam pipeline.
"""

import gzip
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learn2compress.evaluation import metrics
from learn2compress.evaluation.predictions import ModelPredictions, SplitPredictions
from learn2compress.modalities import OpenedClassifier, modality_named, modality_of
from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.manifests import (
    DEFAULT_MODALITY,
    Calibration,
    FloatFallback,
    LayerQuantization,
    Split,
    Task,
)
from learn2compress.schemas.reports import Candidate, Flip, Host, Latency, SplitFigures
from learn2compress.tflite.model_file import prove_full_int8, read_bytes
from learn2compress.tflite.parsed_file import ParsedFile, parse_file

FLIPS = 24  # number of flips of each kind that the figures list; predictions.npz has all


class Batch(NamedTuple):
    """Some images of a split, in its order."""

    ids: np.ndarray  # [images] uint64
    sources: Sequence[str]
    labels: np.ndarray  # [images] int32
    examples: np.ndarray  # [images, …] as stored: of images, [images, height, width, channels] uint8
    teacher: np.ndarray | None  # [images] int32, the teacher's class


class Tally(NamedTuple):
    """The results of one file on a part of a split."""

    ids: np.ndarray  # [images] uint64
    labels: np.ndarray  # [images] int32
    teacher: np.ndarray | None  # [images] int32
    classes: np.ndarray  # [images] int16, predicted
    confidences: np.ndarray  # [images] float16, of the predicted class
    ranks: np.ndarray  # [images] int16, rank of the true class among the scores; 0 means correct
    negative_flips: list[Flip]  # the first images on which the teacher is right and the file is wrong
    positive_flips: list[Flip]  # the first images on which the file is right and the teacher is wrong


def predictions_of(tallies: Mapping[tuple[Split, str], Tally], split: Split) -> SplitPredictions:
    """Combine the predictions of all files on a split.

    Args:
        tallies: Tallies by split and file; those of one split are of the same images in the same order.
        split: The split.
    """
    own = {name: found for (of, name), found in tallies.items() if of == split}
    if not own:
        return SplitPredictions(np.empty(0, np.uint64), np.empty(0, np.int32), None, {})
    first = next(iter(own.values()))
    models = {name: ModelPredictions(found.classes, found.confidences) for name, found in own.items()}
    return SplitPredictions(first.ids, first.labels, first.teacher, models)


class Identity(NamedTuple):
    """What is known about a file before it is opened; see Candidate."""

    name: str
    student: str
    variant: str
    file: str
    baseline: bool = False
    layers: Sequence[LayerQuantization] = ()
    calibration: Calibration | None = None
    rescue: FloatFallback | None = None


def check_classifier(classifier: OpenedClassifier, task: Task) -> None:
    """Check that a model fits the task, by inference on a constant example.

    Args:
        classifier: The opened file.
        task: The task that the file must solve.

    Raises:
        ModelFileError: The input shape or the number of scores does not fit the task, or inference fails.
    """
    device_format = modality_of(task).device_format
    device_format.check_input(classifier, task.input_shape)
    if classifier.classes != len(task.classes):
        raise ModelFileError(
            f"{classifier.model.file} must return a score for each of {len(task.classes)} classes; "
            f"got {classifier.classes} scores. Check that its labels are those of the data."
        )
    classifier.predict(device_format.probe(classifier.input_shape))


def tally(classifier: OpenedClassifier, batches: Iterable[Batch], task: Task | None = None) -> Tally:
    """Run inference of a file on a part of a split.

    Args:
        classifier: The opened file.
        batches: Batches in the order of the split; at least one.
        task: Task of the examples, if their shape may differ from that of the file's input.
    """
    tallying = Tallying(classifier, task)
    for batch in batches:
        tallying.add(batch)
    return tallying.tally()


class Tallying:
    """Computes the tally of one file on a part of a split, batch by batch.

    Args:
        classifier: The opened file.
        task: Task of the examples, if their shape may differ from that of the file's input.
    """

    def __init__(self, classifier: OpenedClassifier, task: Task | None = None) -> None:
        self._classifier = classifier
        self._format = modality_of(task).device_format if task is not None else None
        self._parts: list[Tally] = []
        self._listed = [0, 0]  # number of listed flips so far, negative and positive

    def add(self, batch: Batch) -> None:
        """Run inference of the file on the next images of the split."""
        if self._format is not None:
            batch = batch._replace(examples=self._format.fit(batch.examples, self._classifier))
        part = _tally_batch(self._classifier, batch, [FLIPS - count for count in self._listed])
        self._parts.append(part)
        self._listed = [self._listed[0] + len(part.negative_flips), self._listed[1] + len(part.positive_flips)]

    def tally(self) -> Tally:
        """Return the tally of all images so far; at least one batch must have been added."""
        return join(self._parts)


def join(tallies: Sequence[Tally]) -> Tally:
    """Join the tallies of consecutive parts of a split."""
    first = tallies[0]
    if len(tallies) == 1:
        return first
    teacher = [part.teacher for part in tallies if part.teacher is not None]
    return Tally(
        ids=np.concatenate([part.ids for part in tallies]),
        labels=np.concatenate([part.labels for part in tallies]),
        teacher=np.concatenate(teacher) if teacher else None,
        classes=np.concatenate([part.classes for part in tallies]),
        confidences=np.concatenate([part.confidences for part in tallies]),
        ranks=np.concatenate([part.ranks for part in tallies]),
        negative_flips=[flip for part in tallies for flip in part.negative_flips][:FLIPS],
        positive_flips=[flip for part in tallies for flip in part.positive_flips][:FLIPS],
    )


def figures_of(tally: Tally, classes: int, top_k: int) -> SplitFigures:
    """Compute the figures of one file on a whole split.

    Args:
        tally: Tally of all images of the split.
        classes: Number of classes; at least `top_k`.
        top_k: Number of highest scores among which the true class counts as found in `topk`.
    """
    images, right = len(tally.labels), tally.ranks == 0
    k = min(top_k, classes)
    confusion = metrics.confusion_matrix(tally.labels, tally.classes, classes)
    negative = positive = agreement = None
    if tally.teacher is not None:
        negative, positive = (len(found) for found in metrics.flips(tally.labels, tally.teacher, tally.classes))
        agreement = metrics.agreement(tally.teacher, tally.classes)
    return SplitFigures(
        images=images,
        top1=float(right.mean()) if images else 0.0,
        top1_interval=metrics.wilson_interval(int(right.sum()), images),
        topk=float((tally.ranks < k).mean()) if images else 0.0,
        k=k,
        per_class=metrics.class_figures(confusion),
        confusion=confusion.tolist(),
        agreement=agreement,
        lost=negative,
        won=positive,
        flips=[*tally.negative_flips, *tally.positive_flips],
        calibration_error=metrics.calibration_error(tally.confidences, right),
    )


def describe(
    path: str | Path, identity: Identity, task: Task, opened: OpenedClassifier | None = None, failed: str | None = None
) -> Candidate:
    """Determine the costs of a file; if it is not a classifier for the task, return it as failed, with the reason.

    Args:
        path: The .tflite file.
        identity: What is known about the file before it is opened.
        task: The task that the file must solve.
        opened: The classifier, if the file has been opened before.
        failed: Why it could not be, if so.

    Raises:
        ModelFileError: The file does not exist.
    """
    data = read_bytes(path)
    measured = Candidate(
        **identity._asdict(),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        gzip_bytes=len(gzip.compress(data, compresslevel=9, mtime=0)),
    )
    if failed is not None:
        return measured.model_copy(update={"failed": failed})
    device_format = modality_of(task).device_format
    try:
        classifier = opened or device_format.open_classifier(data, file=identity.file)
        check_classifier(classifier, task)
    except ModelFileError as error:
        return measured.model_copy(update={"failed": str(error)})
    model = classifier.model
    proof = prove_full_int8(model)
    return measured.model_copy(
        update={
            "parameters": model.parameters,
            "macs": model.macs,
            "arena_bytes": classifier.arena_bytes(),
            "ops": model.op_counts,
            "sparsity": model.sparsity,
            "full_int8": proof.holds,
            # A converter joins the names of all operations that were fused; the last one identifies the layer.
            "float_tensors": [tensor.split(";")[-1] for tensor in proof.float_tensors],
            "class_words": device_format.class_words(data),
        }
    )


def measure_latency(
    path: str | Path, threads: Sequence[int], runs: int, modality: str = DEFAULT_MODALITY, **options: Any
) -> list[Latency]:
    """Measure the latency of single examples on this machine, which should not be busy with other work.

    Args:
        path: The .tflite file.
        threads: Numbers of threads of the interpreter, measured one after the other.
        runs: Number of timed invocations, after warm-up.
        modality: Modality of the examples.
        options: How the file is opened; see `DeviceFormat.open_classifier`.
    """
    parsed = parse_file(read_bytes(path), file=str(path))
    return [_time_single(parsed, count, runs, modality, options) for count in sorted(set(threads))]


def this_host() -> Host:
    """Describe the machine and the runtime that `measure_latency` uses."""
    return Host(
        name=platform.node() or "this machine",
        processor=_processor(),
        cores=os.cpu_count(),
        runtime=f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}",
    )


def _tally_batch(classifier: OpenedClassifier, batch: Batch, most_flips: Sequence[int]) -> Tally:
    scores = classifier.predict(batch.examples)
    classes = np.argmax(scores, axis=1)
    confidences = np.take_along_axis(metrics.probabilities(scores), classes[:, None], axis=1)[:, 0]
    negative: list[Flip] = []
    positive: list[Flip] = []
    if batch.teacher is not None:
        flips = metrics.flips(batch.labels, batch.teacher, classes)
        for named, found, most in zip((negative, positive), flips, most_flips, strict=True):
            named += [
                Flip(
                    id=f"{int(batch.ids[i]):016x}",
                    source=batch.sources[i],
                    label=int(batch.labels[i]),
                    teacher=int(batch.teacher[i]),
                    student=int(classes[i]),
                )
                for i in found[:most]
            ]
    return Tally(
        ids=batch.ids.astype(np.uint64),
        labels=batch.labels.astype(np.int32),
        teacher=None if batch.teacher is None else batch.teacher.astype(np.int32),
        classes=classes.astype(np.int16),
        confidences=confidences.astype(np.float16),
        ranks=metrics.label_rank(scores, batch.labels).astype(np.int16),
        negative_flips=negative,
        positive_flips=positive,
    )


def _time_single(parsed: ParsedFile, threads: int, runs: int, modality: str, options: Mapping[str, Any]) -> Latency:
    times = modality_named(modality).device_format.open_classifier(parsed, threads=threads, **options).latency(runs)
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return Latency(threads=threads, p50_ms=p50, p90_ms=p90, p99_ms=p99, runs=runs)


def _processor() -> str:
    """Return the processor's name; on Linux the platform module only knows the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware"):
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
