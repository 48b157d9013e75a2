# SPDX-License-Identifier: Apache-2.0
"""Checks the import contracts: those of pyproject.toml, and one for the public modules of each package.

`__all__` in the `__init__` of a package names its public modules, which other packages may import. All other modules
are private to the package and to the packages inside it.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

from layout import laid_out

PACKAGE = "learn2compress"


def faces(folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Reads the public modules of every package that names them.

    Args:
        folder: Folder with the laid-out package.

    Returns:
        The public and the private modules by package, such as `learn2compress.tflite`.
    """
    found = {}
    for name, folders, files in os.walk(folder / PACKAGE, followlinks=True):
        if "__init__.py" not in files or name == str(folder / PACKAGE):
            continue
        room = ".".join(Path(name).relative_to(folder).parts)
        public = face_of(Path(name, "__init__.py").read_text(encoding="utf-8"))
        if public is None:
            continue
        modules = {file.removesuffix(".py") for file in files if file.endswith(".py")} - {"__init__"}
        modules |= {inner for inner in folders if Path(name, inner, "__init__.py").exists()}
        if unknown := sorted(set(public) - modules):
            if not set(public) & modules:  # a package that re-exports names, as schemas.config does
                continue
            raise SystemExit(f"{room}.__all__ must name modules of the room; got {', '.join(unknown)}.")
        found[room] = (sorted(public), sorted(modules - set(public)))
    return found


def face_of(source: str) -> list[str] | None:
    """Reads the value of `__all__` in a module's source; None if it is missing."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def contract(room: str, private: list[str]) -> str:
    """Writes the contract that protects a package's private modules, as TOML."""
    modules = ", ".join(f'"{room}.{name}"' for name in private)
    return (
        "\n[[tool.importlinter.contracts]]\n"
        f'name = "{room} keeps its modules private"\n'
        'type = "protected"\n'
        f"protected_modules = [{modules}]\n"
        f'allowed_importers = ["{room}"]\n'
    )


def main(root: Path) -> int:
    """Runs import-linter; returns its status."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    with laid_out(root) as folder:
        hidden = "".join(contract(room, private) for room, (_, private) in faces(folder).items() if private)
        config = folder / "contracts.toml"
        config.write_text((root / "pyproject.toml").read_text(encoding="utf-8") + hidden, encoding="utf-8")
        # The working folder of import-linter is first on the path, before the editable install.
        return subprocess.run([*command, "--config", str(config)], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent))
