# SPDX-License-Identifier: Apache-2.0
"""The devices and processes of a training: their distribution, cluster and memory, and what they decide together."""

__all__ = ["decisions", "distribution", "memory", "workers"]
