# SPDX-License-Identifier: Apache-2.0
"""Defines the nodes' Beam pipelines, separate from the nodes, so that workers import no TFX."""

__all__ = ["evaluation", "ingestion", "jobs", "options", "runners", "teacher_inference"]
