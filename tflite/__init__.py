# SPDX-License-Identifier: Apache-2.0
"""The .tflite file format, without TensorFlow: reading, rewriting, running, describing."""
