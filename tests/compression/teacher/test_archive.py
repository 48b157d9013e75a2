# SPDX-License-Identifier: Apache-2.0
import json
import zipfile
from pathlib import Path

import pytest

from learn2compress.compression.teacher.formats import describe_file
from learn2compress.schemas.errors import TeacherError


def archive(path: Path, **members: bytes) -> Path:
    files = {"metadata.json": b'{"keras_version": "3.3.3"}', "config.json": b"{}"} | {
        name.replace("_", "."): data for name, data in members.items()
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["model_weights_h5", "config_json"])
def test_describe_file_refuses_an_archive_that_grows_a_thousandfold(tmp_path: Path, name: str) -> None:
    bomb = archive(tmp_path / "t.keras", **{name: bytes(80 << 20)})

    with pytest.raises(TeacherError, match=r"bytes that it holds; got members of 83,8\d\d,\d\d\d"):
        describe_file(bomb)


def test_describe_file_refuses_a_configuration_that_is_nested_too_deeply(tmp_path: Path) -> None:
    deep = archive(tmp_path / "t.keras", config_json=b'{"a":' * 100_000 + b"1" + b"}" * 100_000)

    with pytest.raises(TeacherError, match=r"t\.keras"):
        describe_file(deep)


def test_describe_file_accepts_zeros_of_an_honest_size(tmp_path: Path) -> None:
    config = json.dumps({"class_name": "Sequential", "config": {"layers": []}}).encode()
    small = archive(tmp_path / "t.keras", config_json=config, model_weights_h5=bytes(1 << 20))

    assert describe_file(small).format == "keras3-keras"
