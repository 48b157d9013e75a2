# SPDX-License-Identifier: Apache-2.0
"""Draws small pictures for the report, as PNG in a data URI, so that the page needs no other files."""

import base64
import io

import numpy as np
from PIL import Image

SIDE = 64


def thumbnail(image: np.ndarray) -> str:
    """Encodes an image as a data URI, reduced to at most 64 pixels on each side and never enlarged.

    Args:
        image: [height, width, 1 or 3] uint8.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
