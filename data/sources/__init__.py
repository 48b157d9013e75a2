# SPDX-License-Identifier: Apache-2.0
"""The user's examples in each format they may come in."""

__all__ = ["formats", "unlabeled"]
