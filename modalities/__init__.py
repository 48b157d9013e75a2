# SPDX-License-Identifier: Apache-2.0
"""What depends on the kind of example."""

__all__ = ["image"]
