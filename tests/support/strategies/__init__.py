# SPDX-License-Identifier: Apache-2.0
"""Provides strategies and settings for property and fuzz tests."""
