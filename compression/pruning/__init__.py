# SPDX-License-Identifier: Apache-2.0
"""Fewer channels and more zeros, where they matter least."""

__all__ = ["channel_targets", "importance", "magnitude", "passes", "prunable"]
