# SPDX-License-Identifier: Apache-2.0
"""Builds the DAG, runs it on this machine, and repeats or changes the choice of a finished run."""

__all__ = [
    "code_version", "dag", "environment", "leftovers", "local_run", "output_folder", "output_lock",
    "picking", "replay", "worker",
]  # fmt: skip
