# SPDX-License-Identifier: Apache-2.0
"""Strategies and settings of the property and fuzz tests."""
