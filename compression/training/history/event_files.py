# SPDX-License-Identifier: Apache-2.0
"""Writes training curves for TensorBoard: `tensorboard --logdir` on an artifact, or on all artifacts of a node.

    tensorboard/<stage>/<student>/events.out.tfevents.curve    loss and validation accuracy of each epoch
    tensorboard/<stage>/events.out.tfevents.curve              learning rate, seconds; figures of a jointly trained
    teacher

An event file is a TFRecord file of Event messages. TensorBoard's own writers include the time and the host name, and a
training that was interrupted and resumed would leave two files in which some epochs occur twice. These files are
written at the end, from the curve alone, so equal curves give equal bytes on every machine. The time of an event is the
training time up to it in seconds, so TensorBoard's relative axis is correct; its wall-clock axis begins in 1970.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from learn2compress.schemas.manifests import Epoch, File

EVENTS_FOLDER = "tensorboard"
_FILE = "events.out.tfevents.curve"  # TensorBoard reads files with `tfevents` in the name
_VERSION = "brain.Event:2"


def write_events(folder: str | Path, curves: Sequence[Epoch]) -> list[File]:
    """Write the event files of an artifact.

    Args:
        folder: Artifact directory; the files are written to its folder `tensorboard`.
        curves: Training curves of all epochs so far, in order; the steps of a stage are its epochs.

    Returns:
        The files.
    """
    runs: dict[str, list[tf.compat.v1.Event]] = defaultdict(list)
    seconds = 0.0
    for epoch in curves:
        seconds += epoch.seconds
        for run, scalars in _scalars(epoch).items():
            summary = [tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            event = tf.compat.v1.Event(wall_time=seconds, step=epoch.epoch, summary=tf.compat.v1.Summary(value=summary))
            runs[run].append(event)
    return [_write(Path(folder), f"{EVENTS_FOLDER}/{run}/{_FILE}", events) for run, events in sorted(runs.items())]


def _scalars(epoch: Epoch) -> dict[str, dict[str, float]]:
    """Return the scalars by TensorBoard run, and then by tag."""
    whole = {"learning rate": epoch.learning_rate, "seconds": epoch.seconds}
    teacher = {"teacher loss": epoch.teacher_loss, "teacher validation accuracy": epoch.teacher_accuracy}
    known = {tag: value for tag, value in teacher.items() if value is not None}
    runs: dict[str, dict[str, float]] = {epoch.stage: whole | known}
    for student, loss in epoch.loss.items():
        accuracy = {"validation accuracy": epoch.accuracy[student]} if student in epoch.accuracy else {}
        runs[f"{epoch.stage}/{student}"] = {"loss": loss, **accuracy}
    return runs


def _write(folder: Path, path: str, events: list[tf.compat.v1.Event]) -> File:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / path)) as writer:
        writer.write(tf.compat.v1.Event(file_version=_VERSION).SerializeToString())
        for event in events:
            writer.write(event.SerializeToString())
    return File.of(folder, path)
