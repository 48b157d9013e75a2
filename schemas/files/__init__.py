# SPDX-License-Identifier: Apache-2.0
"""How files are written, whole or not at all, which paths from outside are followed, and what archives raise."""

__all__ = ["archives", "arrays", "inside", "whole"]
