# SPDX-License-Identifier: Apache-2.0
"""The recipes of the views of a training example, by modality."""

from pydantic import Field

from learn2compress.schemas.records.base import Record


class ViewRecipe(Record):
    """The K views of a training image with stored logits; view 0 is the image itself.

    A view is a shift by (dy, dx) pixels, with reflection at the border, optionally mirrored left to right. The
    parameters of each view are stored with its logits, so that a student is trained on exactly the same view.
    """

    count: int
    shift_pixels: tuple[int, int]  # largest |dy|, |dx|
    flip: bool
    seed: int
    # Of views that are parts of photographs: smallest fraction of the area, largest relative change of colours.
    smallest_area: float | None = Field(None, exclude_if=lambda area: area is None)
    colour: float = Field(0.0, exclude_if=lambda colour: not colour)
    # Whether views 1, 3, 5, … are mixes of the image and another one.
    mixed: bool = Field(False, exclude_if=lambda mixed: not mixed)


class TextViewRecipe(Record):
    """The K views of a training text with stored logits; view 0 is the text itself.

    In the other views words are left out at random, and of a long text only a window is kept.
    """

    count: int
    dropped_words: float  # fraction of the words
    window_words: int  # words of the window
    seed: int


AnyViewRecipe = ViewRecipe | TextViewRecipe
