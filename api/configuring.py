# SPDX-License-Identifier: Apache-2.0
"""Writes a commented configuration to start from, and plans the students that a configuration would give."""

import glob
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from learn2compress.api.config_template import describe_config
from learn2compress.api.options import name_of
from learn2compress.schemas.errors import DataError, Learn2CompressError, OutputError, TeacherError
from learn2compress.schemas.files.whole import write_named

if TYPE_CHECKING:
    from learn2compress.api.examining import Findings
    from learn2compress.api.running import Settings


def init(
    path: str | Path = "learn2compress.yaml",
    *,
    teacher: str | None = None,
    data: str | None = None,
    inspect: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a commented configuration with every field and its default.

    If both teacher and data are given they are examined first: the teacher is loaded and run on some images under each
    scaling of pixels, and what was found is written as a comment beside each value.

    Args:
        path: The file to write.
        teacher: SavedModel folder, .keras or .h5 file; it must exist.
        data: Image folder, .npz, .csv or TFRecord files, which must exist, or the word digits.
        inspect: Examine teacher and data, which imports TensorFlow.
        say: Receives a sentence about each step.

    Returns:
        The path of the file.

    Raises:
        OutputError: The file exists already, or cannot be written.
        TeacherError, DataError: There is nothing at the path of the teacher or of the data.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{path} must be a new file; it exists already. Choose another name or remove it.")
    if teacher is not None and not Path(teacher).exists():
        raise TeacherError(
            f"{name_of('teacher')} must be an existing model; got {teacher}, which does not exist. Check the path."
        )
    if data is not None and data != "digits" and not Path(data).exists() and not glob.glob(data, recursive=True):
        raise DataError(
            f"{name_of('data')} must be an existing file or folder; got {data}, which does not exist. Check the path."
        )
    found = _examine(teacher, data, say) if inspect and teacher is not None and data is not None else None
    values = {("teacher", "path"): teacher or "teacher.keras", ("data", "path"): data or "images/"}
    if found is not None and found.scaling is not None:
        values["teacher", "scaling"] = found.scaling
    try:
        write_named(path, describe_config(values, found.about if found else None))
    except OSError as error:
        raise OutputError(f"{path} must be writable; {error.strerror}. Choose another place.") from error
    return path


def plan(config: str | Path, *, settings: "Settings" = (), limit: int | None = None) -> str:
    """Show before any training which students can be cut out of the teacher's network.

    The teacher runs once over training images; nothing is trained and nothing is written.

    Args:
        config: The YAML configuration; its `students.from` need not be set.
        settings: Overrides of fields, such as `{"students.input": 128}`.
        limit: Use at most this many examples of each split of the data.

    Returns:
        A table of the network's exits by input size, with the accuracy of a linear probe, parameters, bytes and MACs;
        and for each student of `students.sizes` the exit that it would have.

    Raises:
        Learn2CompressError: A user error; the message is one line.
    """
    from learn2compress.api.running import list_settings
    from learn2compress.api.terminal import Screen
    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.schemas.config import load_config

    chosen = load_config(config, list_settings(settings))
    prepare_environment()
    with Screen() as screen:
        screen.say("Starting TensorFlow …")
        from learn2compress.compression.students import origin
        from learn2compress.schemas.progress import listening

        with listening(screen.show_progress):
            return origin.plan(chosen, limit).describe()


def _examine(teacher: str, data: str, say: Callable[[str], None]) -> "Findings | None":
    """Examine teacher and data; what cannot be examined is said, and does not keep the file from being written."""
    import os

    from learn2compress.api.terminal import quiet_output
    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.schemas.config import DataConfig, TeacherConfig

    say(f"Examining {teacher} and {data}; importing TensorFlow takes some seconds …")
    prepare_environment()
    try:
        with quiet_output(Path(os.devnull)):
            from learn2compress.api.examining import examine_inputs

            found = examine_inputs(TeacherConfig(path=teacher), DataConfig(path=data))
    except Learn2CompressError as error:
        say(f"Not examined: {error}")
        return None
    for section, field, text in found.comments:
        if field in ("path", "scaling"):
            say(f"{section}: {text}")
    return found
