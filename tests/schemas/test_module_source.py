# SPDX-License-Identifier: Apache-2.0
import hashlib
import os

import pytest

from learn2compress.schemas.errors import StudentModuleError
from learn2compress.schemas.module_source import MOST_BYTES, ModuleSource, read_module


@pytest.mark.parametrize(("after", "function"), [("", "build"), (":build", "build"), (":make_tiny", "make_tiny")])
def test_read_module_accepts_a_file_and_a_function(tmp_path, after, function):
    (tmp_path / "mine.py").write_text("x = 'ä'\n", encoding="utf-8")

    source = read_module(f"{tmp_path}/mine.py{after}")

    assert (source.name, source.function, source.text) == ("mine.py", function, "x = 'ä'\n")
    assert source.sha256 == hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("gone.py:build", b"", r"must be a readable Python file; .*gone\.py: No such file .*configuration's folder"),
        ("mine.py:not a name", b"", r"must be FILE\.py:FUNCTION; got .*mine\.py:not a name\. Write"),
        ("mine.py", b"\xff\xfe", r"must be Python in UTF-8; .*mine\.py"),
        ("mine.py", b"#" * (MOST_BYTES + 1), r"must be at most 65,536 bytes.*has 65,537"),
        ("mine.py", b"x = '{{$}}'", r"must not contain '\{\{\$', which Kubeflow replaces"),
    ],
)
def test_read_module_refuses(tmp_path, setting, content, message):
    (tmp_path / "mine.py").write_bytes(content)

    with pytest.raises(StudentModuleError, match=message):
        read_module(f"{tmp_path}/{setting}")


def test_read_module_refuses_another_user_s_file(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("x = 1\n")
    if os.geteuid() == 0:
        os.chown(tmp_path / "mine.py", 4321, -1)
    owner = (tmp_path / "mine.py").stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner)
    assert read_module(f"{tmp_path}/mine.py").text == "x = 1\n"

    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(StudentModuleError, match=rf"must belong to the user who runs it.*to user {owner}\. Read it"):
        read_module(f"{tmp_path}/mine.py")


def test_module_source_is_decoded_from_its_parameters():
    source = ModuleSource("mine.py", "build", "x = 'ä'\n")

    written = source.to_parameters()

    assert written["module_sha256"] == source.sha256
    assert ModuleSource.from_parameters(written) == source
    assert ModuleSource.from_parameters({"module_text": None, "seed": 1}) is None
