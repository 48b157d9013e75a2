# SPDX-License-Identifier: Apache-2.0
"""Builds the DAG, runs it on this machine, and repeats or changes the choice of a finished run."""

__all__ = ["code_version", "dag", "environment", "local_run", "output", "picking", "replay", "worker"]
