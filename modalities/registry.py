# SPDX-License-Identifier: Apache-2.0
"""Lists the modalities; a new one is added here, under its name in `Task.modality`."""

from learn2compress.modalities.image.modality import ImageModality
from learn2compress.modalities.protocol import Modality
from learn2compress.modalities.text.modality import TextModality
from learn2compress.schemas.manifests import DEFAULT_MODALITY, Task

MODALITIES: dict[str, Modality] = {"image": ImageModality(), "text": TextModality()}


def modality_named(name: str = DEFAULT_MODALITY) -> Modality:
    """Returns the modality of a name.

    Raises:
        KeyError: There is no such modality; `Task` refuses such a name.
    """
    return MODALITIES[name]


def modality_of(task: Task) -> Modality:
    """Returns the modality of a task's examples."""
    return modality_named(task.modality)
