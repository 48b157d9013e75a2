# SPDX-License-Identifier: Apache-2.0
"""The .tflite file format, without TensorFlow: reading, rewriting, running inference, describing."""

__all__ = ["inspection", "interpreter", "metadata", "model_file", "parsed_file", "transformations"]
