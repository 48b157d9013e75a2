# SPDX-License-Identifier: Apache-2.0
"""Images as a modality: from a file's picture to the pixels that a model sees, their views, files and previews.

Other rooms reach it through `modalities.modality_of`; the face is for the image sources and the image family alone.
"""

__all__ = ["modality", "pixels", "student_input"]
