# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from learn2compress.schemas.files.whole import write_whole


def test_write_whole_replaces_the_content(tmp_path):
    write_whole(tmp_path / "a", "ä")
    write_whole(tmp_path / "a", b"new")

    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_write_whole_keeps_the_former_file_when_writing_fails(call, tmp_path, monkeypatch):
    write_whole(tmp_path / "a", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", "new")

    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
