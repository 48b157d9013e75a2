# SPDX-License-Identifier: Apache-2.0
"""Holds the common parts of the executors: checkpoints, worker coordination, recipes, recorded properties."""

__all__ = ["checkpoints", "coordination", "properties", "recipe", "trained_teacher"]
