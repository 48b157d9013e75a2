# SPDX-License-Identifier: Apache-2.0
"""Digests are those that a shell computes, and depend on content and place within the folder alone."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from learn2compress.schemas.digests import CHUNK_BYTES, file_sha256, path_bytes, path_sha256, tree_sha256
from learn2compress.schemas.errors import LineageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "variables").mkdir(parents=True)
    (root / "saved_model.pb").write_bytes(b"graph")
    (root / "variables" / "variables.index").write_bytes(b"index")
    (root / "variables" / "größe.data").write_bytes(b"")
    return root


def test_file_sha256_is_the_digest_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_file_sha256_reads_files_longer_than_a_chunk(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 17)
    (tmp_path / "long").write_bytes(content)
    assert file_sha256(tmp_path / "long") == hashlib.sha256(content).hexdigest()


def test_file_sha256_raises_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        file_sha256(tmp_path / "nothing")


def test_tree_sha256_equals_the_digest_computed_by_hand(tree: Path) -> None:
    lines = sorted(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        for name, content in (
            ("saved_model.pb", b"graph"),
            ("variables/variables.index", b"index"),
            ("variables/größe.data", b""),
        )
    )
    assert tree_sha256(tree) == hashlib.sha256(b"".join(lines)).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the shell has no sha256sum")
def test_tree_sha256_equals_the_output_of_the_documented_command(tree: Path) -> None:
    command = r"find . -type f -printf '%P\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=tree, check=True, capture_output=True, text=True).stdout
    assert printed.split()[0] == tree_sha256(tree)


def test_tree_sha256_does_not_depend_on_location_or_times(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tree, copy)
    os.utime(copy / "saved_model.pb", (0, 0))
    (copy / "empty").mkdir()
    assert tree_sha256(copy) == tree_sha256(tree)


@pytest.mark.parametrize("change", ["content", "name", "folder", "more"])
def test_tree_sha256_changes_with_content_and_names(tree: Path, change: str) -> None:
    before = tree_sha256(tree)
    if change == "content":
        (tree / "saved_model.pb").write_bytes(b"grapH")
    elif change == "name":
        (tree / "saved_model.pb").rename(tree / "saved_model.bp")
    elif change == "folder":
        (tree / "variables" / "variables.index").rename(tree / "variables.index")
    else:
        (tree / "another").touch()
    assert tree_sha256(tree) != before


def test_tree_sha256_follows_links_to_files(tree: Path, tmp_path: Path) -> None:
    before = tree_sha256(tree)
    (tree / "saved_model.pb").rename(tmp_path / "blob")
    (tree / "saved_model.pb").symlink_to(tmp_path / "blob")
    assert tree_sha256(tree) == before


def test_tree_sha256_refuses_linked_folders(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tree / "linked").symlink_to(tmp_path / "other")
    with pytest.raises(LineageError, match=r"no linked sub-folders.*linked"):
        tree_sha256(tree)


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash"])
def test_tree_sha256_refuses_names_that_make_the_rule_ambiguous(tree: Path, name: str) -> None:
    (tree / name).touch()
    with pytest.raises(LineageError, match="free of line breaks and backslashes"):
        tree_sha256(tree)


def test_tree_sha256_refuses_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        tree_sha256(tmp_path / "nothing")


def test_path_sha256_and_path_bytes_accept_files_and_folders(tree: Path) -> None:
    assert path_sha256(tree) == tree_sha256(tree)
    assert path_sha256(tree / "saved_model.pb") == file_sha256(tree / "saved_model.pb")
    assert path_bytes(tree) == 10
    assert path_bytes(tree / "saved_model.pb") == 5


@pytest.mark.parametrize("of", [path_sha256, lambda path: tree_sha256(path.parent)])
def test_digest_refuses_a_pipe_which_would_never_end(tmp_path: Path, of) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(LineageError, match=r"pipe must be a regular file; it is a pipe or a device\. Remove it\.$"):
        of(tmp_path / "pipe")
