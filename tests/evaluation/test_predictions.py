# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from learn2compress.evaluation.predictions import (
    ModelPredictions,
    SplitPredictions,
    read_predictions,
    validation_correctness,
    write_predictions,
)
from learn2compress.schemas.errors import Learn2CompressError


def split(teacher):
    return SplitPredictions(
        ids=np.array([2**64 - 1, 7], np.uint64),
        labels=np.array([1, 0]),
        teacher=teacher,
        models={"small-int8": ModelPredictions(np.array([1, 1]), np.array([0.5, 0.25]))},
    )


def test_predictions_are_equal_after_writing_and_reading(tmp_path):
    write_predictions(tmp_path / "p.npz", {"validation": split(np.array([1, 0])), "test": split(None)})
    read = read_predictions(tmp_path / "p.npz")
    assert list(read) == ["validation", "test"]
    assert read["validation"].ids.tolist() == [2**64 - 1, 7]
    assert read["validation"].teacher.tolist() == [1, 0]
    assert read["test"].teacher is None
    model = read["test"].models["small-int8"]
    assert (model.classes.dtype, model.classes.tolist()) == (np.int16, [1, 1])
    assert (model.confidences.dtype, model.confidences.tolist()) == (np.float16, [0.5, 0.25])


def test_validation_correctness_compares_with_the_labels(tmp_path):
    write_predictions(tmp_path / "p.npz", {"validation": split(None)})
    assert validation_correctness(tmp_path / "p.npz")["small-int8"].tolist() == [True, False]
    write_predictions(tmp_path / "p.npz", {"test": split(None)})
    assert validation_correctness(tmp_path / "p.npz") == {}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no zip at all"])
def test_read_predictions_refuses_another_file(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(Learn2CompressError, match=r"p\.npz must be a file of predictions"):
        read_predictions(tmp_path / "p.npz")


def test_read_predictions_refuses_when_arrays_are_missing(tmp_path):
    np.savez(tmp_path / "p.npz", **{"test/ids": [1]})
    with pytest.raises(Learn2CompressError, match=r"must be a file of predictions; .*test/labels"):
        read_predictions(tmp_path / "p.npz")
