# SPDX-License-Identifier: Apache-2.0
"""The channels of any functional Keras model: which ones must be removed together, and their removal."""

__all__ = ["groups", "placement", "removal"]
