# SPDX-License-Identifier: Apache-2.0
"""Reads texts: tables (CSV, TSV, JSON lines, Parquet), TFRecord files, and folders of .txt files."""

__all__ = ["columns", "files", "formats", "unlabeled"]
