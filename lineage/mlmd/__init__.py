# SPDX-License-Identifier: Apache-2.0
"""The lineage in ML Metadata: opening its stores, comparing them with the records, and rebuilding them from records."""

__all__ = ["address", "consistency", "rebuild", "store"]
