# SPDX-License-Identifier: Apache-2.0
"""From Keras models to .tflite files: training for 8 bits, conversion, and which layer loses what."""

__all__ = ["baselines", "conversion", "diagnosis", "on_device", "preflight", "qat"]
