# SPDX-License-Identifier: Apache-2.0
"""Tries an attack several times, and gives the attacks commands to run and folders to attack."""

import contextlib
import functools
import io
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SLOW_SECONDS = 60.0
DOCUMENTED = (0, 2, 3, 4, 5)
"""Exit statuses that the commands document."""

Attack = Callable[[random.Random, Path], str | None]
"""Tries one case in an empty folder; returns what broke, or None."""


def run_attack(name: str, attack: Attack, count: int, seed: int, slow: float = SLOW_SECONDS) -> dict[str, int]:
    """Try an attack several times, and print how it went.

    Args:
        name: Name of the kind.
        attack: What tries one case.
        count: How often.
        seed: With the number of the case, it decides about all that is random in it.
        slow: Seconds after which a case counts as broken.

    Returns:
        The numbers of cases tried, held and broken.
    """
    broken = 0
    for number in range(count):
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            began = time.process_time()
            try:
                wrong = attack(random.Random(f"{name} {seed} {number}"), Path(folder))
            except Exception:
                wrong = traceback.format_exc()
            seconds = time.process_time() - began  # of the processor, since a busy machine is no fault
            if wrong is None and seconds > slow:
                wrong = f"took {seconds:.0f} s"
        if wrong:
            broken += 1
            print(f"{name} {number}: {wrong}", flush=True)
    print(f"{name}: {count} tried, {count - broken} held, {broken} broken", flush=True)
    return {"tried": count, "held": count - broken, "broken": broken}


@functools.cache
def _built_once(build: Callable[..., Any]) -> Callable[..., Any]:
    return build if hasattr(build, "cache_info") else functools.cache(build)


def command(*arguments: object) -> tuple[int, str]:
    """Run a command line within this process; return its status and what it printed."""
    import typer.main

    from learn2compress.cli.main import main

    # typer builds its commands anew at each call, which takes longer than most of them.
    typer.main.get_command = _built_once(typer.main.get_command)
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as left:
            return int(left.code or 0), told.getvalue()
    raise AssertionError("a command must exit")


def synthetic_run(folder: Path) -> dict[str, Path]:
    """Write the artifacts and records of a run, without TFX; return the record of each node."""
    from support.runs.synthetic import SyntheticRun

    run = SyntheticRun(folder / "pipeline")
    return {node: folder / "pipeline" / path for node, path in run.records.items()}
