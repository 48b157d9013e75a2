# SPDX-License-Identifier: Apache-2.0
"""Whose an output folder is: a run never writes among files that are not its own."""

import json
from pathlib import Path

from learn2compress.schemas.errors import OutputError

RUN_FILE = "run.json"


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
        if record.exists():
            name = _owner(record)
            if name != pipeline:
                raise OutputError(
                    f"output {output} must belong to pipeline {pipeline!r}; it holds a run of {name!r}. "
                    "Choose another folder, or set pipeline.name to it."
                )
            return
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise OutputError(
                f"output {output} must be a new folder or an earlier run's; it holds other files. Choose another."
            )
        output.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"pipeline": pipeline}) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"output {output} must be writable; {error.strerror}. Choose another folder.") from error


def _owner(record: Path) -> str:
    try:
        return json.loads(record.read_text(encoding="utf-8"))["pipeline"]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"output {record.parent} must be an earlier run's; its {RUN_FILE} cannot be read. Choose another folder."
        ) from error
