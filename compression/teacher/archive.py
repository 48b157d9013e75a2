# SPDX-License-Identifier: Apache-2.0
"""Bounds what a .keras archive may declare, before anything in it is decompressed."""

import zipfile
from pathlib import Path

from learn2compress.schemas.errors import TeacherError

MOST_CONFIG_BYTES = 64 << 20
# Weights hardly shrink, and Keras does not compress them; zeros shrink a thousandfold.
_MOST_RATIO = 100
_SMALL_BYTES = 64 << 20


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members declare far more bytes than it holds, or a configuration that is too large.

    zipfile reads no more of a member than it declares.

    Raises:
        TeacherError: The archive is such a one.
    """
    declared = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    configs = [member.file_size for member in archive.infolist() if member.filename.endswith(".json")]
    if declared > max(_SMALL_BYTES, _MOST_RATIO * size) or max(configs, default=0) > MOST_CONFIG_BYTES:
        raise TeacherError(
            f"teacher {path} must declare about the bytes that it holds; got members of {declared:,} bytes in a file "
            f"of {size:,}, or a configuration of over {MOST_CONFIG_BYTES:,}. Save the model again."
        )
