# SPDX-License-Identifier: Apache-2.0
"""How the words of a text become ids: by a vocabulary, by keys, and the dictionary that both are made of."""

__all__ = ["dictionary", "keys", "vocabulary"]
