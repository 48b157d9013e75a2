# SPDX-License-Identifier: Apache-2.0
"""Kills of whole runs: a run is killed in a random place of a random node, and the same command goes on.

    reference   two uninterrupted runs of a small job, whose nodes' beginnings are timed
      └ chain   a run is killed in the first node, goes on and is killed in the second one, and so on to the last; what
                it then made, each part after at least one kill, is compared with the reference

What is the same in both uninterrupted runs must be the same in the resumed one: every file of every artifact and of
OUT, byte for byte. Manifests, the report and other JSON files hold seconds and dates; they are compared without these.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks.running import ROOT, command

SETTINGS = (
    "teacher.views=1", "distill.epochs=2", "prune.epochs=1", "quantize.epochs=1", "quantize.teacher_variants=[]",
    "evaluate.latency_runs=1", "quantize.variants=[int8]",
)  # fmt: skip
LIMIT = 120
_BEGINNING = re.compile(r"^\[(\d+)/\d+\] (\w+) …$", re.MULTILINE)
_ENDING = "end"  # what comes after the last node: models, report and bundle
# Keys of JSON files that hold times, and digests of files that hold times.
_VOLATILE = {
    "created", "host", "latency", "seconds", "startup_seconds", "started", "finished", "invocation", "run", "execution",
    "latency_order", "curves", "events",
}  # fmt: skip
_UNCOMPARED = ("events.out", "metadata.db", "run.log", ".lock", "provenance-index", "report.html", "bundle.zip")


@dataclass
class Job:
    """The job that is killed, and what its uninterrupted runs made.

    Attributes:
        config: Configuration file.
        phases: Seconds that each node took, by name in order, and what follows the last one.
        contents: Digests of what two uninterrupted runs have in common.
        bytes: What an uninterrupted run takes on the disk.
        status: Exit status of an uninterrupted run: 3 if its students, which are hardly trained, are near chance.
    """

    config: Path
    phases: dict[str, float] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    status: int = 0


def make_job(home: Path) -> Job:
    """Write the job of the end-to-end tests, and run it twice without an interruption."""
    sys.path.insert(0, str(ROOT))
    from tests.e2e.conftest import write_job

    config = write_job(home / "job")
    job = Job(config)
    found = []
    for name in ("one", "two"):
        with start(job, home / name) as program:
            began = _watch(program)
            status = program.wait()
            if status not in (0, 3):
                raise RuntimeError(f"the uninterrupted run ended with {status}: {program.read('stderr')[-500:]}")
            job.status = status
            times = [*began.values(), time.monotonic()]
            job.phases = {node: after - at for node, at, after in zip(began, times[:-1], times[1:], strict=True)}
        found.append(contents(home / name))
    job.bytes = sum(path.stat().st_blocks * 512 for path in (home / "two").rglob("*"))
    job.contents = {key: value for key, value in found[0].items() if found[1].get(key) == value}
    changing = sorted(set(found[0]) ^ set(found[1]) | {key for key in found[0] if key not in job.contents})
    print(f"compared: {len(job.contents)} files; not the same in two uninterrupted runs: {changing}", flush=True)
    return job


def start(job: Job, out: Path) -> Any:
    """Start the run in a process forked from one that has imported everything."""
    from support import forked

    settings = [f"--set={setting}" for setting in SETTINGS]
    return forked.start(forked.CLI, ["run", str(job.config), "--output", str(out), f"--limit={LIMIT}", *settings])


def kill_runs(job: Job, count: int, seed: int) -> dict[str, int]:
    """Kill runs until so many kills were survived or not, and print how it went.

    Returns:
        The numbers of kills tried, held and broken; if what a chain made is not as it should be, it counts as one.
    """
    tried = broken = number = 0
    while tried < count:
        chance = random.Random(f"kills {seed} {number}")
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            killed: list[str] = []
            try:
                wrong = _kill_chain(job, Path(folder) / "out", chance, count - tried, killed)
            except Exception:
                wrong = traceback.format_exc()
        tried, number, broken = tried + max(1, len(killed)), number + 1, broken + bool(wrong)
        print(f"kills, chain {number}: {wrong or 'held'}; killed in {', '.join(killed)}", flush=True)
    print(f"kills: {tried} tried, {tried - broken} held, {broken} broken", flush=True)
    return {"tried": tried, "held": tried - broken, "broken": broken}


def _kill_chain(job: Job, out: Path, chance: random.Random, most: int, killed: list[str]) -> str | None:
    """Kill one job in one node after the other, once to three times, each time after going on; then let it finish."""
    for phase in job.phases:
        for _ in range(chance.choice([1, 1, 2, 2, 3])):
            if len(killed) == most:
                break
            moment = chance.uniform(0, job.phases[phase])
            if not _killed(job, out, phase, moment):
                continue  # it was faster than the uninterrupted run, and is finished
            killed.append(f"{phase} after {moment:.2f} s")
            if any(out.glob("pipeline/*/provenance/*.intoto.json")):
                status, told = command("verify", out)
                if status not in (0, 5):
                    return f"verify after {killed[-1]}: {status} {told[:500]}"
    return finish(job, out, "all of them")


def finish(job: Job, out: Path, after: str) -> str | None:
    """Run the job to its end in OUT, and compare what it made with the uninterrupted runs."""
    with start(job, out) as program:
        status = program.wait()
        if status != job.status:
            return f"after {after}: status {status}: {program.read('stdout')[-300:]} {program.read('stderr')[-500:]}"
    found = contents(out)
    other = sorted(key for key, value in job.contents.items() if found.get(key) != value)
    if other:
        return f"after {after}: not as in an uninterrupted run: {other[:5]}"
    left = [str(path) for path in out.rglob(".*.new")]
    status, told = command("verify", out)
    return f"after {after}: left {left}; verify: {status} {told[:500]}" if status or left else None


def _killed(job: Job, out: Path, phase: str, moment: float) -> bool:
    """Kill a run so many seconds after the beginning of a phase; return whether it was still alive."""
    with start(job, out) as program:
        _watch(program, phase)
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):
            os.kill(program.pid, signal.SIGKILL)
        return bool(program.wait() == -signal.SIGKILL)


def _watch(program: Any, until: str | None = None) -> dict[str, float]:
    """Note when each node begins; return when a phase begins or the program ends."""
    began: dict[str, float] = {}
    while True:
        alive = os.path.exists(f"/proc/{program.pid}") and program.status is None
        try:
            told = program.read("stdout")
        except FileNotFoundError:  # it has not begun
            told = ""
        for _, node in _BEGINNING.findall(told):
            began.setdefault(node, time.monotonic())
        last = _BEGINNING.findall(told)[-1:] if began else []
        if last and f"[{last[0][0]}/{last[0][0]}] {last[0][1]} done" in told:
            began.setdefault(_ENDING, time.monotonic())
        if until in began or not alive:
            return began
        time.sleep(0.02)


def contents(out: Path) -> dict[str, str]:
    """Read what a run made: a digest for each file of OUT and of the latest artifacts, by node, key and name."""
    found = {}
    files = [path for path in out.rglob("*") if path.relative_to(out).parts[0] != "pipeline"]
    places = [(path, path.relative_to(out).as_posix()) for path in files]
    for key in (out / "pipeline").glob("*/*"):
        numbers = [folder for folder in key.glob("*") if folder.name.isdigit() and folder.is_dir()]
        if numbers and key.name not in ("provenance", ".system"):
            latest = max(numbers, key=lambda folder: int(folder.name))
            name = key.relative_to(out).as_posix()
            places += [(path, f"{name}/{path.relative_to(latest).as_posix()}") for path in latest.rglob("*")]
    for path, name in places:
        if path.is_file() and not any(part in path.name for part in _UNCOMPARED):
            raw = path.read_bytes()
            if path.suffix in (".json", ".jsonl"):
                lines = raw.splitlines() if path.suffix == ".jsonl" else [raw]
                raw = json.dumps([_without_times(json.loads(line), out) for line in lines], sort_keys=True).encode()
            found[name] = hashlib.sha256(raw).hexdigest()
    return found


def _without_times(tree: Any, out: Path) -> Any:
    if isinstance(tree, dict):
        return {key: _without_times(value, out) for key, value in tree.items() if key not in _VOLATILE}
    if isinstance(tree, list):
        return [_without_times(value, out) for value in tree]
    return tree.replace(str(out), "OUT") if isinstance(tree, str) else tree
