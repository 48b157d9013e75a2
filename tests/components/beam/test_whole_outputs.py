# SPDX-License-Identifier: Apache-2.0
"""What Beam's workers leave when an attempt at a bundle fails halfway, or is overtaken by another."""

import errno
import os
from pathlib import Path

import pytest

from learn2compress.components.beam import evaluation
from learn2compress.components.beam.evaluation import WriteTally
from learn2compress.components.beam.ingestion import WriteReport
from learn2compress.components.beam.teacher_inference import move_outputs
from learn2compress.schemas.files.whole import written_whole


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.usefixtures("full_disk")
def test_write_report_leaves_no_half_of_a_report(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        WriteReport(str(tmp_path / "report.json")).process((0, []))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("full_disk")
def test_write_tally_leaves_no_half_of_a_tally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "join", lambda parts: parts)

    with pytest.raises(OSError, match="No space left"):
        WriteTally(str(tmp_path)).work((("test", "large"), []))

    assert list(tmp_path.iterdir()) == []


def test_move_outputs_leaves_out_what_a_killed_attempt_wrote(tmp_path: Path) -> None:
    shard = tmp_path / "gathered" / "Split-train" / "shard.gz"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"whole")
    with written_whole(shard) as aside:
        aside.write_bytes(b"half")
        (shard.parent / "kept").write_bytes(aside.read_bytes())
        left = aside.name
    (shard.parent / "kept").rename(shard.parent / left)

    move_outputs(tmp_path / "gathered", str(tmp_path / "logits"))

    assert [path.name for path in (tmp_path / "logits" / "Split-train").iterdir()] == ["shard.gz"]
