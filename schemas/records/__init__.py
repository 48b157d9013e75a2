# SPDX-License-Identifier: Apache-2.0
"""Holds parts of the manifests: their base class, and the recipes of views."""

__all__ = ["base", "views"]
