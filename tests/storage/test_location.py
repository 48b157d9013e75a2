# SPDX-License-Identifier: Apache-2.0
"""A folder and a bucket are read and written in the same ways."""

import os
from pathlib import Path

import pytest

from learn2compress.storage.location import Location, open_location


@pytest.fixture(params=["folder", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "folder":
        return open_location(tmp_path / "root")
    return open_location(f"memory://location-{tmp_path.name}/root")


def test_what_is_written_is_read(location: Location) -> None:
    location.write("a/b", b"12")
    location.write("a/c/d", b"345")

    assert location.read("a/b") == b"12"
    assert location.size("a/c/d") == 3
    assert location.sha256("a/b") == "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"
    assert location.files("a") == ["b", "c/d"]
    assert location.files("none") == []
    assert dict(location.read_many(["a/b", "a/c/d"])) == {"a/b": b"12", "a/c/d": b"345"}
    assert (location.is_file("a/b"), location.is_file("a"), location.exists("a"), location.exists("x")) == (
        True, False, True, False,
    )  # fmt: skip
    with location.as_local("a/c/d") as path:
        assert path.read_bytes() == b"345"


def test_missing_file_is_an_os_error(location: Location) -> None:
    with pytest.raises(OSError, match="x"):
        location.read("x")


def test_paths_and_uris_correspond(location: Location) -> None:
    assert location.relative(location.join("a/b")) == "a/b"
    assert location.relative("/elsewhere/a") == "/elsewhere/a"
    assert location.relative("s3://bucket/a") == "s3://bucket/a"
    assert location.join("/elsewhere/a") == "/elsewhere/a"
    assert str(location.below("a").parent()) == str(location)


def test_file_beside_the_root_is_reached(location: Location) -> None:
    location.write("inside", b"0")
    location.parent().write("beside", b"1")

    assert location.read("../beside") == b"1"


def test_records_are_found_whatever_lies_around_them(location: Location) -> None:
    for path in (
        "Node/provenance/1.intoto.json", "Node/provenance/2.intoto.json", "Node/provenance/1.dsse.json",
        "deep/er/Other/provenance/1.intoto.json", "Node/out/1/file", "x.intoto.json", "Node/.system/x/y",
    ):  # fmt: skip
        location.write(path, b"{}")

    assert [found.path for found in location.records()] == [
        "Node/provenance/1.intoto.json",
        "Node/provenance/2.intoto.json",
        "deep/er/Other/provenance/1.intoto.json",
    ]
    assert {found.bytes for found in location.records()} == {2}


def test_changed_record_has_another_mark(location: Location) -> None:
    location.write("Node/provenance/1.intoto.json", b"{}")
    [before] = location.records()
    location.write("Node/provenance/1.intoto.json", b"[]")

    assert location.records() != [before]


def test_interrupted_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    location = open_location(tmp_path)
    location.write("x", b"whole")

    with pytest.raises(TypeError, match="bytes-like"):
        location.write("x", "not bytes")

    assert location.read("x") == b"whole"
    assert location.files() == ["x"]


def test_linked_root_is_recognized_in_a_uri(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    location = open_location(tmp_path / "link")
    location.write("a", b"1")

    assert location.relative(str(tmp_path / "real" / "a")) == "a"
    assert location.relative(f"file://{tmp_path}/link/a") == "a"


@pytest.mark.parametrize("path", ["pipe", "/dev/zero"])
def test_location_opens_no_pipe_or_device(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="it is not a regular file"):
        open_location(tmp_path).sha256(path)
    assert open_location(tmp_path).is_special(path)
