# SPDX-License-Identifier: Apache-2.0
"""Checks of what a run requires, before anybody waits for a pod."""

__all__ = ["doctor", "finding"]
