# SPDX-License-Identifier: Apache-2.0
"""Ingests labelled examples, the common part of the nodes that make `Examples` of images and of texts.

Examples without labels (`data.unlabeled`) are stored beside the splits and belong to none of them. The lineage records:
data_digest, classes, images (the number of examples), <split>_images, unlabeled_images, skipped, and duplicates
(held-out examples that also occur in another split); of texts also near_duplicates; storage, if images are stored as
encoded pictures.
"""

import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx import types
from tfx.types import artifact_utils

from learn2compress.components.beam.ingestion import ingest
from learn2compress.components.node import BeamNodeExecutor, Execution
from learn2compress.data.example_records import SPLITS, Plan, make_plan
from learn2compress.data.raw_examples import UNLABELED
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.data.sources.unlabeled import open_unlabeled
from learn2compress.modalities import modality_named
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import (
    DEFAULT_MODALITY,
    BadFile,
    DataManifest,
    Split,
    Task,
    Unlabeled,
    write_manifest,
)

_LOGGER = logging.getLogger(__name__)


class ExampleGenExecutor(BeamNodeExecutor):
    """Opens the source, runs the Beam pipeline, and checks its report."""

    def run(self, execution: Execution) -> None:
        config = execution.section("data", DataConfig)
        limit = execution.parameters.get("limit")
        examples = execution.output("examples")
        folder = Path(examples.uri)
        source = open_source(config, limit)
        unlabeled_source = open_unlabeled(config, limit) if config.unlabeled else None
        task = resolve_task(config, source)
        # In the output folder, since a finished shard can only be renamed within a file system.
        spill = folder / f".spill-{uuid.uuid4().hex}"
        try:
            plan = make_plan(
                config, source, task, str(folder), str(spill), unlabeled_source.count if unlabeled_source else 0
            )
            pieces = [*source.pieces, *(unlabeled_source.pieces if unlabeled_source else ())]
            report = ingest(self._make_beam_pipeline(), pieces, plan)
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        check_report(report, config, source.classes, source.modality)

        per_class = {
            split: [report["examples"][split].get(str(label), 0) for label in range(len(source.classes))]
            for split in SPLITS
        }
        unlabeled = sum(report["examples"].get(UNLABELED, {}).values())
        manifest = DataManifest(
            task=task,
            digest=execution.parameters["data_digest"],
            counts={split: sum(per_class[split]) for split in SPLITS},
            per_class=per_class,
            shards={split: _shard_names(plan, split) for split in SPLITS},
            duplicates=report["duplicates"],
            duplicate_examples=[tuple(pair) for pair in report["duplicate_examples"]],
            skipped=[BadFile(source=name, reason=reason) for name, reason in report["bad"]],
            skipped_count=report["bad_count"],
            unlabeled=Unlabeled(count=unlabeled, shards=_shard_names(plan, UNLABELED)) if unlabeled_source else None,
            notes=[*source.notes, *_without_examples(task, per_class), *_contradictions(report)],
            near_duplicates=report["near_duplicates"],
            storage=plan.storage,
        )
        write_manifest(folder, manifest)
        _warn(manifest)
        _describe(examples, manifest)


def statistics_options(modality: str = DEFAULT_MODALITY) -> Any:
    """Makes the options for StatisticsGen: statistics of the label and of the features that the modality measures.

    Without them, contents, ids and sources would be treated as categorical features. Since each of their values occurs
    once, their statistics take long and are meaningless, and the schema would report every new example as an anomaly.
    """
    # Imported here, because only building the DAG requires it.
    import tensorflow_data_validation as tfdv

    return tfdv.StatsOptions(feature_allowlist=["label", *modality_named(modality).statistics])


def check_report(
    report: dict[str, Any], config: DataConfig, classes: tuple[str, ...], modality: str = DEFAULT_MODALITY
) -> None:
    """Refuse data with too many unreadable examples, an empty split, or a class without training examples.

    Args:
        report: Report of `ingest`.
        config: Section `data`.
        classes: Names of the classes in label order.
        modality: Name of the modality, for messages.

    Raises:
        DataError: More than `data.max_bad_fraction` was unreadable, a split is empty, or a class has no training
            example.
    """
    counts = {split: sum(report["examples"][split].values()) for split in SPLITS}
    total, bad = sum(sum(found.values()) for found in report["examples"].values()), report["bad_count"]
    where = f"{config.path} and {config.unlabeled}" if config.unlabeled else config.path
    if bad > config.max_bad_fraction * (total + bad):
        named = "; ".join(f"{name}: {reason}" for name, reason in report["bad"][:3])
        raise DataError(
            f"at most {config.max_bad_fraction:.2%} of the {modality}s in {where} may be unreadable; got {bad} of "
            f"{total + bad}: {named}. Repair or remove them, or raise data.max_bad_fraction."
        )
    empty = [split for split in SPLITS if not counts[split]]
    if empty:
        raise DataError(
            f"each of the splits train, validation and test must hold {modality}s; got none for {empty[0]} of "
            f"{sum(counts.values())} in {config.path}. Give more {modality}s, raise --limit, or raise "
            "data.validation_fraction or data.test_fraction."
        )
    lacking = [name for label, name in enumerate(classes) if not report["examples"]["train"].get(str(label))]
    if lacking:
        raise DataError(
            f"each class of {config.path} must have training {modality}s; got none of {lacking[0]!r} after the "
            f"split. Give more {modality}s of it, raise --limit, or remove the class."
        )


def _shard_names(plan: Plan, part: str) -> list[str]:
    return [plan.shard_name(part, shard) for shard in range(plan.shards.get(part, 0))]


def _without_examples(task: Task, per_class: dict[Split, list[int]]) -> Iterator[str]:
    """Names the classes that have no examples in a held-out split."""
    for split in SPLITS[1:]:
        absent = [name for name, count in zip(task.classes, per_class[split], strict=True) if not count]
        if absent:
            shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
            yield f"no {split} {task.modality} is of the class {shown}: {split} figures say nothing of it"


def _contradictions(report: dict[str, Any]) -> Iterator[str]:
    """Names texts that occur with several labels."""
    if report["contradictions"]:
        one, other = report["contradictory"][0]
        yield (
            f"texts whose words occur in more than one class, {report['contradictions']}, for example {one} and "
            f"{other}: their labels contradict each other"
        )


def _warn(manifest: DataManifest) -> None:
    for note in manifest.notes:
        _LOGGER.warning("%s", note)
    for bad in manifest.skipped:
        _LOGGER.warning("skipped %s: %s", bad.source, bad.reason)
    for pair, count in _leaks(manifest.duplicates):
        one, other = pair.split("/")
        what = f"{count} {manifest.task.modality}s of {other} are also in {one}"
        _LOGGER.warning("%s; manifest.json names some", what)
    for pair, count in _leaks(manifest.near_duplicates):
        one, other = pair.split("/")
        _LOGGER.warning(
            "%d texts of %s have the words of a text in %s, with other punctuation or case", count, other, one
        )


def _describe(examples: types.Artifact, manifest: DataManifest) -> None:
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    # The properties that TFX's own ExampleGen sets, which other nodes read.
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    examples.set_string_custom_property("data_digest", manifest.digest)
    examples.set_int_custom_property("classes", len(manifest.task.classes))
    examples.set_int_custom_property("images", sum(manifest.counts.values()))
    for split, count in manifest.counts.items():
        examples.set_int_custom_property(f"{split}_images", count)
    if manifest.unlabeled:
        examples.set_int_custom_property("unlabeled_images", manifest.unlabeled.count)
    if manifest.storage != "raw":
        examples.set_string_custom_property("storage", manifest.storage)
    examples.set_int_custom_property("skipped", manifest.skipped_count)
    examples.set_int_custom_property("duplicates", sum(count for _, count in _leaks(manifest.duplicates)))
    if manifest.task.modality != DEFAULT_MODALITY:
        near = sum(count for _, count in _leaks(manifest.near_duplicates))
        examples.set_int_custom_property("near_duplicates", near)


def _leaks(pairs: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yields the counts of duplicates between two splits.

    A copy of a training example without its label does no harm; a copy of a held-out one leaks into training.
    """
    for pair, count in pairs.items():
        if len(set(pair.split("/"))) > 1 and pair != f"train/{UNLABELED}":
            yield pair, count
