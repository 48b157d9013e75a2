# SPDX-License-Identifier: Apache-2.0
"""Flipped bits: `verify` must see each of them."""

import random
from pathlib import Path

from attacks.running import command, synthetic_run


def flip(chance: random.Random, folder: Path) -> str | None:
    """Flip a bit of a file of a run, and verify the run."""
    synthetic_run(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = chance.choice([one for one in files if not one.name.startswith("provenance-index")])
    raw = bytearray(path.read_bytes())
    place, bit = chance.randrange(len(raw)), chance.randrange(8)
    raw[place] ^= 1 << bit
    path.write_bytes(raw)
    status, told = command("verify", folder)
    if status == 4:
        return None
    return f"bit {bit} of byte {place} of {path.relative_to(folder)} was flipped; verify: {status} {told[:300]}"
