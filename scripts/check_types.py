# SPDX-License-Identifier: Apache-2.0
"""Checks the types of the whole package with mypy, as pyproject.toml configures it.

python scripts/check_types.py [ROOM ...]      all, or only the named packages, such as lineage or compression.family
"""

import subprocess
import sys
from pathlib import Path

from layout import laid_out

ROOT = Path(__file__).resolve().parent.parent


def main(rooms: list[str]) -> int:
    """Runs mypy; returns its status."""
    packages = [argument for room in rooms or [""] for argument in ("-p", f"learn2compress.{room}".rstrip("."))]
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    with laid_out(ROOT) as folder:
        return subprocess.run([sys.executable, "-m", "mypy", *settings, *packages], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
