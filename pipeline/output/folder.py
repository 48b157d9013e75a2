# SPDX-License-Identifier: Apache-2.0
"""Claims an output folder for a pipeline, so that a run never writes among unrelated files."""

import json
import re
from pathlib import Path

from learn2compress.schemas.errors import OutputError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.provenance import LOCK_FILE

RUN_FILE = "run.json"
# The beginning of an address, such as s3://; pathlib leaves one slash of it.
_ADDRESS = re.compile(r"^([a-z][a-z0-9+]+):/+")
# Files that a run may leave if it ends before it has claimed its folder.
_LEFT_BEHIND = {RUN_FILE, LOCK_FILE, "run.log"}


def claim_output(output: Path, pipeline: str) -> None:
    """Claims the output folder for a pipeline.

    Args:
        output: Output folder; created if it does not exist.
        pipeline: Name of the pipeline.

    Raises:
        OutputError: The folder holds other files or a run of another pipeline, is in an object store, or cannot be
            written.
    """
    record = output / RUN_FILE
    if _ADDRESS.match(str(output)):
        address = _ADDRESS.sub(r"\1://", str(output))
        raise OutputError(
            f"output must be a folder of this machine; got {address}. Name a folder; for "
            "workers that cannot see it, set pipeline.exchange to an s3://, gs:// or minio:// address."
        )
    try:
        interrupted = record.is_file() and record.stat().st_size == 0  # a full disk leaves an empty file
        if record.exists() and not interrupted:
            name = _owner(record)
            if name != pipeline:
                raise OutputError(
                    f"output {output} must belong to pipeline {pipeline!r}; it holds a run of {name!r}. "
                    "Choose another folder, or set pipeline.name to it."
                )
            return
        if (
            not interrupted
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
