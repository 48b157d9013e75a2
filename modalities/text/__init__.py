# SPDX-License-Identifier: Apache-2.0
"""Implements the modality of texts: words, views, teachers that take strings or ids, .tflite files and previews.

Other packages use it through `modalities.modality_of`; the public modules are for the text sources and the text family
only.
"""

__all__ = ["device_format", "lookup", "modality", "records", "snippets", "student_input", "words"]
