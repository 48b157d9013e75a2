# SPDX-License-Identifier: Apache-2.0
"""Computes the version of the code that made a result, so that changed code is no cache hit.

TFX's cache key covers parameters and inputs, and no code; the version is therefore a parameter of every node.
"""

import hashlib

from learn2compress import __version__
from learn2compress.lineage.records.versions import source_files

# Packages on which results depend; a change to the command line or the report does not run any node again.
_PACKAGES = ("components", "compression", "data", "evaluation", "modalities", "schemas", "storage", "tflite")


def code_version() -> str:
    """Computes the package's version with the first 12 hex digits of a SHA-256 of the nodes' sources and imports.

    Files in nested packages are included.
    """
    digest = hashlib.sha256()
    for name, path in sorted(source_files(_PACKAGES).items()):
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
