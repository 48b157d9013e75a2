# SPDX-License-Identifier: Apache-2.0
"""The object store through the real client, over HTTP."""

import pytest

from learn2compress.schemas.errors import ClusterError, UnsafePathError
from learn2compress.storage import object_store
from learn2compress.storage.location import Stored


@pytest.mark.usefixtures("store")
def test_folder_comes_back_as_it_was(tmp_path):
    source = tmp_path / "images"
    (source / "cat").mkdir(parents=True)
    (source / "cat" / "1.png").write_bytes(b"one")
    (source / "2.png").write_bytes(b"two")
    object_store.upload(source, "minio://bucket/data/images")

    found = object_store.download("s3://bucket/data/images", tmp_path / "here")

    assert found == tmp_path / "here" / "images"
    assert (found / "cat" / "1.png").read_bytes() == b"one"
    assert (found / "2.png").read_bytes() == b"two"
    assert object_store.find("s3://bucket/data") == [
        "s3://bucket/data/images/2.png",
        "s3://bucket/data/images/cat/1.png",
    ]


def test_file_and_pattern_are_downloaded(store, tmp_path):
    for name in ("a-0", "a-1", "b"):
        (store.root / "bucket" / name).write_bytes(name.encode())

    assert object_store.download("s3://bucket/b", tmp_path / "file").read_bytes() == b"b"
    assert object_store.download("s3://bucket/a-*", tmp_path / "some") == tmp_path / "some" / "a-*"
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["a-0", "a-1"]


def test_fingerprint_changes_with_the_content(store):
    file = store.root / "bucket" / "t.keras"
    file.write_bytes(b"one")
    before = object_store.fingerprint("s3://bucket/t.keras")
    again = object_store.fingerprint("s3://bucket/t.keras")
    file.write_bytes(b"two")

    assert before == again != object_store.fingerprint("s3://bucket/t.keras")


def test_access_leaves_nothing_behind(store):
    object_store.check_access("minio://bucket/runs")

    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_refused_write_names_the_keys(store):
    store.refuse = {"PUT"}

    with pytest.raises(ClusterError, match=r"minio://bucket/runs must be writable and readable; .* Check the keys"):
        object_store.check_access("minio://bucket/runs")


@pytest.mark.usefixtures("store")
def test_wrong_key_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")

    with pytest.raises(ClusterError, match=r"s3://bucket/x must be readable; .*[Cc]heck the keys"):
        object_store.download("s3://bucket/x", tmp_path)


@pytest.mark.usefixtures("store")
def test_bucket_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ClusterError, match=r"s3://none/t\.keras must (exist|be readable)"):
        object_store.download("s3://none/t.keras", tmp_path)


@pytest.mark.usefixtures("store")
def test_nothing_there_is_named(tmp_path):
    with pytest.raises(ClusterError, match=r"s3://bucket/t\.keras must exist; there is nothing"):
        object_store.download("s3://bucket/t.keras", tmp_path)
    with pytest.raises(ClusterError, match=r"s3://bucket/t\.keras must exist; there is nothing"):
        object_store.fingerprint("s3://bucket/t.keras")
    assert not object_store.exists("s3://bucket/t.keras")


@pytest.mark.usefixtures("store")
def test_store_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(ClusterError, match=r"must be readable; .*Check AWS_ENDPOINT_URL"):
        object_store.download("s3://bucket/t.keras", tmp_path)


def test_address_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ClusterError, match=r"/srv/t\.keras must be an s3://, gs:// or minio:// address"):
        object_store.download("/srv/t.keras", tmp_path)


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside"])
def test_download_writes_nothing_outside_its_folder(name, tmp_path, monkeypatch):
    stored = Stored(name, 1, "")
    monkeypatch.setattr(object_store, "_list", lambda _: [("s3://bucket/data/x", stored)])
    monkeypatch.setattr(object_store.Bucket, "get", lambda _, __, target: target.write_bytes(b"x"))

    with pytest.raises(UnsafePathError, match="path must be relative"):
        object_store.download("s3://bucket/data", tmp_path / "here")
    assert not (tmp_path / "outside").exists()
