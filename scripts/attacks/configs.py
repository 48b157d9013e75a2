# SPDX-License-Identifier: Apache-2.0
"""Odd configurations: each is accepted, or refused in one line."""

import json
import random
from pathlib import Path

ODD_VALUES: list[object] = [
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", "~nosuchuser", "../..", "/dev/zero",
    "x" * 100_000, "2026-01-01", "1KB", "-1KB", "9" * 500 + "KB", [], {}, [[]], {"a": {"b": {}}}, ["a"] * 1000,
    "a\nb", "\x00", "\ud800",
]  # fmt: skip
ODD_TEXTS = [
    "", "null", "[]", "- a\n- b", "a: b: c", "&a [*a, *a]", "!!python/object/apply:os.system ['true']", "? [a]\n: b",
    "teacher: 2026-01-01", "[" * 5000, "{" * 5000, "a: &x [1]\nb: &y [*x, *x]\nc: &z [*y, *y]", "\x00",
    "%YAML 9\n---\n", "\t",
]  # fmt: skip


def odd_config(chance: random.Random, folder: Path) -> str | None:
    """Read a configuration with some odd values, keys or text."""
    from learn2compress.schemas.config import Config, load_config
    from learn2compress.schemas.errors import Learn2CompressError

    path = folder / "config.yaml"
    if chance.random() < 0.3:
        text = chance.choice(ODD_TEXTS)
    else:
        tree: dict[str, object] = {"teacher": {"path": "t.keras"}, "data": {"path": "digits"}}
        for _ in range(chance.randint(1, 4)):
            section = chance.choice([*Config.model_fields, "strange"])
            fields = getattr(Config.model_fields.get(section), "annotation", None)
            keys = [*getattr(fields, "model_fields", {"odd": None}), "odd"]
            found = tree.setdefault(section, {})
            if isinstance(found, dict) and chance.random() < 0.9:
                found[chance.choice(keys)] = chance.choice(ODD_VALUES)
            else:
                tree[section] = chance.choice(ODD_VALUES)
        text = json.dumps(tree)
    path.write_text(text, encoding="utf-8", errors="surrogateescape" if "\ud800" not in text else "replace")
    try:
        load_config(path, [])
    except Learn2CompressError as error:
        told = str(error)
        if "\n" in told or len(told) > 400:
            return f"{text[:200]!r}: a message of {len(told)} characters, {told.count(chr(10))} line breaks"
    return None
