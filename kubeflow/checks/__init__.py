# SPDX-License-Identifier: Apache-2.0
"""What decides whether a run will go through, checked before anybody waits for a pod."""

__all__ = ["doctor", "finding"]
