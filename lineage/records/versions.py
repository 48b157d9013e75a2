# SPDX-License-Identifier: Apache-2.0
"""What ran: our own code by commit and by content, the packages by version, the machine. Found out once a process."""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from learn2compress import __version__
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.provenance import TREE, ResourceDescriptor, digest_of_tree

PACKAGES = (
    "ai-edge-litert",
    "apache-beam",
    "learn2compress",
    "ml-metadata",
    "numpy",
    "protobuf",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
    "tfx",
)
SUBPACKAGES = (
    "", "cli", "components", "compression", "data", "evaluation", "kubeflow", "lineage", "modalities", "pipeline",
    "report", "schemas", "storage", "tflite",
)  # fmt: skip
"""What `learn2compress` consists of; the empty name stands for the files directly in it."""
COMMIT_VARIABLE = "LEARN2COMPRESS_COMMIT"
"""Names the commit that an image was built from, where there is no repository to ask."""


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what comes out; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def platform_name() -> str:
    """System, its version and processor, as in `Linux-6.1.0-x86_64-with-glibc2.36`."""
    return platform.platform()


@lru_cache(maxsize=1)
def source_version() -> dict[str, Any]:
    """Our code: its version, the digest of its Python files, and the commit it was checked out at, if any.

    `dirty` says that files differ from the commit.
    """
    files = source_files()
    code: dict[str, Any] = {
        "version": __version__,
        TREE: digest_of_tree({name: file_sha256(path) for name, path in files.items()}),
    }
    commit = os.environ.get(COMMIT_VARIABLE)
    if commit:
        return code | {"commit": commit}
    return code | git_state(files["__init__.py"])


def code_descriptor() -> ResourceDescriptor:
    """Our code as a dependency of what it made."""
    code = source_version()
    digest = {TREE: code[TREE]} | ({"gitCommit": code["commit"]} if "commit" in code else {})
    return ResourceDescriptor(name="learn2compress", uri=f"pkg:pypi/learn2compress@{__version__}", digest=digest)


def source_files(packages: Iterable[str] = SUBPACKAGES) -> dict[str, Path]:
    """Finds the Python files of sub-packages, at any depth, by their path in `learn2compress`.

    Args:
        packages: Names below `learn2compress`; an empty one stands for the files directly in it.
    """
    files = {}
    for package in packages:
        for folder in map(Path, package_folders(package)):
            for path in sorted(folder.rglob("*.py") if package else folder.glob("*.py")):
                files["/".join([*filter(None, [package]), path.relative_to(folder).as_posix()])] = path
    return files


def package_folders(package: str) -> list[str]:
    """The folders that a sub-package's modules are imported from; none if it is not installed."""
    spec = importlib.util.find_spec(f"learn2compress.{package}".rstrip("."))
    return list(spec.submodule_search_locations or []) if spec else []


def git_state(file: Path) -> dict[str, Any]:
    """The commit that a file of a git checkout belongs to; nothing if it belongs to none.

    A virtual environment inside another project lies in a checkout as well, which does not hold its files.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(file.parent), *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", file.name) is None:
        return {}
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
