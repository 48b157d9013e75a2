# SPDX-License-Identifier: Apache-2.0
"""Makes the fixed views of an image on which teacher and students run.

The input of a student must be the pixels for which the teacher's logits were computed ("A good teacher is patient and
consistent", Beyer et al., 2106.05237). A view is therefore a few integers, stored with the logits, from which the same
pixels are made in both cases: three for a shift (shifts.py), eight for a part of a photograph (photo_views.py), and
with mixes (mixing.py) the share of the image behind them.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from learn2compress.modalities.draws import draw_bits
from learn2compress.modalities.image.views import photo_views, shifts
from learn2compress.modalities.image.views.mixing import WHOLE, draw_shares, mix, mixing_seed
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.manifests import AnyViewRecipe, ViewRecipe


class ImageViews:
    """Implements `Views` for images: a view's parameters are dy, dx, mirrored, or those of views of photographs.

    In a recipe with mixes, the share of the image follows them.

    Args:
        shape: Height, width and channels of the task's images.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    def width(self, recipe: AnyViewRecipe) -> int:
        """Returns the number of parameters of a view."""
        assert isinstance(recipe, ViewRecipe)  # of this modality
        return (shifts.WIDTH if recipe.smallest_area is None else photo_views.WIDTH) + recipe.mixed

    def mixes(self, recipe: AnyViewRecipe) -> bool:
        """Returns whether every second view is a mix of two images."""
        assert isinstance(recipe, ViewRecipe)  # of this modality
        return recipe.mixed

    def on_trial(self, config: TeacherImportConfig) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns mirroring from left to right; None if the configuration decides whether views are mirrored."""
        return shifts.mirror if config.view_flip == "auto" else None

    def recipe(self, config: TeacherImportConfig, seed: int, passed: bool) -> ViewRecipe:
        """Makes the recipe: the largest shift is a fraction of each side, rounded to whole pixels."""
        flip = passed if config.view_flip == "auto" else config.view_flip == "yes"
        if config.view_area is not None:
            return ViewRecipe(
                count=config.views, shift_pixels=(0, 0), flip=flip, seed=seed, mixed=config.view_mix,
                smallest_area=config.view_area, colour=config.view_colour or 0.0,
            )  # fmt: skip
        high_y, high_x = (min(side - 1, round(config.view_shift * side)) for side in self.shape[:2])
        return ViewRecipe(
            count=config.views, shift_pixels=(high_y, high_x), flip=flip, seed=seed, mixed=config.view_mix
        )

    def draw(self, ids: np.ndarray, recipe: AnyViewRecipe) -> np.ndarray:
        """Draws the parameters of views; see `draw_views`, `draw_photo_views` and `draw_shares`."""
        assert isinstance(recipe, ViewRecipe)  # of this modality
        if recipe.smallest_area is not None:
            views = photo_views.draw_photo_views(draw_bits(ids, recipe.count, recipe.seed), self.shape, recipe)
        else:
            views = shifts.draw_views(ids, recipe)
        if not recipe.mixed:
            return views
        shares = draw_shares(draw_bits(ids, recipe.count, mixing_seed(recipe.seed)))
        return np.concatenate([views, shares], axis=-1)

    def apply(self, batch: tf.Tensor, parameters: tf.Tensor, partners: tf.Tensor | None = None) -> tf.Tensor:
        """Makes a view of each image; see `mix`, and then `apply_view` or `apply_photo_view`."""
        if _has_share(parameters):
            assert partners is not None  # as `mixes` told
            batch = mix(batch, partners, parameters[:, -1])
            parameters = parameters[:, :-1]
        if parameters.shape[-1] == photo_views.WIDTH:
            return photo_views.apply_photo_view(batch, parameters)
        return shifts.apply_view(batch, parameters)

    def labels(self, labels: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the labels, and -1 for mixes."""
        if not _has_share(parameters):
            return labels
        return tf.where(parameters[:, -1] == WHOLE, labels, tf.constant(-1, labels.dtype))


def _has_share(parameters: tf.Tensor) -> bool:
    return parameters.shape[-1] in (shifts.WIDTH + 1, photo_views.WIDTH + 1)
