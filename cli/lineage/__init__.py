# SPDX-License-Identifier: Apache-2.0
"""The commands for auditing: what made a file, what derives from it, and whether everything is as recorded."""

__all__ = ["bom", "diff", "history", "impact", "output", "rebuild_metadata", "sign", "trace", "verify"]
