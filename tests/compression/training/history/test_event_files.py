# SPDX-License-Identifier: Apache-2.0
"""Event files, read by TensorBoard if it is installed, as with the older stack."""

import pytest
import tensorflow as tf

from learn2compress.compression.training.history.event_files import write_events
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.manifests import Epoch


def epoch(stage: str, number: int, loss: float, accuracy: float | None = None, **more) -> Epoch:
    return Epoch(
        stage=stage,
        epoch=number,
        loss={"small": loss, "large": loss / 2},
        accuracy={} if accuracy is None else {"small": accuracy, "large": 1 - accuracy},
        learning_rate=0.5 / number,
        seconds=2.0,
        **more,
    )


CURVES = [
    epoch("features", 1, 8.0),
    epoch("distilled", 1, 4.0, 0.25, teacher_loss=0.5, teacher_accuracy=0.75),
    epoch("distilled", 2, 2.0, 0.375, teacher_loss=0.25, teacher_accuracy=1.0),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    return folder, write_events(folder, CURVES)


@pytest.fixture(scope="module")
def board(written):
    """The runs that TensorBoard reads with --logdir on the artifact."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_multiplexer")
    multiplexer = reader.EventMultiplexer().AddRunsFromDirectory(str(written[0] / "tensorboard"))
    return multiplexer.Reload()


def scalars(board, run: str, tag: str) -> list[tuple[int, float, float]]:
    events = board.Tensors(run, tag)
    return [(e.step, tf.make_ndarray(e.tensor_proto).item(), e.wall_time) for e in events]


def test_tensorboard_reads_one_run_per_student_and_stage(board):
    runs = {run: sorted(found["tensors"]) for run, found in board.Runs().items()}

    assert runs == {
        "features": ["learning rate", "seconds"],
        "features/large": ["loss"],
        "features/small": ["loss"],
        "distilled": ["learning rate", "seconds", "teacher loss", "teacher validation accuracy"],
        "distilled/large": ["loss", "validation accuracy"],
        "distilled/small": ["loss", "validation accuracy"],
    }


def test_tensorboard_reads_each_epoch_once_with_the_training_time_before_it(board):
    assert scalars(board, "distilled/small", "loss") == [(1, 4.0, 4.0), (2, 2.0, 6.0)]
    assert scalars(board, "distilled/large", "validation accuracy") == [(1, 0.75, 4.0), (2, 0.625, 6.0)]
    assert scalars(board, "distilled", "learning rate") == [(1, 0.5, 4.0), (2, 0.25, 6.0)]
    assert scalars(board, "distilled", "seconds") == [(1, 2.0, 4.0), (2, 2.0, 6.0)]
    assert scalars(board, "distilled", "teacher validation accuracy") == [(1, 0.75, 4.0), (2, 1.0, 6.0)]
    assert scalars(board, "features/small", "loss") == [(1, 8.0, 2.0)]


def test_write_events_depends_only_on_the_curve(written, tmp_path):
    folder, files = written

    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.curve")) == [file.path for file in files]
    assert write_events(tmp_path, CURVES) == files
    assert tree_sha256(tmp_path) == tree_sha256(folder)


def test_write_events_writes_records_of_events(written):
    folder, _ = written

    records = tf.data.TFRecordDataset(str(folder / "tensorboard/distilled/small/events.out.tfevents.curve"))
    first, *events = [tf.compat.v1.Event.FromString(record) for record in records.as_numpy_iterator()]

    assert first.file_version == "brain.Event:2"
    assert [(e.step, [(v.tag, v.simple_value) for v in e.summary.value]) for e in events] == [
        (1, [("loss", 4.0), ("validation accuracy", 0.25)]),
        (2, [("loss", 2.0), ("validation accuracy", 0.375)]),
    ]


def test_write_events_writes_nothing_without_epochs(tmp_path):
    assert write_events(tmp_path, []) == []
    assert not list(tmp_path.iterdir())
