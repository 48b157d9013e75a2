# SPDX-License-Identifier: Apache-2.0
"""The user's model as a teacher: loading, checks, and inference."""

__all__ = ["classifier", "configured", "features", "fit", "formats", "logits", "models", "trust"]
