# SPDX-License-Identifier: Apache-2.0
"""Which locations are in an object store."""

REMOTE = ("s3://", "gs://", "minio://")


def is_remote(location: str) -> bool:
    """Whether a location is in an object store."""
    return location.startswith(REMOTE)
