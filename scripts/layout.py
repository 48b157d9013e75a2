# SPDX-License-Identifier: Apache-2.0
"""The package laid out as an install would lay it out, for tools that walk folders.

import-linter and mypy find a package's modules by walking its folder, and ours has its sub-packages elsewhere:
setuptools maps each top-level folder into `learn2compress`. So the package is laid out in a temporary folder, by links.
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
    """Links the packages of a checkout where an import would look for them, for as long as the context lasts.

    Args:
        root: Checkout with pyproject.toml.

    Yields:
        A folder that holds `learn2compress`.
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
