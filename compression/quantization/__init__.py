# SPDX-License-Identifier: Apache-2.0
"""From Keras models to .tflite files: quantization-aware training, conversion, and the quantization error by layer."""

__all__ = ["baselines", "bias_correction", "conversion", "diagnosis", "equalization", "on_device", "preflight", "qat"]
