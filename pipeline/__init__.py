# SPDX-License-Identifier: Apache-2.0
"""The DAG on one screen, the local run, and the reading and writing of ML Metadata."""

__all__ = [
    "code_version", "dag", "environment", "local_run", "output_folder", "output_lock", "picking", "replay", "worker",
]  # fmt: skip
