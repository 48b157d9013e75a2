# SPDX-License-Identifier: Apache-2.0
"""Makes configurations and channels for building a node without a pipeline."""

from tfx import types

from learn2compress.components.node import Node
from learn2compress.schemas.config import Config, DataConfig, Section, TeacherConfig


def configured(**sections: Section) -> Config:
    """Makes a configuration of the given sections; all others have their defaults."""
    return Config(**{"teacher": TeacherConfig(path="t.keras"), "data": DataConfig(path="digits")} | sections)


def channels(node: type[Node]) -> dict[str, types.Channel]:
    """Makes a channel for each input of a node."""
    return {key: types.Channel(type=kind) for key, kind in node.INPUTS.items()}
