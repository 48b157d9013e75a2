# SPDX-License-Identifier: Apache-2.0
"""Writing arrays to an .npz file, whole or not at all.

The archive is made in memory: a zip archive that is written in place tries to end itself when it is deleted, and on a
full disk prints a traceback beside the error.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from learn2compress.schemas.files.whole import write_whole


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Replaces the content of an .npz file in one step.

    Args:
        path: File to write; its folder is there.
        arrays: Arrays, numbers and strings by name.

    Raises:
        OSError: It cannot be written; the former file is as it was.
    """
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    write_whole(path, archive.getvalue())
