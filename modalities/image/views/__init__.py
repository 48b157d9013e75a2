# SPDX-License-Identifier: Apache-2.0
"""The views of an image for which the teacher gives logits: shifts, parts of photographs, mixes."""

__all__ = ["image_views", "mixing", "photo_views", "shifts"]
