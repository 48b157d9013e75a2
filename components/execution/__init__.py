# SPDX-License-Identifier: Apache-2.0
"""What executors share around their algorithms: checkpoints, worker coordination, recipes, recorded properties."""

__all__ = ["checkpoints", "coordination", "properties", "recipe", "trained_teacher"]
