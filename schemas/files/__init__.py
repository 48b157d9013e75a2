# SPDX-License-Identifier: Apache-2.0
"""How files are written, whole or not at all, and which paths from outside are followed."""

__all__ = ["inside", "whole"]
