# SPDX-License-Identifier: Apache-2.0
"""Provenance records and the graph they form, with their index, the queries on them, and the copy in ML Metadata."""

__all__ = ["graph", "index", "mlmd", "queries", "records"]
