# SPDX-License-Identifier: Apache-2.0
"""Reads damaged and invented configurations, manifests and records for as long as wanted.

python scripts/fuzz.py [--minutes N] [--seed S] [--only TARGET ...]

Hypothesis draws the inputs. Each round of a target has a seed of its own, which is printed with what broke, so that
`--seed S --minutes 0` repeats it: that is one round of each target. A target is broken if it raises anything but the
product's own error, if that error is not one line of at most 1,000 characters (of a configuration 400), or if a
command ends with an undocumented status. The last line is JSON; exit status 1 if anything was broken. See
docs/explanation/reliability.md.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from attacks.records import QUERIES, seal
from attacks.running import DOCUMENTED, ROOT, command, synthetic_run
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
EXAMPLES = {
    "config": 300,
    "override": 300,
    "manifest": 300,
    "record": 200,
    "query": 15,
    "list": 15,
    "csv": 200,
    "npz": 200,
    "keras": 200,
}
_LONGEST_OF_CONFIG = 400
Target = tuple[st.SearchStrategy[Any], Callable[[Any], None]]


def read_or_refuse(read: Callable[[], Any], longest: int = 1000) -> None:
    """Read something; it may be refused in one line.

    Raises:
        AssertionError: The message is not one short line.
    """
    from learn2compress.schemas.errors import Learn2CompressError

    try:
        read()
    except Learn2CompressError as error:
        told = str(error)
        if "\n" in told or len(told) > longest:
            raise AssertionError(f"a message of {len(told)} characters: {told}") from error


def run_or_refuse(*arguments: object) -> None:
    """Run a command; it may end with any documented status.

    Raises:
        AssertionError: It ends otherwise, or shows a traceback.
    """
    status, told = command(*arguments)
    if status not in DOCUMENTED or "Traceback" in told:
        raise AssertionError(f"{arguments}: status {status}: {told[:500]}")


@st.composite
def changed(draw: st.DrawFn, document: bytes, trees: st.SearchStrategy[Any]) -> bytes:
    """Draw a JSON document of which one to three values are replaced or removed."""
    tree = json.loads(document)
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = tree
        while True:
            key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
            if not isinstance(holder[key], dict | list) or not holder[key] or draw(st.integers(0, 4)) == 0:
                break
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = draw(trees)
        if not tree:
            break
    return seal(tree)


def make_targets(folder: Path) -> dict[str, Target]:
    """Build the strategy and the reader of each target, which write below a folder."""
    from support.strategies.properties import damaged

    from learn2compress.compression.teacher.formats import describe_file
    from learn2compress.compression.teacher.trust import check_layers
    from learn2compress.data.sources.csv_list import open_csv
    from learn2compress.data.sources.formats import open_source
    from learn2compress.lineage.records.signing import LIST_FILE
    from learn2compress.schemas.config import DataConfig, load_config
    from learn2compress.schemas.manifests import MANIFEST, read_manifest, write_manifest
    from learn2compress.schemas.provenance import parse_statement, validate_statement
    from tests.schemas.test_fuzz import CONFIG, GIVEN, TREES

    signs = st.text("[]{}:,-?!&*#|>%@`'\"~ \n\taé0.", max_size=40)
    run = folder / "run"
    records = {path: path.read_bytes() for path in synthetic_run(run).values()}
    model = next(run.rglob("*.tflite"))
    odd = TREES | st.integers(2**62, 2**70) | st.sampled_from(["../../etc/passwd", "/dev/zero", "9" * 5000, "a\nb"])
    files = st.sampled_from(sorted(records))
    record = files.flatmap(lambda path: st.tuples(st.just(path), changed(records[path], odd) | damaged(records[path])))
    whole = {type(one).__name__: (type(one), write_manifest(folder, one).read_bytes()) for one in GIVEN}

    def config(content: bytes) -> None:
        (folder / "c.yaml").write_bytes(content)
        read_or_refuse(lambda: load_config(folder / "c.yaml", ()), _LONGEST_OF_CONFIG)

    def override(text: str) -> None:
        (folder / "c.yaml").write_bytes(CONFIG)
        read_or_refuse(lambda: load_config(folder / "c.yaml", (text,)), _LONGEST_OF_CONFIG)

    def manifest(drawn: tuple[str, bytes]) -> None:
        (folder / MANIFEST).write_bytes(drawn[1])
        read_or_refuse(lambda: read_manifest(folder, whole[drawn[0]][0]))

    def statement(drawn: tuple[Path, bytes]) -> None:
        def read() -> None:
            found = parse_statement(drawn[1], "a/b.json")
            assert (found.inputs, found.outputs, found.parameters) is not None
            validate_statement(found)

        read_or_refuse(read)

    def query(drawn: tuple[Path, bytes]) -> None:
        drawn[0].write_bytes(drawn[1])
        try:
            for name in QUERIES:
                target = [run] if name == "verify" else [] if name == "history" else [model]
                other = [model] if name == "diff" else []
                run_or_refuse(name, *target, *other, *([] if name == "verify" else ["--at", run]))
        finally:
            drawn[0].write_bytes(records[drawn[0]])

    def listing(content: bytes) -> None:
        place = run / "pipeline" / LIST_FILE
        place.write_bytes(content)
        try:
            run_or_refuse("verify", run)
        finally:
            place.unlink()

    def csv(content: bytes) -> None:
        (folder / "a.csv").write_bytes(content)
        read_or_refuse(lambda: open_csv(DataConfig(path=str(folder / "a.csv"))))

    def npz(content: bytes) -> None:
        (folder / "a.npz").write_bytes(content)

        def read() -> None:
            for piece in open_source(DataConfig(path=str(folder / "a.npz"))).pieces:
                assert list(piece.read()) is not None

        read_or_refuse(read)

    def keras(content: bytes) -> None:
        (folder / "t.keras").write_bytes(content)
        read_or_refuse(lambda: check_layers(describe_file(folder / "t.keras")))

    stored, deflated, images = io.BytesIO(), io.BytesIO(), np.zeros((4, 2, 2), np.uint8)
    np.savez(stored, images=images, labels=np.arange(4) % 2, class_names=np.array(["a", "b"]))
    np.savez_compressed(deflated, images=images, labels=np.arange(4) % 2)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("metadata.json", '{"keras_version": "2.16.0"}')
        layers = [{"class_name": "Dense", "config": {"units": 2}, "module": "keras.layers"}]
        file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
        file.writestr("model.weights.h5", b"\x89HDF")
    envelope = json.dumps(
        {"payload": "e30=", "payloadType": "application/vnd.learn2compress.records+json",
         "signatures": [{"keyid": "a", "sig": "MEUC"}]}
    ).encode()  # fmt: skip
    texts = st.binary(max_size=60) | signs.map(str.encode)
    return {
        "config": (damaged(CONFIG) | texts | TREES.map(lambda tree: json.dumps(tree).encode()), config),
        "override": (
            st.tuples(st.sampled_from(["distill.epochs", "students.sizes.small", "data.path", "a.b"]) | signs, signs)
            .map("=".join), override,
        ),
        "manifest": (
            st.sampled_from(sorted(whole)).flatmap(
                lambda name: st.tuples(st.just(name), changed(whole[name][1], odd) | damaged(whole[name][1]) | texts)
            ), manifest,
        ),
        "record": (record, statement),
        "query": (record, query),
        "list": (changed(envelope, odd) | damaged(envelope) | texts, listing),
        "npz": (damaged(stored.getvalue()) | damaged(deflated.getvalue()), npz),
        "keras": (damaged(archive.getvalue()), keras),
        "csv": (damaged(b"path,label,split\n0.png,a,train\n1.png,b,test\n") | texts, csv),
    }  # fmt: skip


def run_round(name: str, target: Target, number: int) -> tuple[int, str | None]:
    """Run a target on the examples of a seed; return how many there were, and the traceback of what broke."""
    strategy, read = target
    tried = 0

    def test(drawn: Any) -> None:
        nonlocal tried
        tried += 1
        read(drawn)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    options = settings(
        max_examples=EXAMPLES[name], derandomize=False, deadline=None, database=None, suppress_health_check=checks
    )
    try:
        seed(number)(options(given(strategy)(test)))()
    except Exception:
        return tried, traceback.format_exc()
    return tried, None


def main() -> int:
    """Run rounds until the time is over; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.0, help="how long (default: one round of each target)")
    parser.add_argument("--only", nargs="+", choices=list(EXAMPLES), default=list(EXAMPLES), help="targets")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round (default: the time)")
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    began, number = time.monotonic(), wanted.seed
    tried, broken = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        targets = {name: target for name, target in make_targets(Path(folder)).items() if name in wanted.only}
        while True:
            for name, target in targets.items():
                count, wrong = run_round(name, target, number)
                tried[name] += count
                if wrong:
                    broken[name] += 1
                    print(f"{name}, --seed {number}: {wrong[-3000:]}", flush=True)
            minutes = (time.monotonic() - began) / 60
            print(f"seed {number}: {tried.total():,} tried, {broken.total()} broken, {minutes:.1f} minutes", flush=True)
            if minutes >= wanted.minutes:
                break
            number += 1
    kinds = {name: {"tried": tried[name], "broken": broken[name]} for name in targets}
    print(json.dumps({**kinds, "broken": broken.total(), "seeds": [wanted.seed, number], "minutes": round(minutes, 1)}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
