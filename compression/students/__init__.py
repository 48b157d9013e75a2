# SPDX-License-Identifier: Apache-2.0
"""Students of the built-in family or of a user's module: architecture, initialization, files."""

__all__ = ["architecture", "collection", "earlier_run", "files", "from_teacher", "origin", "single_student"]
