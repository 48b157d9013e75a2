# SPDX-License-Identifier: Apache-2.0
"""Reads examples from sources, stores them in shards, and reads these as batches."""

__all__ = ["batches", "example_records", "raw_examples", "record_files", "sources", "stored_examples"]
