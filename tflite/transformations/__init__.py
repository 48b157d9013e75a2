# SPDX-License-Identifier: Apache-2.0
"""Changes to a parsed .tflite file, one a module: each edits a `ParsedFile` and leaves the writing to its end."""

__all__ = ["compaction", "end_names", "metadata", "splicing"]
