# SPDX-License-Identifier: Apache-2.0
"""Addresses of artifacts, and where the launcher keeps their local copies.

The launcher downloads `minio://bucket/path` to /minio/bucket/path before a step runs, and uploads an output from there
afterwards; s3:// is below /s3, gs:// below /gcs. A step that wrote to the address itself would make a folder of that
name, which nobody uploads.
"""

import os
from collections.abc import Mapping
from typing import Any

ROOT_VARIABLE = "LEARN2COMPRESS_LAUNCHER_ROOT"
"""Where /minio, /s3 and /gcs are found, if not at the root: where a step is run by something else than a pod."""

LARGEST_EXACT_INTEGER = 10**15
"""The largest integer up to which every integer comes back from ML Metadata: a double, kept with 15 digits."""

_FOLDERS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}


def to_local(uri: str) -> str:
    """The path of an artifact's local copy; what is no object store's address stays as it is."""
    for scheme, folder in _FOLDERS.items():
        if uri.startswith(scheme):
            return f"{_prefix()}/{folder}/{uri.removeprefix(scheme).partition('?')[0]}"
    return uri


def to_uri(path: str) -> str:
    """The address that a local copy is of; other text stays as it is."""
    for scheme, folder in _FOLDERS.items():
        start = f"{_prefix()}/{folder}/"
        if path.startswith(start):
            return scheme + path.removeprefix(start)
    return path


def without_local_paths(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """An artifact's metadata as the launcher takes it: addresses for paths, and no nulls, which it refuses."""
    return {
        key: to_uri(value) if isinstance(value, str) else value for key, value in metadata.items() if value is not None
    }


def exact_numbers(properties: Mapping[str, Any]) -> dict[str, str]:
    """The integers that would come back as others, as text: launcher and ML Metadata keep every number as a double."""
    return {
        key: str(value)
        for key, value in properties.items()
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_EXACT_INTEGER
    }


def _prefix() -> str:
    return os.environ.get(ROOT_VARIABLE, "/").rstrip("/")
