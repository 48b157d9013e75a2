# SPDX-License-Identifier: Apache-2.0
"""The channels of any functional Keras model: which ones must be removed together, their removal, and the costs."""

__all__ = ["costs", "groups", "placement", "removal"]
