# SPDX-License-Identifier: Apache-2.0
"""The built-in family of nested students: its shape, its costs, and its Keras model."""

__all__ = ["channels", "latency", "model", "sizing", "spec"]
