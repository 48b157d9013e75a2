# SPDX-License-Identifier: Apache-2.0
"""Queries on the records: what made a file, what derives from it, what differs, and whether everything is intact."""

__all__ = ["bom", "diff", "history", "impact", "trace", "unfinished", "verify"]
