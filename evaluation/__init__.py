# SPDX-License-Identifier: Apache-2.0
"""Measures the accuracy and the costs of .tflite files, computes statistics, and chooses one of several files."""

__all__ = [
    "device_results", "examination", "files", "latency", "measure", "metrics", "predictions", "selection",
]  # fmt: skip
