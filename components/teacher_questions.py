# SPDX-License-Identifier: Apache-2.0
"""Asking a teacher about all images, as a Beam pipeline with an element a shard; apart from the nodes that do.

TeacherImporter asks the user's model, and Distiller the one that it trained along. A worker loads the teacher once.
Workers on several machines must share the folders of examples and logits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np

from learn2compress.components.beam_options import user_errors
from learn2compress.compression.examples import FEATURES_FOLDER
from learn2compress.compression.progress import Task
from learn2compress.compression.teacher import LoadedTeacher, load_teacher
from learn2compress.compression.teacher_features import find_feature_layer
from learn2compress.compression.teacher_logits import ShardCount, write_features_shard, write_logits_shard
from learn2compress.schemas.config import TeacherConfig
from learn2compress.schemas.manifests import DataManifest, Split, TeacherManifest, ViewRecipe

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FEATURE_PARTS = ("features/train", "features/unlabeled")


def open_teacher(config: TeacherConfig, input_shape: tuple[int, int, int], path: str | None = None) -> LoadedTeacher:
    """Loads the teacher as configured.

    Args:
        config: How it is to be understood.
        input_shape: (height, width, channels) of the data.
        path: Where it is; default: as configured.
    """
    return load_teacher(
        path or config.path,
        scaling=config.scaling,
        signature=config.signature,
        output_name=config.output,
        class_order=config.class_order,
        resize=config.resize,
        image_shape=input_shape,
    )


def understanding(folder: str | Path, manifest: TeacherManifest) -> TeacherConfig:
    """The section that says of a teacher in an artifact where it is and how it is to be understood."""
    return TeacherConfig(
        path=f"{folder}/{manifest.model}",
        scaling=manifest.scaling,
        signature=manifest.signature,
        output=manifest.output_name,
        class_order=manifest.class_order,
        resize=manifest.resize,
    )


def ask_teacher(
    pipeline: beam.Pipeline,
    config: TeacherConfig,
    data: DataManifest,
    examples: str,
    output: str,
    recipe: ViewRecipe,
    splits: Sequence[Split] = SPLITS,
    with_features: bool = False,
) -> dict[str, ShardCount]:
    """Writes the teacher's logits on K views of the training images, and on held-out images as they are.

    Args:
        pipeline: Not yet run.
        config: Where the teacher is and how it is to be understood.
        data: Of the examples.
        examples: Folder of `Examples`.
        output: Folder of `TeacherLogits`.
        recipe: Of the views.
        splits: Which to ask about.
        with_features: Whether to write its features, too, on K views of the training images and of those without
            labels.

    Returns:
        What was counted in each split, zeros in one that was left out; and of features as `features/train` and
        `features/unlabeled`.

    Raises:
        TeacherError: A logit is not finite.
    """
    held_out = recipe.model_copy(update={"count": 1})
    recipes = {split: recipe if split == "train" else held_out for split in splits}
    shards = [
        (split, f"{examples}/Split-{split}/{name}", f"{output}/Split-{split}/{name}", recipes[split])
        for split in splits
        for name in data.shards[split]
    ]
    views = sum(recipes[split].count * data.counts[split] for split in splits)
    if with_features:
        folder = f"{output}/{FEATURES_FOLDER}"
        parts = {"train": data.shards["train"], "unlabeled": data.unlabeled.shards if data.unlabeled else []}
        shards += [
            (f"features/{part}", f"{examples}/Split-{part}/{name}", f"{folder}/Split-{part}/{name}", recipe)
            for part, names in parts.items()
            for name in names
        ]
        views += recipe.count * (data.counts["train"] + (data.unlabeled.count if data.unlabeled else 0))
    counts_file = f"{output}/counts"
    with user_errors(), pipeline:
        (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Ask" >> beam.ParDo(_AskTeacher(config, data.task.input_shape, views))
            | "Count" >> beam.CombinePerKey(_add_counts)
            | "Format" >> beam.Map(lambda item: ",".join(map(str, (item[0], *item[1]))))
            | "Write" >> beam.io.WriteToText(counts_file, num_shards=1, shard_name_template="")
        )
    lines = Path(counts_file).read_text(encoding="utf-8").split()
    Path(counts_file).unlink()
    counted = {split: ShardCount(*map(int, counts)) for split, *counts in (line.split(",") for line in lines)}
    return {part: counted.get(part, ShardCount(0, 0, 0)) for part in (*SPLITS, *FEATURE_PARTS)}


def accuracy_of(counts: dict[str, ShardCount]) -> dict[Split, float]:
    """A teacher's accuracy on the held-out images that it was asked about."""
    held_out: tuple[Split, ...] = ("validation", "test")
    return {split: counts[split].correct / counts[split].images for split in held_out if counts[split].images}


class _AskTeacher(beam.DoFn):
    """Writes the logits of a shard; the teacher is loaded once a worker."""

    def __init__(self, config: TeacherConfig, input_shape: tuple[int, int, int], views: int) -> None:
        self.config, self.input_shape, self.views = config, input_shape, views

    def setup(self) -> None:
        self.teacher = open_teacher(self.config, self.input_shape)
        # Seen where the work is done in the caller's process; other processes tell their own logs.
        self.task = Task("asking the teacher: view", self.views)

    def process(self, shard: tuple[str, str, str, ViewRecipe]) -> Iterator[tuple[str, tuple[int, int, int]]]:
        split, examples, output, recipe = shard
        if split in FEATURE_PARTS:
            features = find_feature_layer(self.teacher, self.config.feature_layer)
            images = write_features_shard(
                features, examples, output, self.input_shape, recipe, on_views=self.task.advance
            )
            yield split, (images, images * recipe.count, 0)
            return
        count = write_logits_shard(self.teacher, examples, output, self.input_shape, recipe, on_views=self.task.advance)
        yield split, (count.images, count.forward_passes, count.correct)


def _add_counts(counts) -> tuple[int, int, int]:
    return tuple(int(n) for n in np.sum(list(counts), axis=0))
