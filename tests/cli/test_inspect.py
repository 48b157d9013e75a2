# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from support.tflite_files import write_metadata

from learn2compress.schemas.digests import file_sha256


@pytest.fixture
def file(tmp_path, brightest_pixel_tflite):
    path = tmp_path / "brightest.tflite"
    data = write_metadata(brightest_pixel_tflite, name="Brightest", description="Which?", labels=["a", "b", "[c]", "d"])
    path.write_bytes(data)
    return path


def test_inspect_prints_tensors_labels_and_layers(type_in, file):
    status, out, _ = type_in("inspect", file)
    assert status == 0
    assert "float32 [1, 2, 2, 1]" in out
    assert "Brightest: Which?" in out
    assert "4: a, b, [c], d" in out
    assert "none (pixels 0..255)" in out
    assert any(line.split()[1:2] == ["RESHAPE"] for line in out.splitlines())
    assert file_sha256(file) in out


def test_inspect_prints_json(type_in, file):
    status, out, _ = type_in("inspect", file, "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["file"], found["bytes"]) == (str(file), file.stat().st_size)
    assert found["metadata"]["labels"] == ["a", "b", "[c]", "d"]
    assert found["inputs"][0]["shape"] == [1, 2, 2, 1]
    assert [layer["op"] for layer in found["layers"]] == list(found["ops"])


def test_inspect_exits_2_with_one_line_on_a_truncated_file(type_in, file):
    file.write_bytes(file.read_bytes()[:200])
    status, out, err = type_in("inspect", file)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "must be a complete .tflite file" in err
