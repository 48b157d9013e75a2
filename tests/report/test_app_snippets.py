# SPDX-License-Identifier: Apache-2.0
"""The snippets for apps compile: Kotlin with the classes of TensorFlow Lite and Android, Swift if swiftc is installed.

The compiler and the classes come from Maven Central. The snippets are compiled and not run: the native library of the
AAR is for Android alone, and there is none for Linux on Maven Central.
"""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from support.shared import made_once

from learn2compress.report.bundle import find_examples, write_bundle

pytestmark = pytest.mark.slow
POM = Path(__file__).parents[1] / "support" / "kotlin" / "pom.xml"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"


@pytest.fixture(scope="session")
def jars(tmp_path_factory) -> Path:
    """Folder with the jar files, from Maven's own cache or from Maven Central."""
    for program in ("mvn", "java"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")

    def make(folder: Path) -> None:
        shutil.copy(POM, folder)
        command = ["mvn", "--batch-mode", "--quiet", f"{PLUGIN}:copy-dependencies", "-DoutputDirectory=jars"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"Maven Central gave no Kotlin compiler: {done.stdout.strip().splitlines()[:1]}")
        for archive in (folder / "jars").glob("*.aar"):
            with zipfile.ZipFile(archive) as opened:
                (folder / "jars" / f"{archive.stem}.jar").write_bytes(opened.read("classes.jar"))

    return made_once(tmp_path_factory, "kotlin", make) / "jars"


def snippet(finished, folder: Path, name: str) -> Path:
    output, report, selected = finished
    with zipfile.ZipFile(write_bundle(output, report, selected, find_examples(output, report))) as bundle:
        return Path(bundle.extract(f"snippets/{name}", folder))


def compile_kotlin(jars: Path, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    path = ":".join(map(str, sorted(jars.glob("*.jar"))))
    compiler = ["java", "-Xmx600m", "-cp", path, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-no-stdlib", "-no-reflect", "-Werror", "-classpath", path, "-d", str(target), str(source)]
    return subprocess.run([*compiler, *options], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
def test_kotlin_snippet_compiles_against_tensorflow_lite_and_android(finished, jars, tmp_path, variant):
    source = snippet(finished(variant), tmp_path / "app", "Classifier.kt")

    done = compile_kotlin(jars, source, tmp_path / "classes")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "classes" / "Classifier.class").exists()


def test_kotlin_compiler_refuses_a_call_that_tensorflow_lite_does_not_have(finished, jars, tmp_path):
    source = snippet(finished("int8"), tmp_path / "app", "Classifier.kt")
    source.write_text(source.read_text().replace("interpreter.run(", "interpreter.runs("))

    done = compile_kotlin(jars, source, tmp_path / "classes")

    assert done.returncode != 0
    assert "unresolved reference: runs" in done.stderr


def test_swift_snippet_is_parsed(finished, tmp_path):
    swiftc = shutil.which("swiftc")
    if swiftc is None:
        pytest.skip("swiftc is not installed")
    source = snippet(finished("int8"), tmp_path / "app", "Classifier.swift")

    done = subprocess.run([swiftc, "-parse", str(source)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
