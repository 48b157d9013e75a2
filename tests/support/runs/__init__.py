# SPDX-License-Identifier: Apache-2.0
"""Runs of a pipeline: a tiny real one, and ones written without TFX."""
