# SPDX-License-Identifier: Apache-2.0
"""Transformations of a parsed .tflite file, one a module: each edits a `ParsedFile`, which is written at the end."""

__all__ = ["compaction", "end_names", "metadata", "splicing", "text_metadata"]
