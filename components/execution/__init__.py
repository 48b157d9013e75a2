# SPDX-License-Identifier: Apache-2.0
"""Holds the common parts of the executors: ingestion, checkpoints, coordination, recipes, recorded properties."""

__all__ = ["checkpoints", "coordination", "example_gen", "properties", "recipe", "trained_teacher"]
