# SPDX-License-Identifier: Apache-2.0
"""Examples as they are read from a source and as they are stored: records, shards, batches."""

__all__ = ["batches", "example_records", "raw_examples", "record_files", "sources", "stored_examples"]
