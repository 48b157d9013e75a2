# SPDX-License-Identifier: Apache-2.0
"""Training curves as TensorBoard reads them: `tensorboard --logdir` on an artifact, or on all of a node's.

    tensorboard/<stage>/<student>/events.out.tfevents.curve    loss and validation accuracy of each epoch
    tensorboard/<stage>/events.out.tfevents.curve              learning rate, seconds; a teacher trained along

An event file is a TFRecord file of Event messages. TensorBoard's own writers put the time and the host's name in it,
and a training that was killed and went on would leave two files with some epochs twice. These files are written at the
end, from the curve alone: equal curves are equal bytes, whoever writes them. An event's time is the seconds of training
up to it, so that TensorBoard's relative axis is right; its wall-clock axis begins in 1970.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from learn2compress.schemas.manifests import Epoch, File

EVENTS_FOLDER = "tensorboard"
_FILE = "events.out.tfevents.curve"  # TensorBoard looks for `tfevents` in a name
_VERSION = "brain.Event:2"


def write_events(folder: str | Path, curves: Sequence[Epoch]) -> list[File]:
    """Writes the event files of an artifact.

    Args:
        folder: Of the artifact; the files lie under `tensorboard`.
        curves: The training so far, in its order; a stage's epochs are its steps.

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
    """By run, and then by what is drawn."""
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
