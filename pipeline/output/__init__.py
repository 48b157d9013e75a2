# SPDX-License-Identifier: Apache-2.0
"""The output folder of a run: claimed for one pipeline, locked by one process, cleared of what killed attempts left."""

__all__ = ["folder", "leftovers", "lock"]
