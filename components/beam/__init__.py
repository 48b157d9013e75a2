# SPDX-License-Identifier: Apache-2.0
"""The Beam pipelines of the nodes, apart from the nodes, so that a worker imports no TFX."""

__all__ = ["evaluation", "ingestion", "options", "teacher_inference"]
