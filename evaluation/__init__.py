# SPDX-License-Identifier: Apache-2.0
"""What a .tflite file scores and costs, statistics, and the choice among several."""

__all__ = ["device_results", "files", "measure", "predictions", "selection"]
