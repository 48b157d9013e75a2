# SPDX-License-Identifier: Apache-2.0
"""A run on a cluster while it goes on and after: its states, why a step failed, its log."""

__all__ = ["failures", "following", "logs", "pods", "reasons", "states"]
