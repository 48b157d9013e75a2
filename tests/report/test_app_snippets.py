# SPDX-License-Identifier: Apache-2.0
"""The snippets for apps compile: Kotlin with the classes of TensorFlow Lite and Android, Swift if swiftc is installed.

The compiler and the classes come from Maven Central. The snippets are compiled and not run: the native library of the
AAR is for Android alone, and there is none for Linux on Maven Central.
"""

import os
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
SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # Java options: no optimization that takes longer to make


@pytest.fixture(scope="session")
def jars(tmp_path_factory) -> Path:
    """Folder with the jar files, from Maven's own cache or from Maven Central."""
    for program in ("mvn", "java"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")

    def make(folder: Path) -> None:
        shutil.copy(POM, folder)
        command = ["mvn", "--batch-mode", "--quiet", f"{PLUGIN}:copy-dependencies", "-DoutputDirectory=jars"]
        options = {**os.environ, "MAVEN_OPTS": " ".join(SHORT_LIVED)}
        done = subprocess.run(command, cwd=folder, env=options, capture_output=True, text=True, timeout=600)
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


def compile_kotlin(jars: Path, target: Path, *sources: Path) -> subprocess.CompletedProcess[str]:
    path = ":".join(map(str, sorted(jars.glob("*.jar"))))
    compiler = ["java", *SHORT_LIVED, "-Xmx600m", "-cp", path, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-no-stdlib", "-no-reflect", "-Werror", "-classpath", path, "-d", str(target), *map(str, sources)]
    return subprocess.run([*compiler, *options], capture_output=True, text=True, timeout=600)


def test_kotlin_snippets_compile_against_tensorflow_lite_and_android(finished, jars, tmp_path):
    """All in one run of the compiler, whose start takes longer than the compilation; hence a package for each."""
    variants, sources = ("float32", "int8", "uint8"), []
    for variant in variants:
        source = snippet(finished(variant, tmp_path / variant), tmp_path / variant / "app", "Classifier.kt")
        source.write_text(f"package {variant}\n{source.read_text()}")
        sources.append(source)
    assert len({source.read_text().partition("\n")[2] for source in sources}) == len(variants)

    done = compile_kotlin(jars, tmp_path / "classes", *sources)

    assert done.returncode == 0, done.stderr
    for variant in variants:
        assert (tmp_path / "classes" / variant / "Classifier.class").exists()


def test_kotlin_compiler_refuses_a_call_that_tensorflow_lite_does_not_have(finished, jars, tmp_path):
    source = snippet(finished("int8"), tmp_path / "app", "Classifier.kt")
    source.write_text(source.read_text().replace("interpreter.run(", "interpreter.runs("))

    done = compile_kotlin(jars, tmp_path / "classes", source)

    assert done.returncode != 0
    assert "unresolved reference: runs" in done.stderr


def test_swift_snippet_is_parsed(finished, tmp_path):
    swiftc = shutil.which("swiftc")
    if swiftc is None:
        pytest.skip("swiftc is not installed")
    source = snippet(finished("int8"), tmp_path / "app", "Classifier.swift")

    done = subprocess.run([swiftc, "-parse", str(source)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
