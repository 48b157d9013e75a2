# SPDX-License-Identifier: Apache-2.0
"""The output folder of a run: claimed for one pipeline, locked by one process, cleared of what killed attempts left.

The records that they left out are written.
"""

__all__ = ["folder", "left_out_records", "leftovers", "lock"]
