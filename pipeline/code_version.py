# SPDX-License-Identifier: Apache-2.0
"""Which code made a result. A changed executor is no cache hit, though TFX's cache key does not cover it."""

import hashlib

from learn2compress import __version__
from learn2compress.lineage.records.versions import source_files

# What results depend on; a change to the command line or the report runs nothing again.
_PACKAGES = ("components", "compression", "data", "evaluation", "modalities", "schemas", "storage", "tflite")


def code_version() -> str:
    """The version and the first 12 hex digits of a SHA-256 over the sources of the nodes and all below them.

    Files in nested packages count as well.
    """
    digest = hashlib.sha256()
    for name, path in sorted(source_files(_PACKAGES).items()):
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
