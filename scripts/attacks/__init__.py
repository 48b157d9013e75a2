# SPDX-License-Identifier: Apache-2.0
"""The attacks of scripts/drill.py, one kind in each file: a function that tries one case and says what broke."""
