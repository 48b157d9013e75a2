# SPDX-License-Identifier: Apache-2.0
"""Runs inference with a teacher on all examples, as a Beam pipeline with one element for each shard.

TeacherImporter runs it with the user's model, Distiller with the jointly trained one. Each worker loads the teacher
once. Workers on several machines share the folders of examples and logits, or have an exchange (exchange.py). The
counts of each finished shard are kept in a file beside it until all shards are finished, so that a later attempt skips
the shards that an earlier one has finished. The module is separate from the nodes, so that workers import no TFX.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np

from learn2compress.components.beam.exchange import Exchange, fetch, fetched, read, remove, target, write
from learn2compress.components.beam.signals import Signals, Worker, runs_in_this_process
from learn2compress.compression.teacher.classifier import LoadedTeacher
from learn2compress.compression.teacher.configured import open_teacher
from learn2compress.compression.teacher.features import find_feature_layer
from learn2compress.compression.teacher.logits import ShardCount, write_outputs_shard
from learn2compress.data.batches import FEATURES_FOLDER
from learn2compress.schemas.config import TeacherImportConfig
from learn2compress.schemas.files.whole import remove_asides
from learn2compress.schemas.manifests import AnyViewRecipe, DataManifest, Split, Task, TeacherManifest
from learn2compress.schemas.progress import Task as Progress
from learn2compress.schemas.progress import say

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FEATURE_PARTS = ("train", "unlabeled")
_COUNTS = ".counts"  # suffix of the file with a shard's counts, kept until all shards are finished


def import_config_of(folder: str | Path, manifest: TeacherManifest) -> TeacherImportConfig:
    """Makes the configuration with which the teacher of an artifact is loaded.

    Args:
        folder: Folder of the `Teacher` or `TrainedTeacher` artifact.
        manifest: Manifest of the teacher in it.
    """
    return TeacherImportConfig(
        path=f"{folder}/{manifest.model}",
        scaling=manifest.scaling,
        signature=manifest.signature,
        output=manifest.output_name,
        class_order=manifest.class_order,
        resize=manifest.resize,
        tokenizer=f"{folder}/{manifest.tokenizer.path}" if manifest.tokenizer else None,
        vocabulary=f"{folder}/{manifest.vocabulary.path}" if manifest.vocabulary else None,
    )


def run_teacher_inference(
    pipeline: beam.Pipeline,
    config: TeacherImportConfig,
    data: DataManifest,
    examples: str,
    output: str,
    recipe: AnyViewRecipe,
    splits: Sequence[Split] = SPLITS,
    with_features: bool = False,
    with_unlabeled: bool = False,
    key: str | None = None,
) -> dict[str, ShardCount]:
    """Writes the teacher's logits on K views of the training examples, and on the unchanged held-out examples.

    Args:
        pipeline: Beam pipeline, not yet run.
        config: Configuration with which the teacher is loaded.
        data: Manifest of the examples.
        examples: Folder of `Examples`.
        output: Folder of `TeacherLogits`, or a folder in which the outputs are collected until they are complete, see
            `move_outputs`.
        recipe: Recipe of the views.
        splits: Splits for which logits are written.
        with_features: Whether to write features as well, on K views of the training examples and of those without
            labels. Logits and features of a view come from one forward pass.
        with_unlabeled: Whether to write logits on K views of the examples without labels as well.
        key: Name of the work, by which a later attempt finds in an exchange what this one finished; None if it shall
            not.

    Returns:
        The counts of each split and of `unlabeled`; zeros for those that were left out.

    Raises:
        TeacherError: A logit is not finite.
    """
    with Exchange.of(pipeline.options) as exchange:
        # Outputs keep their place in the exchange, where the next attempt at the same work finds them.
        there = exchange.folder(output, key)
        shards, views = _list_shards(
            data, examples, there, recipe, with_features, [*splits, *(["unlabeled"] if with_unlabeled else [])]
        )
        finished = [count for one in shards if (count := _read_count(one.outputs))]
        before = sum(count.forward_passes for count in finished)
        if finished:
            found = f"{len(finished)} of {len(shards)} shards have outputs of an earlier attempt"
            say(f"{found}; inference runs on the others")
        offered = [dataclasses.replace(one, examples=exchange.offer(one.examples)) for one in shards]
        signals = Signals(f"{there}/.signals")
        # Workers in this process show each batch; of others the finished shards are counted.
        progress = "" if runs_in_this_process(pipeline.options) else "teacher inference: shard"
        with signals.running(pipeline, exchange, progress, {one.name: 1 for one in shards}):
            _ = (
                pipeline
                | "Shards" >> beam.Create(offered)
                | "Distribute" >> beam.Reshuffle()
                | "RunTeacher"
                >> beam.ParDo(
                    _RunTeacher(_offer_teacher(config, exchange), data.task, with_features, views, before, signals)
                )
            )
        counts = {part: ShardCount(0, 0, 0) for part in (*SPLITS, "unlabeled")}
        for one in shards:
            counts[one.part] += _read_count(one.outputs) or ShardCount(0, 0, 0)
        for one in shards:
            remove(_counts_path(one.outputs))
        exchange.take(there, output)
    return counts


@dataclass(frozen=True)
class _Shard:
    """A shard of examples, and the references of its outputs by kind."""

    part: str
    examples: str
    outputs: dict[str, str]
    recipe: AnyViewRecipe

    @property
    def name(self) -> str:
        return f"{self.part}-{Path(self.examples).name}"


def _list_shards(
    data: DataManifest, examples: str, output: str, recipe: AnyViewRecipe, with_features: bool, with_logits: list[str]
) -> tuple[list[_Shard], int]:
    """Lists the shards that have outputs, and counts their views."""
    held_out = recipe.model_copy(update={"count": 1})
    names = dict[str, list[str]](data.shards.items())
    images = dict[str, int](data.counts.items())
    if data.unlabeled:
        names["unlabeled"], images["unlabeled"] = data.unlabeled.shards, data.unlabeled.count
    shards, views = [], 0
    for part in names:
        folders = {"logits": output} if part in with_logits else {}
        if with_features and part in FEATURE_PARTS:
            folders["features"] = f"{output}/{FEATURES_FOLDER}"
        if not folders:
            continue
        drawn = recipe if part in FEATURE_PARTS else held_out
        views += drawn.count * images[part]
        for name in names[part]:
            place = f"Split-{part}/{name}"
            outputs = {kind: f"{folder}/{place}" for kind, folder in folders.items()}
            shards.append(_Shard(part, f"{examples}/{place}", outputs, drawn))
    return shards, views


_TEACHER_FILES = ("path", "tokenizer", "vocabulary")


def _offer_teacher(config: TeacherImportConfig, exchange: Exchange) -> TeacherImportConfig:
    files = {field: exchange.offer(path) for field in _TEACHER_FILES if (path := getattr(config, field))}
    return config.model_copy(update=files)


def move_outputs(collected: Path, output: str) -> None:
    """Moves the complete outputs of `run_teacher_inference` to the artifact's folder."""
    remove_asides(collected)
    Path(output).mkdir(parents=True, exist_ok=True)
    for part in collected.iterdir():
        shutil.move(part, Path(output, part.name))
    collected.rmdir()


def accuracy_of(counts: dict[str, ShardCount]) -> dict[Split, float]:
    """Computes a teacher's accuracy on the held-out splits from the counts of its inference."""
    held_out: tuple[Split, ...] = ("validation", "test")
    return {split: counts[split].correct / counts[split].images for split in held_out if counts[split].images}


class _RunTeacher(Worker):
    """Writes the teacher's outputs for a shard; each worker loads the teacher once."""

    def __init__(
        self,
        config: TeacherImportConfig,
        task: Task,
        with_features: bool,
        views: int,
        before: int,
        signals: Signals,
    ) -> None:
        self.config, self.task, self.with_features = config, task, with_features
        self.views, self.before, self.signals = views, before, signals

    def setup(self) -> None:
        self.teacher: LoadedTeacher | None = None
        # Shown if the work is done in the caller's process; other processes write to their own logs.
        self.progress = Progress("teacher inference: view", self.views, self.before)

    def work(self, shard: _Shard) -> None:
        if self.teacher is None:  # loaded here, since an error in `setup` would be tried again
            files = {field: fetch(path) for field in _TEACHER_FILES if (path := getattr(self.config, field))}
            self.teacher = open_teacher(self.config.model_copy(update=files), self.task)
            self.features = find_feature_layer(self.teacher, self.config.feature_layer) if self.with_features else None
        if _read_count(shard.outputs) is None:
            infer = self._infer_both if "features" in shard.outputs else self._infer_logits
            with ExitStack() as files_here:
                examples = files_here.enter_context(fetched(shard.examples))
                outputs = {kind: files_here.enter_context(target(path)) for kind, path in shard.outputs.items()}
                count = write_outputs_shard(infer, examples, outputs, self.task, shard.recipe, self.progress.advance)
            write(_counts_path(shard.outputs), ",".join(map(str, astuple(count))).encode())
        self.tell_done(shard.name)

    def _infer_logits(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert self.teacher is not None  # loaded
        return {"logits": self.teacher.logits(images)}

    def _infer_both(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert self.features is not None  # with_features
        features, logits = self.features.features_and_logits(images)
        return {"features": features, "logits": logits}


def _counts_path(outputs: Mapping[str, str]) -> str:
    """Names the file of counts, which lies beside the first output file of a shard."""
    return next(iter(outputs.values())) + _COUNTS


def _read_count(outputs: Mapping[str, str]) -> ShardCount | None:
    """Reads the counts of a shard; None if it is not finished."""
    content = read(_counts_path(outputs))
    return None if content is None else ShardCount(*map(int, content.decode().split(",")))
