# SPDX-License-Identifier: Apache-2.0
"""The presets mean what their libraries mean by them."""

import numpy as np
import pytest
from pydantic import ValidationError

from learn2compress.schemas.errors import ConfigError
from learn2compress.schemas.scaling import PRESETS, Scaling


@pytest.mark.parametrize(
    ("name", "pixel", "expected"),
    [
        ("none", (0, 128, 255), (0, 128, 255)),
        ("unit", (0, 51, 255), (0, 0.2, 1)),
        ("symmetric", (0, 127.5, 255), (-1, 0, 1)),
        ("imagenet", (123.675, 116.28, 103.53), (0, 0, 0)),
        ("imagenet", (255, 255, 255), (2.2489, 2.4286, 2.64)),
    ],
)
def test_scaling_named_applies_the_preset(name: str, pixel: tuple[float, ...], expected: tuple[float, ...]) -> None:
    mean, std = Scaling.named(name).for_channels(3)
    np.testing.assert_allclose((np.array(pixel) - mean) / std, expected, atol=1e-4)


def test_scaling_caffe_is_in_bgr_order() -> None:
    scaling = Scaling.named("caffe")
    assert scaling.channel_order == "bgr"
    assert scaling.mean == (103.939, 116.779, 123.68)


@pytest.mark.parametrize("name", PRESETS)
def test_scaling_has_its_name_after_a_round_trip_through_json(name: str) -> None:
    scaling = Scaling.model_validate(name)
    assert scaling.name == name
    assert Scaling.model_validate_json(scaling.model_dump_json()) == scaling


def test_scaling_without_a_name_is_shown_by_its_numbers() -> None:
    scaling = Scaling(mean=(1, 2, 3), std=(4,))
    assert scaling.name is None
    assert str(scaling) == "mean [1.0, 2.0, 3.0], std [4.0]"
    assert scaling.for_channels(3) == ((1, 2, 3), (4, 4, 4))


def test_scaling_named_names_the_nearest_preset() -> None:
    with pytest.raises(ConfigError, match=r"one of none, unit, .*; got 'uint'. Did you mean 'unit'\?"):
        Scaling.named("uint")


def test_scaling_validation_names_the_presets() -> None:
    with pytest.raises(ValidationError, match="scaling must be one of none, unit"):
        Scaling.model_validate("zzz")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"std": (0.0,)}, "std must be above 0; got 0"),
        ({"std": (-1.0,)}, "std must be above 0"),
        ({"mean": (1, 2), "std": (1, 2, 3)}, "as many numbers as each other; got 2 and 3"),
        ({"mean": ()}, "must have at least one number; got none"),
        ({"mean": (float("nan"),)}, "finite"),
        ({"channel_order": "bgr", "mean": (1, 2, 3, 4)}, "bgr must come with 3 channels"),
        ({"median": (1,)}, "median"),
    ],
)
def test_scaling_refuses_invalid_fields(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Scaling(**fields)


def test_scaling_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Scaling.named("unit").mean = (1.0,)


def test_scaling_for_channels_refuses_another_number_of_channels() -> None:
    assert not Scaling.named("imagenet").suits(1)
    assert not Scaling(channel_order="bgr").suits(1)
    assert Scaling.named("unit").suits(1)
    with pytest.raises(ConfigError, match=r"must suit images of 1 channel\(s\); got 'imagenet'"):
        Scaling.named("imagenet").for_channels(1)
