# SPDX-License-Identifier: Apache-2.0
"""Holds the TFX nodes, one file each, on one small base; no node imports another."""

__all__ = [
    "beam",
    "distiller",
    "execution",
    "image_example_gen",
    "node",
    "pruner",
    "quantizer",
    "student_collector",
    "student_selector",
    "teacher_importer",
    "text_example_gen",
    "tflite_evaluator",
]
