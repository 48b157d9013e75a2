# SPDX-License-Identifier: Apache-2.0
"""What is shipped, what is pinned, and that the package is light to import."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from learn2compress import __version__

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PYPROJECT["tool"]["setuptools"]["package-dir"]
STACKS = {"py310-tfx1.16.txt": ["3.10"], "py313-tfx1.21.txt": ["3.12", "3.13"]}
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]+\])?==(?P<version>\S+)( ; (?P<marker>[^\\]+?))? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def files_of(root: Path) -> set[str]:
    """The packages' files, by the names they have once installed."""
    return {
        f"{package.replace('.', '/')}/{path.relative_to(root / folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def copy_sources(target: Path) -> Path:
    """A copy of what a build reads: the checkout itself is left alone, and its stale build/ is not seen."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_sources(folder / "a source folder")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert tops == {"learn2compress", f"learn2compress-{__version__}.dist-info"}


def test_wheel_holds_every_file_of_the_source_folders(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert packed == files_of(ROOT)


def test_wheel_carries_licence_and_command(wheel: zipfile.ZipFile) -> None:
    info = f"learn2compress-{__version__}.dist-info"

    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "learn2compress = learn2compress.cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode()
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert 'Requires-Dist: tfx==1.21.0; python_version >= "3.12"' in metadata


def test_version_stands_in_the_package_alone(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(f"learn2compress-{__version__}.dist-info/METADATA").decode()

    assert f"\nVersion: {__version__}\n" in metadata
    assert "version" not in PYPROJECT["project"]


def test_wheel_says_that_the_package_has_types(wheel: zipfile.ZipFile) -> None:
    assert "learn2compress/py.typed" in wheel.namelist()


def pins(name: str) -> list[tuple[str, str, str | None, int]]:
    """Reads a requirement file strictly: name, version, marker and number of hashes of each package."""
    found: list[tuple[str, str, str | None, int]] = []
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if pin := PIN.match(line):
            found.append((pin["name"], pin["version"], pin["marker"], 0))
        else:
            assert HASH.match(line), f"{name}: neither a pin nor a hash: {line}"
            package, version, marker, hashes = found.pop()
            found.append((package, version, marker, hashes + 1))
    return found


@pytest.mark.parametrize("name", [*STACKS, "uv.txt"])
def test_requirement_file_pins_everything_by_hash_and_names_no_address(name: str) -> None:
    found = pins(name)

    assert found
    assert not [package for package, _, _, hashes in found if hashes == 0]
    assert "://" not in (ROOT / "requirements" / name).read_text()


@pytest.mark.parametrize(("name", "python"), [(name, python) for name in STACKS for python in STACKS[name]])
def test_requirement_file_satisfies_the_project(name: str, python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    pinned = {
        package: version
        for package, version, marker, _ in pins(name)
        if marker is None or Requirement(f"x ; {marker}").marker.evaluate(environment)
    }
    project = PYPROJECT["project"]
    wanted = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]

    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            package = re.sub(r"[-_.]+", "-", requirement.name).lower()
            assert package in pinned, f"{name} lacks {requirement}: run make lock"
            assert requirement.specifier.contains(pinned[package]), f"{name} has {package}=={pinned[package]}"


@pytest.mark.parametrize("module", ["learn2compress"])
def test_import_pulls_in_neither_tensorflow_nor_tfx(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())

    assert "learn2compress" in loaded
    assert not loaded & {"tensorflow", "tf_keras", "keras", "tfx", "apache_beam", "kfp", "ml_metadata"}
