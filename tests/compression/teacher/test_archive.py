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


@pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 14), (8, 99)], ids=["encrypted", "lzma", "unknown"])
def test_describe_file_refuses_a_member_that_is_packed_in_an_odd_way(tmp_path: Path, place: int, value: int) -> None:
    raw = bytearray(archive(tmp_path / "t.keras").read_bytes())
    raw[place] = value  # of the first member's own header
    central = raw.index(b"PK\x01\x02")
    raw[central + place + 2] = value  # and of the list of members
    (tmp_path / "t.keras").write_bytes(raw)

    with pytest.raises(TeacherError, match=r"t\.keras"):
        describe_file(tmp_path / "t.keras")


def test_describe_file_refuses_offsets_before_the_beginning_of_the_file(tmp_path: Path) -> None:
    raw = archive(tmp_path / "t.keras").read_bytes()
    (tmp_path / "t.keras").write_bytes(raw[:4] + raw[6:])

    with pytest.raises(TeacherError, match=r"t\.keras"):
        describe_file(tmp_path / "t.keras")


@pytest.mark.parametrize("depth", range(100, 1000, 50))
def test_describe_file_reads_or_refuses_a_configuration_of_any_depth(tmp_path: Path, depth: int) -> None:
    deep = archive(tmp_path / "t.keras", config_json=b'{"a":' * depth + b"1" + b"}" * depth)

    try:
        assert describe_file(deep).model_config is not None
    except TeacherError as error:
        assert "t.keras" in str(error)  # noqa: PT017 - it may as well be read
