# SPDX-License-Identifier: Apache-2.0
"""Implements the modality of images: decoding, resizing, views, .tflite files and previews.

Other packages use it through `modalities.modality_of`; the public modules are for the image sources and the image
family only.
"""

__all__ = ["modality", "pixels", "student_input"]
