# SPDX-License-Identifier: Apache-2.0
"""Whose an output folder is: a run never writes among files that are not its own."""

import json
from pathlib import Path

from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.provenance import LOCK_FILE
from learn2compress.storage.whole_files import write_whole

RUN_FILE = "run.json"
# What a run may leave that ended before it had claimed its folder.
_LEFT_BEHIND = {RUN_FILE, LOCK_FILE, "run.log"}


def claim_output(output: Path, pipeline: str) -> None:
    """Makes the output folder this pipeline's own.

    Args:
        output: The folder; made if it is not there.
        pipeline: The pipeline's name.

    Raises:
        OutputError: It holds something else, another pipeline's run, or cannot be written.
    """
    record = output / RUN_FILE
    try:
        begun = record.is_file() and record.stat().st_size == 0  # what a full disk left
        if record.exists() and not begun:
            name = _owner(record)
            if name != pipeline:
                raise OutputError(
                    f"output {output} must belong to pipeline {pipeline!r}; it holds a run of {name!r}. "
                    "Choose another folder, or set pipeline.name to it."
                )
            return
        if (
            not begun
            and output.exists()
            and (not output.is_dir() or {path.name for path in output.iterdir()} - _LEFT_BEHIND)
        ):
            raise OutputError(
                f"output {output} must be a new folder or an earlier run's; it holds other files. Choose another."
            )
        output.mkdir(parents=True, exist_ok=True)
        write_whole(record, json.dumps({"pipeline": pipeline}) + "\n")
    except OSError as error:
        raise OutputError(f"output {output} must be writable; {error.strerror}. Choose another folder.") from error


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _owner(record: Path) -> str:
    try:
        return json.loads(record.read_text(encoding="utf-8"))["pipeline"]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"output {record.parent} must be an earlier run's; its {RUN_FILE} cannot be read. Choose another folder."
        ) from error
