# SPDX-License-Identifier: Apache-2.0
"""Examines a classifier before its figures are believed: what enters, what comes out, which output is which class.

The decisions need no TensorFlow, so that a teacher and a .tflite file are judged by the same ones.
"""

__all__ = ["classes", "fit", "outputs", "tflite_file"]
