# SPDX-License-Identifier: Apache-2.0
"""Lays out the package as an installation does, for tools that search folders.

import-linter and mypy find the modules of a package by searching its folder, but the sub-packages of `learn2compress`
are in other folders: setuptools maps each top-level folder into the package. Links in a temporary folder reproduce this
layout.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


@contextmanager
def laid_out(root: Path) -> Iterator[Path]:
    """Links the packages of a checkout to their places in an importable tree, while the context lasts.

    Args:
        root: Checkout with pyproject.toml.

    Yields:
        A folder that contains `learn2compress`.
    """
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    with tempfile.TemporaryDirectory() as target:
        for package, source in sorted(settings["package-dir"].items()):  # a parent before its children
            folder = Path(target).joinpath(*package.split("."))
            folder.mkdir()
            for entry in (root / source).iterdir():
                if entry.name != "__pycache__":
                    (folder / entry.name).symlink_to(entry.resolve())
        yield Path(target)
