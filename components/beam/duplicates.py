# SPDX-License-Identifier: Apache-2.0
"""Finds examples that occur more than once, exactly or nearly, by the splits in which they occur.

Examples are equal if a model cannot distinguish them: if their stored forms are. Near-duplicates, such as texts of the
same words, have equal near ids; of images, these are their ids, and only equal images are found.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from learn2compress.components.beam.exchange import read_ranges
from learn2compress.components.beam.signals import Signals, Worker
from learn2compress.data.example_records import PARTS, Plan

NAMED_DUPLICATES = 50

INDEX = np.dtype(
    [
        *(("id", "<u8"), ("content", "<u8"), ("near", "<u8")),
        *(("split", "u1"), ("label", "<i4"), ("offset", "<u8"), ("length", "<u4")),
    ]
)
"""Position of a record in a spill file; `content` and `near` as in `ExampleRecord`, `split` is an index into PARTS.
Beam groups nothing else of an example."""


class FindDuplicates(Worker):
    """Counts the examples that occur more than once, by the splits in which they occur, and names some of them."""

    def __init__(self, plan: Plan, signals: Signals) -> None:
        self.plan, self.signals = plan, signals

    def work(self, element: tuple[int, Iterable[Any]]) -> Iterator[dict[str, Any]]:
        repeated = _repeated(list(element[1]), "content")
        counts: Counter[str] = Counter()
        pairs: list[tuple[bool, int, str, str]] = []
        tallies: dict[int, Counter[str]] = defaultdict(Counter)
        for _, index in repeated:
            for row in index:
                tallies[int(row["content"])][PARTS[row["split"]]] += 1
        for content, tally in tallies.items():
            for one, other in itertools.combinations_with_replacement(PARTS, 2):
                # Within a split, all but the first are counted; between two, those of the second that are in the first.
                count = tally[one] - 1 if one == other else tally[other] if tally[one] else 0
                if count > 0:
                    counts[f"{one}/{other}"] += count
                    pairs.append((one == other, content, one, other))
        named = sorted(pairs)[:NAMED_DUPLICATES]
        sources = _sources(self.plan, repeated, "content", {content for _, content, _, _ in named})
        examples = [
            [same, f"{content:016x}", sources[content, one][0], sources[content, other][int(same)]]
            for same, content, one, other in named
        ]
        yield {"duplicates": counts, "duplicate_examples": examples}


class FindNearDuplicates(Worker):
    """Counts the examples of a split with a near-duplicate in another, and those whose labels contradict each other."""

    def __init__(self, plan: Plan, signals: Signals) -> None:
        self.plan, self.signals = plan, signals

    def work(self, element: tuple[int, Iterable[Any]]) -> Iterator[dict[str, Any]]:
        repeated = _repeated(list(element[1]), "near")
        contents: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        labels: dict[int, set[int]] = defaultdict(set)
        for _, index in repeated:
            for row in index:
                contents[int(row["near"])][PARTS[row["split"]]].append(int(row["content"]))
                labels[int(row["near"])].add(int(row["label"]))
        counts: Counter[str] = Counter()
        for by_split in contents.values():
            for one, other in itertools.combinations(PARTS, 2):
                known = set(by_split[one])
                # Equal ones are counted as duplicates.
                count = sum(content not in known for content in by_split[other]) if known else 0
                if count:
                    counts[f"{one}/{other}"] += count
        contradictory = sorted(near for near, found in labels.items() if len(found - {-1}) > 1)
        sources = _sources(self.plan, repeated, "near", set(contradictory[:NAMED_DUPLICATES]))
        by_near: dict[int, list[str]] = defaultdict(list)
        for (near, _), names in sources.items():
            by_near[near] += names
        yield {
            "near_duplicates": counts,
            "contradictions": len(contradictory),
            "contradictory": [sorted(names)[:2] for names in by_near.values()],
        }


def fetch_records(plan: Plan, spill: str, index: np.ndarray, key: str = "id") -> Iterator[tuple[int, bytes]]:
    """Reads the records of an index, each with its id or near id."""
    if not len(index):
        return
    ranges = [(int(row["offset"]), int(row["length"])) for row in index]
    yield from zip(index[key].tolist(), read_ranges(f"{plan.spill}/{spill}", ranges), strict=True)


def _repeated(spills: list[Any], key: str) -> list[tuple[str, np.ndarray]]:
    """Returns the rows of each spill file whose id or near id occurs more than once."""
    ids, times = np.unique(np.concatenate([index[key] for _, index in spills]), return_counts=True)
    return [(spill, index[np.isin(index[key], ids[times > 1])]) for spill, index in spills]


def _sources(plan: Plan, spills: list[Any], key: str, ids: set[int]) -> dict[tuple[int, str], list[str]]:
    """Collects the sources of some examples, sorted, by id or near id and split."""
    sources: dict[tuple[int, str], list[str]] = defaultdict(list)
    for spill, index in spills:
        wanted = index[np.isin(index[key], np.array(sorted(ids), np.uint64))]
        for row, (identity, record) in zip(wanted, fetch_records(plan, spill, wanted, key), strict=True):
            source = tf.train.Example.FromString(record).features.feature["source"].bytes_list.value[0]
            sources[identity, PARTS[row["split"]]].append(source.decode())
    return {name: sorted(names) for name, names in sources.items()}
