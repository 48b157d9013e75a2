# SPDX-License-Identifier: Apache-2.0
"""Checks the import contracts of pyproject.toml against the source folders."""

import subprocess
import sys
from pathlib import Path

from layout import laid_out


def main(root: Path) -> int:
    """Runs import-linter; returns its status."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    with laid_out(root) as folder:
        # import-linter puts its working folder first on the path, before the editable install.
        return subprocess.run([*command, "--config", str(root / "pyproject.toml")], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent))
