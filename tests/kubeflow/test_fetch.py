# SPDX-License-Identifier: Apache-2.0
"""fetch on the command line where there is nothing to fetch; test_cluster_run.py fetches a whole run."""

import pytest


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
