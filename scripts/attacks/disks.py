# SPDX-License-Identifier: Apache-2.0
"""Full disks: a command on a tmpfs without room ends in one line; with room, the same command goes on.

The tmpfs is mounted in a mount namespace of the drill's own, which root may make, and elsewhere whoever may make a user
namespace.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attacks.kills import Job, contents, finish, start
from attacks.running import Attack, command, synthetic_run

_INSIDE = "LEARN2COMPRESS_DRILL_MOUNTS"
_ROOM = "512m"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def enter_namespace() -> bool:
    """Start this program anew in a mount namespace of its own; return whether it can mount there."""
    if _INSIDE in os.environ:
        return True
    options = "-m" if os.geteuid() == 0 else "-rm"
    trial = "mount -t tmpfs -o size=4k none /mnt || mount -t tmpfs -o size=4k none /media"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", options, "sh", "-c", trial], capture_output=True, check=False).returncode
    ):
        return False
    os.environ[_INSIDE] = "1"
    return os.execvp("unshare", ["unshare", options, sys.executable, *sys.argv])


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """Mount an empty tmpfs of a size while the context lasts."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(place: Path, size: str) -> None:
    """Give a mounted tmpfs another size, which is not below what it holds."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def fill_disk(chance: random.Random, folder: Path) -> str | None:
    """Run a command that writes, with a few pages of room; then with enough."""
    key = folder / "key.pem"
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    with mounted(folder / "disk", _ROOM) as disk:
        out = disk / "out"
        synthetic_run(out)
        before = contents(out)
        model = next(out.rglob("*.tflite"))
        arguments: list[object] = chance.choice(
            [
                ["init", disk / "config.yaml"],
                ["bom", model, "--at", out, "-o", disk / "bom.json"],
                ["sign", out, "--key", key],
                ["rebuild-metadata", out, "--to", disk / "metadata.db"],
                ["verify", out],
            ]
        )
        used = shutil.disk_usage(disk).used
        resize(disk, str(used + _PAGE * chance.choice([0, 0, 1, 2, 4, 8, 16])))
        status, told = command(*arguments)
        if status not in (0, 2) or "Traceback" in told or (status == 2 and told.strip().count("\n")):
            return f"{arguments} with a full disk: {status} {told[:500]}"
        found = contents(out)
        if changed := sorted(name for name in before if found.get(name) != before[name]):
            return f"{arguments} with a full disk changed {changed}"
        verified, said = command("verify", out)
        if verified not in (0, 2, 5):  # 2: its index cannot be written; 5: `sign` has signed a part
            return f"verify after {arguments} with a full disk: {verified} {said[:500]}"
        resize(disk, _ROOM)
        status, told = command(*arguments) if status else (status, told)
        verified, said = command("verify", out)
        if status or verified:
            return f"{arguments} with room again: {status} {told[:300]}; verify: {verified} {said[:300]}"
    return None


def fill_run(job: Job) -> Attack:
    """Build the attack on whole runs: one on a disk too small for it, and then the same command with room."""

    def attack(chance: random.Random, folder: Path) -> str | None:
        size = max(_PAGE, int(job.bytes * chance.uniform(0, 0.95)))
        with mounted(folder / "disk", str(size)) as disk:
            out = disk / "out"
            with start(job, out) as program:
                status = program.wait()
                told = program.read("stdout") + program.read("stderr")
            lines = program_error(told)
            if status == job.status and "Traceback" not in told:  # it had room enough
                resize(disk, _ROOM)
                return finish(job, out, f"a disk of {size:,} bytes, which sufficed")
            if status != 2 or "Traceback" in told or len(lines) != 1:
                return f"a disk of {size:,} bytes of {job.bytes:,}: status {status}: {told[-800:]}"
            if any(out.glob("pipeline/*/provenance/*.intoto.json")):
                status, said = command("verify", out)
                if status not in (0, 2, 5):
                    return f"verify after a disk of {size:,} bytes: {status} {said[:500]}"
            resize(disk, _ROOM)
            return finish(job, out, f"a disk of {size:,} bytes ({lines[0][:120]})")

    return attack


def program_error(told: str) -> list[str]:
    """Return the lines in which a command says why it ended."""
    return [line for line in told.splitlines() if line.startswith("learn2compress: ")]
