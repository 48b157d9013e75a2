# SPDX-License-Identifier: Apache-2.0
"""Odd records: every query of them ends with a documented status."""

import contextlib
import hashlib
import json
import random
import traceback
from collections.abc import Iterator
from pathlib import Path

from attacks.configs import ODD_VALUES
from attacks.running import DOCUMENTED, command, synthetic_run

QUERIES = ("lineage", "verify", "impact", "history", "bom", "diff")


def odd_record(chance: random.Random, folder: Path) -> str | None:
    """Change values of a record, seal it anew, and query it."""
    records = synthetic_run(folder)
    path = records[chance.choice(sorted(records))]
    tree = json.loads(path.read_bytes())
    changed = [_change(tree, chance) for _ in range(chance.randint(1, 3))]
    path.write_bytes(seal(tree))
    models = sorted(folder.rglob("*.tflite"))
    for query in QUERIES:
        target = folder if query in ("verify", "history") else chance.choice(models)
        extra = [chance.choice(models)] if query == "diff" else []
        at = [] if query == "verify" else ["--at", folder]
        if query == "history":
            arguments: list[object] = [query, *at]
        else:
            arguments = [query, target, *extra, *at]
        try:
            status, told = command(*arguments)
        except Exception:
            return f"{query} with {changed}: {traceback.format_exc()}"
        if status not in DOCUMENTED or "Traceback" in told:
            return f"{query} with {changed}: status {status}: {told[:300]}"
    return None


def _change(tree: object, chance: random.Random) -> str:
    """Replace or remove a value anywhere in a document; say which."""
    places = list(_places(tree))
    holder, key = chance.choice(places)
    where = f"{key!r}"
    if isinstance(holder, dict) and chance.random() < 0.2:
        del holder[key]
        return f"{where} removed"
    values = [
        *(value for value in ODD_VALUES if value == value),
        2**70,
        "\U0001f600",
        {"output": 3},
        "../../../etc/passwd",
    ]
    holder[key] = chance.choice(values)  # type: ignore[index]
    return f"{where} = {str(holder[key])[:40]!r}"  # type: ignore[index]


def _places(tree: object) -> Iterator[tuple[object, object]]:
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield tree, key
            yield from _places(value)


def seal(tree: dict[str, object]) -> bytes:
    """Write a record with a seal that fits, where it still has a place for one."""
    zeros = "0" * 64
    text = json.dumps(tree, indent=1, sort_keys=True)
    with contextlib.suppress(KeyError, TypeError):
        tree["predicate"]["learn2compress_record"]["seal"] = zeros  # type: ignore[index]
        text = json.dumps(tree, indent=1, sort_keys=True)
    return text.replace(zeros, hashlib.sha256(text.encode()).hexdigest(), 1).encode()
