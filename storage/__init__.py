# SPDX-License-Identifier: Apache-2.0
"""Where files lie, a folder or an object store, read and written in the same few ways."""

__all__ = ["addresses", "location", "object_store"]
