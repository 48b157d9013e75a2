# SPDX-License-Identifier: Apache-2.0
"""The import contracts see every folder: each is broken here on purpose, in a copy."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()


sys.path.insert(0, str(ROOT / "scripts"))
lint_imports = importlib.import_module("lint_imports")


# The nodes, the commands, and the vocabulary of all rooms.
WIDER_FACES = {
    "cli", "cli/lineage", "components", "learn2compress", "schemas", "schemas/config",
}  # fmt: skip


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "lint_imports.py"), str(root)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_layers_are_kept_as_they_stand(copy: Path) -> None:
    done = lint(copy)

    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("schemas/broken.py", "import learn2compress.compression", "Imports point only downward"),
        ("kubeflow/broken.py", "import learn2compress.cli", "Imports point only downward"),
        ("lineage/broken.py", "import learn2compress.report", "Imports point only downward"),
        ("tflite/broken.py", "import learn2compress.storage", "Imports point only downward"),
        ("compression/broken.py", "import tfx", "The algorithms know no pipeline"),
        ("data/sources/broken.py", "import apache_beam", "The algorithms know no pipeline"),
        ("tflite/broken.py", "import tensorflow", "Files, figures and lineage need no TensorFlow"),
        ("lineage/queries/broken.py", "import tf_keras", "Files, figures and lineage need no TensorFlow"),
        ("components/pruner.py", "import learn2compress.components.distiller", "No node imports another"),
        (
            "report/broken.py",
            "import learn2compress.modalities.image.pixels",
            "Only their sources and their family know images or texts",
        ),
        (
            "compression/family/model.py",
            "import learn2compress.compression.students.files",
            "No room's parts go round in circles",
        ),
        (
            "cli/broken.py",
            "import learn2compress.tflite.associated_files",
            "learn2compress.tflite keeps its modules private",
        ),
        (
            "compression/pruning/broken.py",
            "import learn2compress.compression.training.schedules",
            "learn2compress.compression.training keeps its modules private",
        ),
    ],
)
def test_layers_are_broken_by_a_wrong_import(copy: Path, file: str, line: str, contract: str) -> None:
    with (copy / file).open("a") as source:
        source.write(f"\n{line}\n")

    done = lint(copy)

    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


def test_layers_are_broken_by_a_face_that_names_what_is_not_there(copy: Path) -> None:
    (copy / "tflite" / "__init__.py").write_text('__all__ = ["schema", "gone"]\n')

    done = lint(copy)

    assert done.returncode != 0
    assert "learn2compress.tflite.__all__ must name modules of the room; got gone" in done.stderr


def test_every_room_says_what_lives_there_and_names_its_face(copy: Path) -> None:
    """A face has at most eight names, except those that name every node, command or shared type."""
    for folder in FOLDERS:
        for init in (copy / folder).rglob("__init__.py"):
            tree = ast.parse(init.read_text())
            room = init.parent.relative_to(copy).as_posix()
            face = lint_imports.face_of(init.read_text())
            assert ast.get_docstring(tree), room
            if room not in WIDER_FACES:
                assert face is not None, room
                assert 1 <= len(face) <= 8, room


def test_no_folder_and_no_file_is_too_large_to_take_in() -> None:
    sources = [
        path for folder in (*FOLDERS, "tests", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py")
    ]
    by_folder = Counter(path.parent for path in sources)

    assert {str(folder): count for folder, count in by_folder.items() if count > 14} == {}
    assert [str(path) for path in sources if len(path.read_text().splitlines()) > 450] == []


def test_algorithms_are_broken_by_a_pipeline_import_behind_the_schemas(copy: Path) -> None:
    (copy / "schemas" / "behind.py").write_text("import ml_metadata\n")
    (copy / "compression" / "broken.py").write_text("import learn2compress.schemas.behind\n")

    done = lint(copy)

    assert done.returncode == 1
    assert "The algorithms know no pipeline BROKEN" in done.stdout


def test_every_node_is_named_in_the_contract_that_keeps_nodes_apart() -> None:
    nodes = {
        f"learn2compress.components.{path.stem}"
        for path in (ROOT / "components").glob("*.py")
        if re.search(r"^class \w+\(Node\):|^@component\b", path.read_text(), re.MULTILINE)
    }
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {module for contract in contracts if contract["type"] == "independence" for module in contract["modules"]}

    assert named == nodes
