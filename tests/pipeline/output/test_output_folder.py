# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from learn2compress.pipeline.output.folder import RUN_FILE, claim_output
from learn2compress.schemas.errors import OutputError


def test_claim_creates_a_folder_with_the_pipelines_name(tmp_path):
    claim_output(tmp_path / "a/b", "mine")

    assert json.loads((tmp_path / "a/b" / RUN_FILE).read_text()) == {"pipeline": "mine"}


def test_claim_accepts_an_empty_folder_and_one_of_the_same_pipeline(tmp_path):
    claim_output(tmp_path, "mine")
    (tmp_path / "report.html").write_text("")

    claim_output(tmp_path, "mine")


def test_claim_refuses_another_pipelines_folder(tmp_path):
    claim_output(tmp_path, "theirs")

    with pytest.raises(
        OutputError, match=r"must belong to pipeline 'mine'; it holds a run of 'theirs'\. Choose another"
    ):
        claim_output(tmp_path, "mine")


def test_claim_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("")

    with pytest.raises(OutputError, match=r"must be a new folder or an earlier run's; it holds other files\."):
        claim_output(tmp_path, "mine")
    assert not (tmp_path / RUN_FILE).exists()


def test_claim_refuses_an_address_in_an_object_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OutputError, match=r"got s3://bucket/out\. .* set pipeline\.exchange to"):
        claim_output(Path("s3://bucket/out"), "mine")
    assert list(tmp_path.iterdir()) == []


def test_claim_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match=r"file must be a new folder"):
        claim_output(tmp_path / "file", "mine")


def test_claim_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match=r"file/out must be writable; Not a directory\. Choose another folder"):
        claim_output(tmp_path / "file/out", "mine")


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}', b"\xff\xfe"])
def test_claim_refuses_a_record_that_cannot_be_read(tmp_path, content):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / RUN_FILE).write_bytes(data)

    with pytest.raises(OutputError, match=r"must be an earlier run's; its run\.json cannot be read\. Choose another"):
        claim_output(tmp_path, "mine")


def test_claim_replaces_an_empty_record_of_a_full_disk(tmp_path):
    (tmp_path / RUN_FILE).write_bytes(b"")
    (tmp_path / "pipeline").mkdir()

    claim_output(tmp_path, "mine")
    claim_output(tmp_path, "mine")


def test_claim_writes_no_record_when_the_disk_is_full(tmp_path, monkeypatch):
    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)

    with pytest.raises(OutputError, match=r"must be writable; No space left on device"):
        claim_output(tmp_path, "mine")
    assert list(tmp_path.iterdir()) == []
