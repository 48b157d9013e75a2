# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the training curves of an artifact, curves.json."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from learn2compress.schemas.errors import TrainingError
from learn2compress.schemas.files.whole import write_whole
from learn2compress.schemas.manifests import Epoch, File

CURVES_FILE = "curves.json"


def write_curves(folder: Path, curves: Sequence[Epoch]) -> File:
    """Write curves.json, a list of `Epoch`."""
    text = json.dumps([epoch.model_dump(mode="json") for epoch in curves], indent=1) + "\n"
    write_whole(folder / CURVES_FILE, text)
    return File.of(folder, CURVES_FILE)


def read_curves(folder: str | Path) -> list[Epoch]:
    """Read curves.json.

    Raises:
        TrainingError: The file is missing or not a list of epochs.
    """
    path = Path(folder) / CURVES_FILE
    try:
        return TypeAdapter(list[Epoch]).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{path} must be a list of epochs; {reason}. Run the node again.") from error
