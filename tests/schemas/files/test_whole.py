# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from learn2compress.schemas.files.whole import is_aside, remove_asides, write_named, write_whole, written_whole
from learn2compress.schemas.manifests import Task, read_manifest, write_manifest


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


def test_written_whole_gives_each_attempt_a_name_of_its_own(tmp_path):
    with written_whole(tmp_path / "a") as one, written_whole(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
        assert is_aside(one.name)
        assert one != other

    assert (tmp_path / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_remove_asides_removes_only_what_attempts_left(tmp_path):
    left = tmp_path / "folder" / f".a.{'0' * 32}.new"
    left.parent.mkdir()
    for path in (left, tmp_path / ".mine.new", tmp_path / "a"):
        path.touch()

    assert remove_asides(tmp_path) == [left]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.new", "a", "folder"]


def test_write_manifest_keeps_the_former_manifest_when_the_disk_is_full(tmp_path, monkeypatch):
    first = Task(input_shape=(2, 2, 1), classes=["a", "b"])
    write_manifest(tmp_path, first)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(tmp_path, Task(input_shape=(4, 4, 1), classes=["a"]))

    assert read_manifest(tmp_path, Task) == first


def test_write_named_replaces_what_a_link_names_and_writes_into_a_pipe(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_named(tmp_path / "link", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "link").is_symlink()

    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_named(tmp_path / "pipe", "told")
    assert os.read(reader, 100) == b"told"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
