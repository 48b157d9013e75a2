# SPDX-License-Identifier: Apache-2.0
"""Determines what ran: the project's own code by commit and content, package versions, and the platform.

Each value is computed once for each process.
"""

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
from learn2compress.schemas.digests import digest_of_tree, file_sha256
from learn2compress.schemas.provenance import TREE, ResourceDescriptor

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
    "", "api", "cli", "components", "compression", "data", "evaluation", "kubeflow", "lineage", "modalities",
    "pipeline", "report", "schemas", "storage", "tflite",
)  # fmt: skip
"""Sub-packages of `learn2compress`; the empty name stands for the files directly in it."""
COMMIT_VARIABLE = "LEARN2COMPRESS_COMMIT"
"""Environment variable with the commit that an image was built from, for use where there is no repository."""


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the results; omit those that are not installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def platform_name() -> str:
    """Return the system, its version and the processor, such as `Linux-6.1.0-x86_64-with-glibc2.36`."""
    return platform.platform()


@lru_cache(maxsize=1)
def source_version() -> dict[str, Any]:
    """Describe the project's code: its version, the digest of its Python files, and its git commit, if there is one.

    `dirty` is true if files differ from the commit.
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
    """Return the project's code as a dependency of the artifacts that it made."""
    code = source_version()
    digest = {TREE: code[TREE]} | ({"gitCommit": code["commit"]} if "commit" in code else {})
    return ResourceDescriptor(name="learn2compress", uri=f"pkg:pypi/learn2compress@{__version__}", digest=digest)


def source_files(packages: Iterable[str] = SUBPACKAGES) -> dict[str, Path]:
    """Find the Python files of sub-packages, at any depth, by their path in `learn2compress`.

    Args:
        packages: Names below `learn2compress`; an empty name stands for the files directly in it.
    """
    files = {}
    for package in packages:
        for folder in map(Path, package_folders(package)):
            for path in sorted(folder.rglob("*.py") if package else folder.glob("*.py")):
                files["/".join([*filter(None, [package]), path.relative_to(folder).as_posix()])] = path
    return files


def package_folders(package: str) -> list[str]:
    """Return the folders that a sub-package's modules are imported from; empty if it is not installed."""
    spec = importlib.util.find_spec(f"learn2compress.{package}".rstrip("."))
    return list(spec.submodule_search_locations or []) if spec else []


def git_state(file: Path) -> dict[str, Any]:
    """Return the commit of the git checkout that a file belongs to; empty if it belongs to none.

    A virtual environment inside another project also lies in a checkout, which does not track its files.
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
