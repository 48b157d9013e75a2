# SPDX-License-Identifier: Apache-2.0
"""The commands that measure or describe single .tflite files, whoever made them."""

__all__ = ["bench", "evaluate", "inspect"]
