# SPDX-License-Identifier: Apache-2.0
"""The scaling of pixels that a model expects, with presets for the configuration, teachers and file metadata.

Pixels are 0..255. The input of a model is (pixel - mean) / std for each channel, which is also the normalization in
TensorFlow Lite's metadata.
"""

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from learn2compress.schemas.errors import ConfigError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

PRESETS: dict[str, dict[str, Any]] = {
    "none": {"mean": (0.0,), "std": (1.0,)},
    "unit": {"mean": (0.0,), "std": (255.0,)},
    "symmetric": {"mean": (127.5,), "std": (127.5,)},
    # Normalization of torchvision, on pixels divided by 255.
    "imagenet": {
        "mean": tuple(255 * m for m in _IMAGENET_MEAN),
        "std": tuple(255 * s for s in _IMAGENET_STD),
    },
    # preprocess_input of keras.applications for ResNet50, VGG16 and similar models.
    "caffe": {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "channel_order": "bgr"},
}


class Scaling(BaseModel):
    """(pixel - mean) / std for each channel of pixels in 0..255.

    The name of a preset is accepted in place of a Scaling: `Scaling.model_validate("unit")`.

    Attributes:
        mean: One number for all channels, or one for each, in the model's channel order.
        std: One number for all channels, or one for each, in the model's channel order.
        channel_order: With `bgr`, the channels of colour images are reversed before the mean is subtracted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channel_order: Literal["rgb", "bgr"] = "rgb"

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(_unknown(value))
        return PRESETS[value]

    @model_validator(mode="after")
    def _fits_together(self) -> "Scaling":
        if not self.mean or not self.std:
            raise ValueError("mean and std must have at least one number; got none")
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError(
                f"mean and std must have as many numbers as each other; got {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0; got {min(self.std)}")
        if self.channel_order == "bgr" and max(len(self.mean), len(self.std)) not in (1, 3):
            raise ValueError("channel_order bgr must come with 3 channels")
        return self

    @classmethod
    def named(cls, name: str) -> "Scaling":
        """Returns the preset of a name.

        Raises:
            ConfigError: There is no preset of this name.
        """
        if name not in PRESETS:
            raise ConfigError(_unknown(name))
        return cls(**PRESETS[name])

    @property
    def name(self) -> str | None:
        """Name of the preset that equals this scaling; None if there is none."""
        return next((name for name in PRESETS if Scaling.named(name) == self), None)

    @property
    def is_identity(self) -> bool:
        """Whether pixels are not changed."""
        return self.channel_order == "rgb" and set(self.mean) == {0.0} and set(self.std) == {1.0}

    def suits(self, channels: int) -> bool:
        """Tells whether this scaling can be applied to images of a number of channels."""
        if self.channel_order == "bgr" and channels != 3:
            return False
        return {len(self.mean), len(self.std)} <= {1, channels}

    def for_channels(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and std with a number for each channel.

        Raises:
            ConfigError: The scaling is for another number of channels.
        """
        if not self.suits(channels):
            raise ConfigError(
                f"scaling must suit images of {channels} channel(s); got {self}. "
                "Give one number for all channels or one for each."
            )
        return _spread(self.mean, channels), _spread(self.std, channels)

    def __str__(self) -> str:
        if self.name:
            return f"'{self.name}'"
        return f"mean {list(self.mean)}, std {list(self.std)}" + (
            ", channel_order bgr" if self.channel_order == "bgr" else ""
        )


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, PRESETS, n=1)
    remedy = f"Did you mean '{near[0]}'?" if near else "Or give mean and std for each channel."
    return f"scaling must be one of {', '.join(PRESETS)}; got '{name}'. {remedy}"
