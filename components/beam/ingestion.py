# SPDX-License-Identifier: Apache-2.0
"""Turns the pieces of a source into sorted shards in a Beam pipeline, separate from the node: workers import no TFX.

    pieces ─► read, decode, fit ─┬─► by (split, shard) ─► sort by id ─► Split-*/data_tfrecord-*.gz
                                 ├─► by content ─► duplicates ─┐   (and by near id, for texts)
                                 └─► counts ───────────────────┴─► report.json

Contents do not pass through Beam's grouping, which a runner on one machine does in memory. Each worker writes its
records to its own file below `spill`, and Beam groups only their positions. Memory therefore grows by some hundred
bytes for each example, and not by its content. Workers on several machines share this folder and the output folder, or
have an exchange (exchange.py), to which the plan of the workers then refers.
"""

import dataclasses
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from learn2compress.components.beam.duplicates import (
    INDEX,
    NAMED_DUPLICATES,
    FindDuplicates,
    FindNearDuplicates,
    fetch_records,
)
from learn2compress.components.beam.exchange import Exchange, read, write, written
from learn2compress.components.beam.pieces import offer_piece
from learn2compress.components.beam.signals import Signals, Worker
from learn2compress.data.example_records import PARTS, SPLITS, Plan, make_record, open_shard
from learn2compress.data.raw_examples import Piece
from learn2compress.schemas.manifests import BadFile

NAMED_BAD_FILES = 100
_INDEX_BATCH = 4096
_REPORT = "report.json"


def ingest(pipeline: beam.Pipeline, pieces: Iterable[Piece], plan: Plan) -> dict[str, Any]:
    """Run the pipeline.

    Args:
        pipeline: Beam pipeline, not yet run.
        pieces: Pieces of the source, and of the images without labels.
        plan: Plan of the splits and shards.

    Returns:
        The report: `examples`, {split: {label as text: count}}; `bad`, the first unreadable files by name; `bad_count`;
        `duplicates`, {"train/test": number of images of the second split that are also in the first};
        `duplicate_examples`, pairs of sources; `near_duplicates`, in the same way as duplicates, without those;
        `contradictions`, the number of texts with several labels; `contradictory`, pairs of sources of some of them.

    Raises:
        DataError: A source is damaged.
        OutputError: The disk is full.
    """
    Path(plan.spill).mkdir(parents=True)
    for split in plan.shards:
        Path(plan.folder, f"Split-{split}").mkdir(parents=True, exist_ok=True)
    with Exchange.of(pipeline.options) as exchange:
        offered = [offer_piece(piece, exchange) for piece in pieces]
        there = dataclasses.replace(plan, folder=exchange.folder(plan.folder), spill=exchange.folder(plan.spill))
        signals = Signals(f"{there.spill}/signals")
        units = dict.fromkeys([_piece_done(number) for number in range(len(offered))], 1)
        units |= {_shard_done(split, shard): 1 for split in plan.shards for shard in range(plan.shards[split])}
        with signals.running(pipeline, exchange, "reading: part", units):
            _build(pipeline, offered, there, signals)
        report = json.loads(read(f"{there.spill}/{_REPORT}") or b"{}")
        exchange.take(there.folder, plan.folder)
    return report


def _build(pipeline: beam.Pipeline, pieces: list[Piece], plan: Plan, signals: Signals) -> None:
    """Adds the steps to a pipeline; `plan` refers to the folders as workers find them."""
    read = (
        pipeline
        | "Pieces" >> beam.Create(list(enumerate(pieces)), reshuffle=False)
        | "Distribute" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadPiece(plan, signals)).with_outputs("contents", "near", "counts", main="index")
    )
    # Shards without examples are written as well.
    every = [((split, shard), None) for split in plan.shards for shard in range(plan.shards[split])]
    _ = (
        (read.index, pipeline | "Shards" >> beam.Create(every, reshuffle=False))
        | beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(WriteShard(plan, signals))
    )
    duplicates = (
        read.contents | "ByContent" >> beam.GroupByKey() | "Duplicates" >> beam.ParDo(FindDuplicates(plan, signals))
    )
    near = (
        read.near | "ByNearId" >> beam.GroupByKey() | "NearDuplicates" >> beam.ParDo(FindNearDuplicates(plan, signals))
    )
    _ = (
        (read["counts"], duplicates, near)
        | "Counts" >> beam.Flatten()
        | "ToOne" >> beam.Map(_to_one)
        | "Together" >> beam.GroupByKey()
        | "Report" >> beam.ParDo(WriteReport(f"{plan.spill}/{_REPORT}"))
    )


class ReadPiece(Worker):
    """Reads a piece into a spill file, and yields the positions of its records and the counts."""

    def __init__(self, plan: Plan, signals: Signals) -> None:
        self.plan, self.signals = plan, signals

    def work(self, element: tuple[int, Piece]) -> Iterator[Any]:
        number, piece = element
        # Each attempt has its own file name, so that the file of an interrupted attempt is never read.
        spill = uuid.uuid4().hex
        examples: dict[str, Counter[str]] = {split: Counter() for split in PARTS}
        bad: list[list[str]] = []
        bad_count = 0
        rows: list[tuple[int, ...]] = []
        with written(f"{self.plan.spill}/{spill}") as path, path.open("xb") as stream:
            for raw in piece.read():
                if isinstance(raw, BadFile):
                    bad_count += 1
                    bad = sorted([*bad, [raw.source, raw.reason]])[:NAMED_BAD_FILES]
                    continue
                made = make_record(raw, self.plan)
                examples[made.split][str(raw.label)] += 1
                keys = (int(made.identity, 16), int(made.content, 16), int(made.near, 16))
                rows.append((*keys, PARTS.index(made.split), raw.label, stream.tell(), len(made.data)))
                stream.write(made.data)
                if len(rows) == _INDEX_BATCH:
                    yield from self._index(spill, rows)
                    rows = []
        yield from self._index(spill, rows)
        yield beam.pvalue.TaggedOutput("counts", {"examples": examples, "bad": bad, "bad_count": bad_count})
        self.tell_done(_piece_done(number))

    def _index(self, spill: str, rows: list[tuple[int, ...]]) -> Iterator[Any]:
        index = np.array(rows, INDEX)
        for number, split in enumerate(PARTS):
            own = index[index["split"] == number]
            if not len(own):
                continue
            shards = own["id"] % self.plan.shards[split]
            for shard in np.unique(shards).tolist():
                yield (split, shard), (spill, own[shards == shard])
        for tag, key in (("contents", "content"), ("near", "near")):
            if key == "near" and (index["near"] == index["id"]).all():
                continue
            buckets = index[key] % self.plan.buckets
            for bucket in np.unique(buckets).tolist():
                yield beam.pvalue.TaggedOutput(tag, (bucket, (spill, index[buckets == bucket])))


class WriteShard(Worker):
    """Fetches the records of a shard and writes them in the order of their ids."""

    def __init__(self, plan: Plan, signals: Signals) -> None:
        self.plan, self.signals = plan, signals

    def work(self, element: tuple[tuple[str, int], Iterable[Any]]) -> None:
        (split, shard), spills = element
        records: list[tuple[int, bytes]] = []
        for spill, index in filter(None, spills):
            records += fetch_records(self.plan, spill, index)
        # Records with equal ids have the same pixels; their bytes decide the order.
        records.sort()
        name = f"{self.plan.folder}/Split-{split}/{self.plan.shard_name(split, shard)}"
        with written(name) as path, open_shard(path) as writer:
            for _, record in records:
                writer.write(record)
        self.tell_done(_shard_done(split, shard))


class WriteReport(beam.DoFn):
    """Adds up the counts of the other steps, and writes them to a file for the submitting process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def process(self, element: tuple[int, Iterable[dict[str, Any]]]) -> None:
        examples: dict[str, Counter[str]] = {split: Counter() for split in PARTS}
        duplicates: Counter[str] = Counter()
        near: Counter[str] = Counter()
        bad: list[list[str]] = []
        pairs: list[list[Any]] = []
        contradictory: list[list[str]] = []
        bad_count = contradictions = 0
        for part in element[1]:
            for split, counted in part.get("examples", {}).items():
                examples[split].update(counted)
            duplicates.update(part.get("duplicates", {}))
            bad += part.get("bad", [])
            bad_count += part.get("bad_count", 0)
            pairs += part.get("duplicate_examples", [])
            near.update(part.get("near_duplicates", {}))
            contradictory += part.get("contradictory", [])
            contradictions += part.get("contradictions", 0)
        report = {
            "examples": {part: counted for part, counted in examples.items() if part in SPLITS or counted},
            "bad": sorted(bad)[:NAMED_BAD_FILES],
            "bad_count": bad_count,
            "duplicates": dict(sorted(duplicates.items())),
            # Pairs from two splits come first, because they affect the measured accuracy.
            "duplicate_examples": [pair[2:] for pair in sorted(pairs)[:NAMED_DUPLICATES]],
            "near_duplicates": dict(sorted(near.items())),
            "contradictions": contradictions,
            "contradictory": sorted(contradictory)[:NAMED_DUPLICATES],
        }
        write(self.path, json.dumps(report).encode())


def _piece_done(number: int) -> str:
    return f"piece-{number}"


def _shard_done(split: str, shard: int) -> str:
    return f"{split}-{shard}"


def _to_one(value: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 0, value
