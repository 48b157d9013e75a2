# SPDX-License-Identifier: Apache-2.0
"""fetch on the command line where there is nothing to fetch; test_cluster_run.py fetches a whole run."""

import hashlib

import pytest

from learn2compress.kubeflow import fetch
from learn2compress.lineage.records.provenance import record_of
from learn2compress.schemas.errors import UnsafePathError
from learn2compress.schemas.provenance import FileDigest, Output


def test_fetch_of_a_run_without_a_choice_says_what_is_there(run, store, tmp_path):
    record = store.root / "bucket" / "runs" / "digits" / "run-1" / "Distiller" / "provenance" / "run-1.intoto.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")

    status, _, err = run("fetch", "run-1", "--root", "s3://bucket/runs", "-o", tmp_path / "out")

    assert status == 2
    assert "run run-1 must have chosen a model to be fetched; it has not. Finished nodes: Distiller." in err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("store")
def test_fetch_of_a_run_that_left_nothing_is_named(run, tmp_path):
    status, _, err = run("fetch", "run-9", "--root", "s3://bucket/runs", "-o", tmp_path / "out")

    assert status == 2
    assert "run run-9 must have left one folder of artifacts below s3://bucket/runs; there are 0" in err


def test_fetch_needs_an_endpoint_or_a_root(run, tmp_path):
    status, _, err = run("fetch", "run-9", "-o", tmp_path / "out")

    assert status == 2
    assert "an endpoint or the pipeline root must be given; got neither" in err


@pytest.mark.parametrize(
    ("run_name", "uri"), [("../../outside", "Node/x/1"), ("run-0", "../../../outside"), ("run-0", "/tmp/outside")]
)
def test_fetch_writes_nothing_that_a_record_places_outside_the_folder(tmp_path, monkeypatch, run_name, uri):
    content = b"{}"
    made = Output("selection", uri, "T", "0" * 64, files={"manifest.json": FileDigest(_sha256(content), 2)})
    statement = record_of("StudentSelector", [], [made], {}, pipeline="p", run=run_name, execution="1")
    monkeypatch.setattr(fetch.object_store, "read", lambda _: content)
    monkeypatch.setattr(fetch, "_find_home", lambda *_: "s3://bucket/runs/p")
    monkeypatch.setattr(fetch, "_walk", lambda *_: {"StudentSelector": statement})

    with pytest.raises(UnsafePathError, match="path must be relative"):
        fetch.fetch_run("s3://bucket/runs", "run-1", tmp_path / "out")
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path.parent / "outside").exists()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
