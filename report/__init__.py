# SPDX-License-Identifier: Apache-2.0
"""The deliverables of a run for people: the report as JSON and HTML, the bundle for an app, and the model card."""

__all__ = ["assembly", "bundle", "comparison", "page", "shortfall"]
