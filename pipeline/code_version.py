# SPDX-License-Identifier: Apache-2.0
"""Which code made a result. A changed executor is no cache hit, though TFX's cache key does not cover it."""

import hashlib
from importlib import resources

from learn2compress import __version__

# What results depend on; a change to the command line or the report runs nothing again.
_PACKAGES = ("learn2compress.components", "learn2compress.compression", "learn2compress.schemas")


def code_version() -> str:
    """The version and the first 12 hex digits of a SHA-256 over the sources of nodes, algorithms and schemas."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        folder = resources.files(package)
        for source in sorted((f for f in folder.iterdir() if f.name.endswith(".py")), key=lambda f: f.name):
            digest.update(f"{package}/{source.name}\n".encode())
            digest.update(source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
