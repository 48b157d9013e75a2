# SPDX-License-Identifier: Apache-2.0
"""The user's model as a teacher: opened, checked, and its outputs computed."""

__all__ = ["classifier", "features", "fit", "formats", "logits", "models"]
