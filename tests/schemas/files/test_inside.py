# SPDX-License-Identifier: Apache-2.0
"""Paths that others wrote, in manifests, configurations and links."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from learn2compress.compression.students.files import check_bytes
from learn2compress.schemas.config import parse_config
from learn2compress.schemas.errors import ConfigError, UnsafePathError
from learn2compress.schemas.files.inside import check_relative, path_inside
from learn2compress.schemas.manifests import File

OUTSIDE = [
    "",
    "/etc/passwd",
    "../a",
    "a/../../b",
    "a//b",
    "./a",
    "a\\b",
    "a\nb",
    "s3://bucket/a",
    "C:/a",
    "a\0b",
    "a" * 2000,
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_check_relative_refuses(path: str) -> None:
    with pytest.raises(UnsafePathError, match="path must be relative"):
        check_relative(path)


@pytest.mark.parametrize("path", ["a", "model/teacher.keras", "a b/ä..c", "..a", "a/b:c"])
def test_path_inside_joins(path: str, tmp_path: Path) -> None:
    assert path_inside(tmp_path, path) == tmp_path / path


def test_path_inside_follows_no_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    (tmp_path / "in" / "here").symlink_to(tmp_path / "in")

    with pytest.raises(UnsafePathError, match="a symbolic link leads out of it"):
        path_inside(tmp_path / "in", "out/file")
    assert path_inside(tmp_path / "in", "here/file") == tmp_path / "in" / "here" / "file"


@pytest.mark.parametrize("path", OUTSIDE)
def test_manifest_refuses_a_file_outside_its_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="path must be relative"):
        File(path=path, sha256="0" * 64, bytes=1)


def test_check_bytes_follows_no_link_out_of_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "model.h5").symlink_to(tmp_path / "secret")

    with pytest.raises(UnsafePathError, match="must lie inside"):
        check_bytes(tmp_path / "artifact", File.of(tmp_path / "artifact", "model.h5"))


@pytest.mark.parametrize("name", ["../large", "/large", "a/b", "a\nb", ".hidden", "", "x" * 41])
def test_config_refuses_a_student_whose_name_is_no_file_name(name: str) -> None:
    sizes = {name: {"size_bytes": 20000}, "large": {}}
    sections = {"teacher": {"path": "t.keras"}, "data": {"path": "digits"}, "students": {"sizes": sizes}}

    with pytest.raises(ConfigError, match="a student's name must be at most 40 letters"):
        parse_config(sections)
