# SPDX-License-Identifier: Apache-2.0
"""Asking a teacher about all images, as a Beam pipeline with an element a shard; apart from the nodes that do.

TeacherImporter asks the user's model, and Distiller the one that it trained along. A worker loads the teacher once.
Workers on several machines must share the folders of examples and logits. Beside each finished shard lies what was
counted in it, until all are finished: a shard that an earlier try has finished is not asked about again.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import apache_beam as beam

from learn2compress.components.beam_options import user_errors
from learn2compress.compression.examples import FEATURES_FOLDER
from learn2compress.compression.progress import Task, say
from learn2compress.compression.teacher import LoadedTeacher, load_teacher
from learn2compress.compression.teacher_features import find_feature_layer
from learn2compress.compression.teacher_logits import ShardCount, write_features_shard, write_logits_shard
from learn2compress.schemas.config import TeacherConfig
from learn2compress.schemas.manifests import DataManifest, Split, TeacherManifest, ViewRecipe

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FEATURE_PARTS = ("features/train", "features/unlabeled")
_COUNTS = ".counts"  # what a shard's file has beside it until all shards are there


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
        output: Folder of `TeacherLogits`, or one in which they gather until they are whole, see `move_answers`.
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
    finished = [count for _, _, path, _ in shards if (count := _read_count(path))]
    before = sum(count.forward_passes for count in finished)
    if finished:
        say(f"{len(finished)} of {len(shards)} shards were answered before: the teacher is asked about the others")
    with user_errors(), pipeline:
        (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Ask" >> beam.ParDo(_AskTeacher(config, data.task.input_shape, views, before))
        )
    counts = {part: ShardCount(0, 0, 0) for part in (*SPLITS, *FEATURE_PARTS)}
    for part, _, path, _ in shards:
        counts[part] += _read_count(path)
    for _, _, path, _ in shards:
        Path(path + _COUNTS).unlink()
    return counts


def move_answers(gathered: Path, output: str) -> None:
    """Moves what `ask_teacher` wrote, now that it is whole, to the artifact's folder."""
    Path(output).mkdir(parents=True, exist_ok=True)
    for part in gathered.iterdir():
        shutil.move(part, Path(output, part.name))
    gathered.rmdir()


def accuracy_of(counts: dict[str, ShardCount]) -> dict[Split, float]:
    """A teacher's accuracy on the held-out images that it was asked about."""
    held_out: tuple[Split, ...] = ("validation", "test")
    return {split: counts[split].correct / counts[split].images for split in held_out if counts[split].images}


class _AskTeacher(beam.DoFn):
    """Writes the logits of a shard; the teacher is loaded once a worker."""

    def __init__(self, config: TeacherConfig, input_shape: tuple[int, int, int], views: int, before: int) -> None:
        self.config, self.input_shape, self.views, self.before = config, input_shape, views, before

    def setup(self) -> None:
        self.teacher = open_teacher(self.config, self.input_shape)
        # Seen where the work is done in the caller's process; other processes tell their own logs.
        self.task = Task("asking the teacher: view", self.views, self.before)

    def process(self, shard: tuple[str, str, str, ViewRecipe]) -> None:
        part, examples, output, recipe = shard
        if _read_count(output) is None:
            _write_count(output, self._ask(part, examples, output, recipe))

    def _ask(self, part: str, examples: str, output: str, recipe: ViewRecipe) -> ShardCount:
        asked = (examples, output, self.input_shape, recipe, self.task.advance)
        if part not in FEATURE_PARTS:
            return write_logits_shard(self.teacher, *asked)
        images = write_features_shard(find_feature_layer(self.teacher, self.config.feature_layer), *asked)
        return ShardCount(images, images * recipe.count, 0)


def _write_count(shard: str, count: ShardCount) -> None:
    partial = Path(f"{shard}{_COUNTS}.partial")
    partial.write_text(",".join(map(str, astuple(count))), encoding="utf-8")
    os.replace(partial, shard + _COUNTS)


def _read_count(shard: str) -> ShardCount | None:
    """What was counted in a shard; None if it is not finished."""
    path = Path(shard + _COUNTS)
    return ShardCount(*map(int, path.read_text(encoding="utf-8").split(","))) if path.exists() else None
