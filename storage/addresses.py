# SPDX-License-Identifier: Apache-2.0
"""Which locations are in an object store, and how fsspec calls them."""

REMOTE = ("s3://", "gs://", "minio://")


def is_remote(location: str) -> bool:
    """Whether a location is in an object store."""
    return location.startswith(REMOTE)


def fsspec_url(url: str) -> str:
    """Write an address as fsspec knows it: minio:// is S3 by another name."""
    return "s3://" + url.removeprefix("minio://") if url.startswith("minio://") else url
