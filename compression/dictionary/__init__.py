# SPDX-License-Identifier: Apache-2.0
"""The default students of texts: nested dictionaries, chosen by importance under the teacher."""

__all__ = ["family", "model", "rows", "sizing", "spec", "taken"]
