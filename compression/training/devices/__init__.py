# SPDX-License-Identifier: Apache-2.0
"""The devices and processes of a training: their distribution, their cluster, and the decisions that they share."""

__all__ = ["decisions", "distribution", "workers"]
