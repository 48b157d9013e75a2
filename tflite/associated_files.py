# SPDX-License-Identifier: Apache-2.0
"""The files packed into a .tflite file: a zip archive behind the flatbuffer, which runtimes do not look at.

Entries are stored uncompressed, for Android and the Task Library read them in place and refuse others.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/metadata ("Pack the associated files");
tensorflow_lite_support/metadata/cc/metadata_extractor.cc ("Expected uncompressed zip archive.")
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

# What zipfile raises on bytes that are no archive, or a damaged one.
_NO_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, RuntimeError, NotImplementedError),
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip holds: equal content, equal bytes


def split_files(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Returns the flatbuffer and the files behind it, by name; no files if there is no complete archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            files = {entry.filename: archive.read(entry) for entry in entries}
    except _NO_ARCHIVE:
        # Most models have none, and weights may look like the end of one by chance.
        return data, {}
    start = min((entry.header_offset for entry in entries), default=len(data))
    return data[:start], files


def append_files(flatbuffer: bytes, files: Mapping[str, bytes]) -> bytes:
    """Returns the flatbuffer followed by an archive of the files; unchanged if there are none."""
    if not files:
        return flatbuffer
    out = io.BytesIO()
    out.write(flatbuffer)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return out.getvalue()
