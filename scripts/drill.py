# SPDX-License-Identifier: Apache-2.0
"""Attacks the product and counts what held: kills, flipped bits, odd configurations, odd records, bombs.

python scripts/drill.py [--kills N] [--flips N] [--configs N] [--records N] [--bombs N] [--runs N] [--seed S]

Each attack prints what was tried, what held, and each case that did not. The last line is JSON. Exit status 1 if
anything was broken. All of it works in a temporary folder; see docs/explanation/reliability.md.

An attack is broken if a command ends in a traceback or with status 1, takes over a minute, calls a damaged folder
whole, or calls one tampered that was only interrupted.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
SLOW_SECONDS = 60.0
DEFAULTS = {"kills": 5, "flips": 60, "configs": 100, "records": 25, "bombs": 8, "runs": 0}

Attack = Callable[[random.Random, Path], str | None]
"""Tries one case in an empty folder; returns what broke, or None."""


def run_attack(name: str, attack: Attack, count: int, seed: int) -> dict[str, int]:
    """Try an attack several times, and print how it went."""
    broken = 0
    for number in range(count):
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            began = time.monotonic()
            try:
                wrong = attack(random.Random(f"{name} {seed} {number}"), Path(folder))
            except Exception:
                wrong = traceback.format_exc()
            if wrong is None and name != "run" and time.monotonic() - began > SLOW_SECONDS:
                wrong = f"took {time.monotonic() - began:.0f} s"
        if wrong:
            broken += 1
            print(f"{name} {number}: {wrong}", flush=True)
    print(f"{name}: {count} tried, {count - broken} held, {broken} broken", flush=True)
    return {"tried": count, "held": count - broken, "broken": broken}


def command(*arguments: object) -> tuple[int, str]:
    """Run a command line within this process; return its status and what it printed."""
    from learn2compress.cli.main import main

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


# Flipped bits: verify must see each of them.


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


# Odd configurations: one line, status 2, or a configuration.

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


# Odd records: every query ends with a documented status.

QUERIES = ("lineage", "verify", "impact", "history", "bom", "diff")


def odd_record(chance: random.Random, folder: Path) -> str | None:
    """Change values of a record, seal it anew, and query it."""
    records = synthetic_run(folder)
    path = records[chance.choice(sorted(records))]
    tree = json.loads(path.read_bytes())
    changed = [_change(tree, chance) for _ in range(chance.randint(1, 3))]
    path.write_bytes(_sealed(tree))
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
        if status not in (0, 2, 3, 4, 5) or "Traceback" in told:
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


def _sealed(tree: dict[str, object]) -> bytes:
    import hashlib

    zeros = "0" * 64
    text = json.dumps(tree, indent=1, sort_keys=True)
    with contextlib.suppress(KeyError, TypeError):
        tree["predicate"]["learn2compress_record"]["seal"] = zeros  # type: ignore[index]
        text = json.dumps(tree, indent=1, sort_keys=True)
    return text.replace(zeros, hashlib.sha256(text.encode()).hexdigest(), 1).encode()


# Kills: a process that writes a folder's files, records and database is killed at a random moment.

WRITER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.runs.synthetic import SyntheticRun
from learn2compress.pipeline.output.lock import hold_output
from learn2compress.pipeline.output.folder import claim_output
from learn2compress.schemas.files.whole import write_whole
out = Path(sys.argv[1])
claim_output(out, "drill")
connection = mlmd.ConnectionConfig(sqlite=mlmd.SqliteMetadataSourceConfig(filename_uri=str(out / "metadata.db")))
with hold_output(out, "run"):
    store = MetadataStore(connection)
    kind = store.put_execution_type(mlmd.ExecutionType(name="drill"))
    print("ready", flush=True)
    for number in range(10_000):
        running = mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.RUNNING, name="x" * 5000 + str(number))
        store.put_executions([running] * 1)
        write_whole(out / "report.json", json.dumps({"number": number, "fill": "x" * 100_000}))
        if number % 20 == 0:
            SyntheticRun(out / "pipeline", run=f"run-{number}", first=10 * number + 1)
"""


def kill(chance: random.Random, folder: Path) -> str | None:
    """Kill a writer at a random moment; the folder is not tampered with, and the next command goes on."""
    from learn2compress.lineage.mlmd.store import open_sqlite
    from learn2compress.pipeline.output.leftovers import remove_leftovers
    from learn2compress.pipeline.output.lock import hold_output

    out = folder / "out"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(out), str(ROOT / "tests")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    if writer.stdout.readline() != b"ready\n":
        return f"the writer did not begin: {writer.communicate()[1].decode()[-500:]}"
    time.sleep(chance.uniform(0, 1.0))
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    if (out / "report.json").exists():
        json.loads((out / "report.json").read_bytes())
    if any((out / "pipeline").rglob("*.intoto.json")):
        status, told = command("verify", out)
        if status not in (0, 5):
            return f"verify: {status} {told[:500]}"
    with hold_output(out, "run"):
        remove_leftovers(open_sqlite(out / "metadata.db"), out)
    if left := list(out.rglob(".*.new")):
        return f"left: {left}"
    return None


# Bombs: small files that declare, or unfold into, a great deal.


def bomb(chance: random.Random, folder: Path) -> str | None:
    """Read a bomb; it is refused within five seconds."""
    import zipfile

    from learn2compress.compression.teacher.formats import describe_file
    from learn2compress.data.sources.npz import list_arrays
    from learn2compress.modalities.image.pixels import decode_image

    kind = chance.choice(["keras", "deep", "npz", "picture"])
    began = time.monotonic()
    path = folder / kind
    size = chance.randrange(10**5, 10**9)
    if kind in ("keras", "deep"):
        config = b"[" * (size // 1000) if kind == "deep" else b"{}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metadata.json", b'{"keras_version": "3.0.0"}')
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", bytes(0 if kind == "deep" else 70_000_000 + size // 10))
    elif kind == "npz":
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, {size}), }}".encode().ljust(117) + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            archive.writestr("train_images.npy", raw)
    else:
        path.write_bytes(_png(20_000 + size % 10_000))
    written = time.monotonic()
    try:
        {"npz": lambda: list_arrays(str(path)), "picture": lambda: decode_image(path)}.get(
            kind, lambda: describe_file(path)
        )()
    except ValueError as error:
        told = str(error)
    except Exception as error:
        from learn2compress.schemas.errors import Learn2CompressError

        if not isinstance(error, Learn2CompressError):
            raise
        told = str(error)
    else:
        return f"{kind} of {size}: it was accepted"
    seconds = time.monotonic() - written
    if seconds > 5 or "\n" in told:
        return f"{kind} of {size}: {seconds:.1f} s (written in {written - began:.1f} s): {told[:200]}"
    return None


def _png(side: int) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


# Whole runs: the pipeline is killed at a random moment, and the same command goes on.

RUN_SETTINGS = (
    "distill.epochs=1",
    "prune.epochs=1",
    "quantize.epochs=1",
    "teacher.views=1",
    "select.max_accuracy_drop=1",
)


def run_killed(references: dict[str, object]) -> Attack:
    """Build the attack that kills a run of the digits; the first one makes the reference to compare with."""

    def attack(chance: random.Random, folder: Path) -> str | None:
        home = Path(str(references["home"]))
        if "files" not in references:
            example = ROOT / "examples" / "digits"
            for name in ("config.yaml", "train_teacher.py"):
                (home / name).write_bytes((example / name).read_bytes())
            line = [sys.executable, "train_teacher.py", "--output", "teacher.keras"]
            subprocess.run(line, cwd=home, check=True, capture_output=True)
            began = time.monotonic()
            _started_run(home, home / "whole").wait()
            references["seconds"] = time.monotonic() - began
            references["files"] = _models(home / "whole")
        if not references["files"]:
            return "the uninterrupted run made no file"
        out = folder / "out"
        for _ in range(chance.randint(1, 2)):
            process = _started_run(home, out)
            time.sleep(chance.uniform(5, float(str(references["seconds"]))))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if any(out.glob("pipeline/*/provenance/*.intoto.json")):
                status, told = command("verify", out)
                if status not in (0, 5):
                    return f"verify after a kill: {status} {told[:500]}"
        status = _started_run(home, out).wait()
        if status != 0 or _models(out) != references["files"]:
            return f"the run that went on: status {status}; files differ: {_models(out) != references['files']}"
        status, told = command("verify", out)
        return None if status == 0 else f"verify at the end: {status} {told[:500]}"

    return attack


def _started_run(home: Path, out: Path) -> "subprocess.Popen[bytes]":
    settings = [argument for setting in RUN_SETTINGS for argument in ("--set", setting)]
    arguments = ["run", str(home / "config.yaml"), "--output", str(out), "--limit", "200", *settings]
    line = [sys.executable, "-m", "learn2compress.cli.main", *arguments]
    with (out.parent / f"{out.name}.txt").open("ab") as told:
        return subprocess.Popen(line, start_new_session=True, stdout=told, stderr=told)


def _models(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "models").glob("*.tflite"))}


def main() -> int:
    """Run the attacks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in DEFAULTS.items():
        parser.add_argument(f"--{kind}", type=int, default=count, help=f"how many (default {count})")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill-cache-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        results = {
            "flips": run_attack("flip", flip, wanted.flips, wanted.seed),
            "configs": run_attack("config", odd_config, wanted.configs, wanted.seed),
            "records": run_attack("record", odd_record, wanted.records, wanted.seed),
            "bombs": run_attack("bomb", bomb, wanted.bombs, wanted.seed),
            "kills": run_attack("kill", kill, wanted.kills, wanted.seed),
        }
        with tempfile.TemporaryDirectory(prefix="drill-reference-") as home:
            results["runs"] = run_attack("run", run_killed({"home": home}), wanted.runs, wanted.seed)
    broken = sum(result["broken"] for result in results.values())
    print(json.dumps({**results, "broken": broken, "seconds": round(time.monotonic() - began, 1)}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
