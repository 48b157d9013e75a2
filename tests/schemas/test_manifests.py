# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from pydantic import ValidationError

from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import Learn2CompressError
from learn2compress.schemas.manifests import MANIFEST, File, Task, ViewRecipe, read_manifest, write_manifest

RECIPE = ViewRecipe(count=3, shift_pixels=(1, 2), flip=False, seed=0)


def test_read_manifest_returns_what_was_written(tmp_path):
    path = write_manifest(tmp_path / "new/folder", RECIPE)

    assert path == tmp_path / "new/folder" / MANIFEST
    assert read_manifest(tmp_path / "new/folder", ViewRecipe) == RECIPE


def test_write_manifest_writes_equal_bytes_with_sorted_keys_for_equal_manifests(tmp_path):
    one, other = (write_manifest(tmp_path / name, RECIPE.model_copy()) for name in "ab")

    assert one.read_bytes() == other.read_bytes()
    assert list(json.loads(one.read_text())) == ["count", "flip", "seed", "shift_pixels"]


def test_read_manifest_keeps_names_in_any_script(tmp_path):
    task = Task(input_shape=(2, 2, 1), classes=["Käfer", "猫"])
    write_manifest(tmp_path, task)

    assert read_manifest(tmp_path, Task) == task


def test_write_manifest_accepts_another_name(tmp_path):
    write_manifest(tmp_path, RECIPE, "views.json")

    assert read_manifest(tmp_path, ViewRecipe, "views.json") == RECIPE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"manifest\.json must be a ViewRecipe; .*Invalid JSON"),
        (b'{"count": 3}', r"manifest\.json must be a ViewRecipe; shift_pixels: Field required"),
        (
            b'{"count": 3, "shift_pixels": [1, 2], "flip": false, "seed": 0, "zoom": 2}',
            r"manifest\.json must be a ViewRecipe; zoom: Extra inputs are not permitted",
        ),
        (b"\xff\xfe", r"manifest\.json must be a readable ViewRecipe; "),
    ],
)
def test_read_manifest_refuses_a_file_that_is_not_a_manifest(tmp_path, content, message):
    (tmp_path / MANIFEST).write_bytes(content)

    with pytest.raises(Learn2CompressError, match=message):
        read_manifest(tmp_path, ViewRecipe)


def test_read_manifest_refuses_a_missing_file(tmp_path):
    with pytest.raises(Learn2CompressError, match=r"manifest\.json must be a readable ViewRecipe; .*No such file"):
        read_manifest(tmp_path, ViewRecipe)


def test_file_of_describes_the_content_on_disk(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/data.bin").write_bytes(b"12345")

    file = File.of(tmp_path, "sub/data.bin")

    assert file == File(path="sub/data.bin", sha256=file_sha256(tmp_path / "sub/data.bin"), bytes=5)


def test_records_are_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        RECIPE.count = 4
