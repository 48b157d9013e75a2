# SPDX-License-Identifier: Apache-2.0
"""Images: from a file's picture to the pixels that a model sees, their random views, small previews."""

__all__ = ["pixels", "thumbnails", "views"]
