# SPDX-License-Identifier: Apache-2.0
"""Provides the steps' image without a registry, a network or minutes of building.

Its last stage is built as kubeflow/Containerfile has it, on a base without contents: /usr is this machine's, while the
image is built and while it runs, and the packages are those of this environment, both read-only. The wheel is built of
what the Containerfile copies. So users, rights, folders, variables and our own code are the real image's.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTAINERFILE = ROOT / "kubeflow" / "Containerfile"
LIMITS = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
TOOLS = ("podman", "buildah", "runc")
FILES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\nusers:x:100:\n"}
# What Kubernetes allows a pod at least: no root, no capability, no way to become more, a root that cannot be written.
STRICT = [
    "--network", "none", "--cap-drop", "all", "--security-opt", "no-new-privileges",
    "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp",
]  # fmt: skip


@dataclass(frozen=True)
class LocalImages:
    """Images in a store of their own.

    Attributes:
        folder: The store, and what images are built of.
    """

    folder: Path
    run: Path  # of podman's running containers; it takes a path of at most 50 characters

    def tool(self, name: str) -> list[str]:
        """The beginning of a command of podman or buildah."""
        places = ["--root", str(self.folder / "images"), "--runroot", str(self.run)]
        return [name, *places, "--storage-driver", "vfs"]

    def build(self, name: str, *changes: tuple[str, str]) -> str:
        """Build the last stage of the Containerfile.

        Args:
            name: The image's name.
            changes: Pairs of a text of the Containerfile and its replacement.
        """
        text = CONTAINERFILE.read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        file = self.folder / f"{name}.Containerfile"
        file.write_text(text)
        options = ["--isolation", "chroot", "--layers", *LIMITS, "--file", str(file), "--tag", f"localhost/{name}"]
        options += ["--build-arg", "BASE=localhost/base", "--build-context", f"packages={self.folder / 'packages'}"]
        options += ["--build-context", f"wheel={self.folder / 'wheel'}"]
        for path in machine_folders():
            options += ["--volume", f"{path}:{path}:ro"]
        _run([*self.tool("buildah"), "build", *options, str(ROOT)])
        return f"localhost/{name}"

    def config(self, image: str) -> dict[str, Any]:
        """Read an image's configuration: User, Env, WorkingDir …"""
        return json.loads(_run([*self.tool("podman"), "image", "inspect", "--format", "{{json .Config}}", image]))

    def command(self, *options: str) -> list[str]:
        """The command that runs a container under runc, up to the image's name and further options."""
        mounts = [f"{path}:{path}:ro" for path in (*machine_folders(), *_python())] + [f"{sys.prefix}:/opt/venv:ro"]
        return [
            *self.tool("podman"), "--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", *LIMITS,
            *options, *(part for mount in mounts for part in ("-v", mount)),
        ]  # fmt: skip

    def strict_command(self) -> list[str]:
        """The command that runs a container with no more than the strictest cluster gives a pod."""
        return self.command(*STRICT)


def machine_folders() -> list[Path]:
    """The folders with this machine's programs and libraries."""
    folders = [Path("/usr"), *(Path("/", name) for name in ("bin", "sbin", "lib", "lib64"))]
    return [path for path in folders if path.is_dir() and not path.is_symlink()]


def _python() -> list[Path]:
    """The folder with this environment's Python, if it is not among them."""
    prefix = Path(sys.base_prefix).resolve()
    return [] if any(prefix.is_relative_to(path) for path in machine_folders()) else [prefix]


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _write_base(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("usr", "bin", "sbin", "lib", "lib64", "etc", "home", "opt", "tmp"):
            entry, here = tarfile.TarInfo(name), Path("/", name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            if here.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(here)
            archive.addfile(entry)
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))


def _build_wheel(folder: Path) -> None:
    """Unpacks the wheel of what the Containerfile copies."""
    source = folder / "source"
    source.mkdir()
    for line in re.findall(r"^COPY (.+) /src/", CONTAINERFILE.read_text(), re.MULTILINE):
        for name in line.split():
            here = ROOT / name
            copy = shutil.copytree if here.is_dir() else shutil.copy
            copy(here, source / name)
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)])
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "wheel" / "opt" / "learn2compress")


def _obstacle() -> str | None:
    """Tells why no image can be built and run here."""
    if missing := [name for name in TOOLS if not shutil.which(name)]:
        return f"needs {', '.join(missing)}"
    if os.geteuid():
        return "needs root, to give a container another user"
    if sys.prefix == sys.base_prefix:
        return "needs a virtual environment, whose packages the image gets"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "needs mount namespaces, which this machine does not allow"
    return None


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> LocalImages:
    """Builds images of the Containerfile on this machine's programs."""
    if obstacle := _obstacle():
        pytest.skip(obstacle)
    folder = tmp_path_factory.mktemp("images")
    (folder / "packages" / "opt" / "venv").mkdir(parents=True)
    _write_base(folder / "base.tar")
    _build_wheel(folder)
    made = LocalImages(folder, Path(tempfile.mkdtemp(prefix="images-", dir="/tmp")))
    _run([*made.tool("podman"), "import", "--quiet", str(folder / "base.tar"), "localhost/base"])
    return made


@pytest.fixture(scope="session")
def local_image(images) -> str:
    """The name of the image as the Containerfile has it."""
    return images.build("steps")
