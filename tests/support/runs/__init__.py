# SPDX-License-Identifier: Apache-2.0
"""Makes runs of a pipeline: a tiny real one, and synthetic ones without TFX."""
