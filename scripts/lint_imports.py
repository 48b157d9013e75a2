# SPDX-License-Identifier: Apache-2.0
"""Checks the import contracts of pyproject.toml against the source folders.

import-linter finds a package's modules by walking its folder, and ours has its sub-packages elsewhere:
setuptools maps each top-level folder into `learn2compress`. So the package is laid out in a temporary folder,
by links, as the wheel would lay it out, and checked there.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


def lay_out(root: Path, target: Path) -> None:
    """Links every package of `root` below `target` where an import would look for it."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package, folder_name in sorted(settings["package-dir"].items()):  # a parent before its children
        source = root / folder_name
        folder = target.joinpath(*package.split("."))
        folder.mkdir()
        for entry in source.iterdir():
            if entry.name != "__pycache__":
                (folder / entry.name).symlink_to(entry.resolve())


def main(root: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(root, Path(folder))
        command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
        # import-linter puts its working folder first on the path, before the editable install.
        return subprocess.run([*command, "--config", str(root / "pyproject.toml")], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent))
