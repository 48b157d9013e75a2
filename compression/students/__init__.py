# SPDX-License-Identifier: Apache-2.0
"""A set of students, of the built-in family or a user's own, and how it is written and read."""

__all__ = ["architecture", "collection", "earlier_run", "files", "single_student"]
