# SPDX-License-Identifier: Apache-2.0
import gc
import sys

import numpy as np
import pytest

from learn2compress.schemas.files.arrays import write_arrays


def test_write_arrays_can_be_read_back(tmp_path):
    write_arrays(tmp_path / "a.npz", {"numbers": np.arange(5), "name": "ä"})

    with np.load(tmp_path / "a.npz") as read:
        np.testing.assert_array_equal(read["numbers"], np.arange(5))
        assert str(read["name"]) == "ä"


@pytest.mark.usefixtures("small_files")
def test_write_arrays_raises_and_prints_nothing_else_when_the_file_cannot_grow(tmp_path, monkeypatch):
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)

    with pytest.raises(OSError, match="File too large"):
        write_arrays(tmp_path / "a.npz", {"numbers": np.arange(5000)})
    gc.collect()

    assert printed == []
    assert list(tmp_path.iterdir()) == []
