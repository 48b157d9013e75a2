# SPDX-License-Identifier: Apache-2.0
"""Reads the user's examples in each supported format."""

__all__ = ["formats", "unlabeled"]
