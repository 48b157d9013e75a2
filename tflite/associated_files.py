# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the files packed into a .tflite file: a zip archive behind the flatbuffer, which runtimes ignore.

Entries are stored uncompressed, since Android and the Task Library read them in place and refuse compressed ones.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/metadata ("Pack the associated files");
tensorflow_lite_support/metadata/cc/metadata_extractor.cc ("Expected uncompressed zip archive.")
"""

import io
import zipfile
from collections.abc import Mapping

from learn2compress.schemas.errors import ModelFileError
from learn2compress.schemas.files.archives import BROKEN_ARCHIVE

# Labels and vocabularies are stored as they are; what unfolds to more than this was not packed for a phone.
_MOST_BYTES = 64 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # earliest date of a zip entry, so that equal content gives equal bytes


def split_files(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Splits a .tflite file into its flatbuffer and the files behind it.

    Args:
        data: Bytes of the file.

    Returns:
        The flatbuffer, and the contents of the files by name; none if there is no complete archive.

    Raises:
        ModelFileError: The files declare more bytes than a phone could hold.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            declared = sum(entry.file_size for entry in entries)
            if declared > _MOST_BYTES and declared > len(data):
                raise ModelFileError(
                    f"the files packed into a model must have at most {_MOST_BYTES:,} bytes; they declare "
                    f"{declared:,}. Take the model from whom you trust."
                )
            files = {entry.filename: archive.read(entry) for entry in entries}
    except BROKEN_ARCHIVE:
        # Most models have no archive, and weights may look like the end of one by chance.
        return data, {}
    start = min((entry.header_offset for entry in entries), default=len(data))
    return data[:start], files


def append_files(flatbuffer: bytes, files: Mapping[str, bytes]) -> bytes:
    """Appends an archive of files to a flatbuffer.

    Args:
        flatbuffer: Bytes of the flatbuffer.
        files: Contents of the files by name.

    Returns:
        Bytes of the .tflite file; the flatbuffer itself if there are no files.
    """
    if not files:
        return flatbuffer
    out = io.BytesIO()
    out.write(flatbuffer)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return out.getvalue()
