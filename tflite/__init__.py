# SPDX-License-Identifier: Apache-2.0
"""The .tflite file format, without TensorFlow: reading, rewriting, running inference, describing."""

__all__ = [
    "image_input",
    "inspection",
    "interpreter",
    "metadata",
    "model_file",
    "parsed_file",
    "scores_output",
    "transformations",
]
