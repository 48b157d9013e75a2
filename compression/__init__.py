# SPDX-License-Identifier: Apache-2.0
"""The algorithms: TensorFlow, Keras and NumPy, and nothing of TFX, Beam, Kubeflow or ML Metadata."""

__all__ = ["dictionary", "family", "pruning", "quantization", "students", "teacher", "training"]
