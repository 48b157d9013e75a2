# SPDX-License-Identifier: Apache-2.0
"""Channel pruning for students of texts: removes the rows of their table that have the least effect."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from learn2compress.compression.dictionary.rows import describe_spec, kept_fraction, prune_rows
from learn2compress.compression.dictionary.taken import taken
from learn2compress.compression.pruning.passes.base import Context, Work
from learn2compress.compression.pruning.passes.fine_tuning import fine_tune
from learn2compress.modalities.text.lookup.dictionary import Dictionary
from learn2compress.schemas.config import ChannelPassConfig
from learn2compress.schemas.progress import say

_COUNTED = 10_000  # texts by which the rows are counted


def remove_rows(work: Work, dictionary: Dictionary, context: Context, config: ChannelPassConfig) -> Work:
    """Removes rows for the target of `prune.channels`, and fine-tunes the family.

    Args:
        work: Students with a dictionary.
        dictionary: Their dictionary.
        context: Data, recipe and devices.
        config: Parameters of the pass `channels`, with a target.
    """
    classes = context.data.task.classes
    spec = describe_spec(work.family, work.names, dictionary, classes)
    target: Mapping[str, float | int | None] = config.channels.model_dump() if config.channels else {}
    kept = kept_fraction(spec, target)
    texts, _ = context.data.representative(_COUNTED)
    pruned = prune_rows(work.family, work.names, dictionary, np.stack(texts), kept)
    rows = [student.rows for student in describe_spec(pruned.family, work.names, pruned.dictionary, classes).students]
    note = (
        f"{1 - kept:.0%} of the rows were removed, which have {1 - pruned.effect:.1%} of the effect on the logits: "
        + ", ".join(f"{name} {count:,} words" for name, count in zip(work.names, rows, strict=True))
    )
    say(note)
    content = pruned.dictionary.to_bytes()
    work = replace(work, family=pruned.family, dictionary=content).with_note(note)
    recipe = replace(
        context.recipe, stage="thinned", epochs=config.channel_epochs, learning_rate=config.channel_learning_rate
    )
    return fine_tune(work, replace(context, data=taken(context.data, content)), recipe, "channels.npz")
