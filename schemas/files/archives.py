# SPDX-License-Identifier: Apache-2.0
"""What reading a damaged or odd zip archive raises; zipfile has no common base class for it."""

import lzma
import struct
import zipfile
import zlib

BROKEN_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError),
    *(RuntimeError, NotImplementedError, OverflowError),  # encrypted, packed in another way, a number out of range
)
