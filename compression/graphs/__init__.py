# SPDX-License-Identifier: Apache-2.0
"""Keras models and traced functions as graphs: traversal, flattening, counting of MACs."""

__all__ = ["flattening", "layer_walk", "traced_graph"]
