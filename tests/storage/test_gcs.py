# SPDX-License-Identifier: Apache-2.0
"""Google Cloud Storage through the real client, over HTTP. The older stack's pins leave no client: skipped there."""

import pytest
from support.servers import gcs_server

from learn2compress.schemas.errors import ClusterError
from learn2compress.storage import object_store
from learn2compress.storage.location import open_location

gcsfs = pytest.importorskip("gcsfs")


@pytest.fixture
def gcs(tmp_path, monkeypatch):
    """A store with the bucket `bucket`, to which gs:// leads."""
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    with gcs_server.serving(tmp_path / "store") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield server
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.mark.usefixtures("gcs")
def test_folder_comes_back_as_it_was(tmp_path):
    source = tmp_path / "images"
    (source / "cat").mkdir(parents=True)
    (source / "cat" / "1.png").write_bytes(b"one")
    (source / "2.png").write_bytes(b"two\r\n\r\nlines")
    object_store.upload(source, "gs://bucket/data/images")

    found = object_store.download("gs://bucket/data/images", tmp_path / "here")

    assert (found / "cat" / "1.png").read_bytes() == b"one"
    assert (found / "2.png").read_bytes() == b"two\r\n\r\nlines"
    assert object_store.find("gs://bucket/data") == [
        "gs://bucket/data/images/2.png",
        "gs://bucket/data/images/cat/1.png",
    ]


def test_access_leaves_nothing_behind_and_a_refusal_names_the_keys(gcs):
    object_store.check_access("gs://bucket/runs")
    assert [path for path in gcs.root.rglob("*") if path.is_file()] == []

    gcs.refuse = {"POST"}
    with pytest.raises(ClusterError, match=r"gs://bucket/runs must be writable and readable; .* Check"):
        object_store.check_access("gs://bucket/runs")


def test_fingerprint_changes_with_the_content(gcs):
    file = gcs.root / "bucket" / "t.keras"
    file.write_bytes(b"one")
    before = object_store.fingerprint("gs://bucket/t.keras")
    assert before == object_store.fingerprint("gs://bucket/t.keras")
    file.write_bytes(b"two")

    assert before != object_store.fingerprint("gs://bucket/t.keras")


@pytest.mark.usefixtures("gcs")
def test_nothing_there_is_named(tmp_path):
    with pytest.raises(ClusterError, match=r"gs://bucket/t\.keras must exist; there is nothing"):
        object_store.download("gs://bucket/t.keras", tmp_path)
    assert not object_store.exists("gs://bucket/t.keras")


def test_records_are_found_and_logs_matched(gcs):
    place = gcs.root / "bucket" / "runs" / "digits" / "run-1" / "Pruner" / "a1"
    (place / "provenance").mkdir(parents=True)
    (place / "provenance" / "run-1.intoto.json").write_text("{}")
    (place / "executor-logs-0").write_text("log")

    assert object_store.match("gs://bucket/runs/*/run-1/Pruner") == ["gs://bucket/runs/digits/run-1/Pruner"]
    [found] = open_location("gs://bucket/runs/digits").records()
    assert (found.path, found.bytes) == ("run-1/Pruner/a1/provenance/run-1.intoto.json", 2)
