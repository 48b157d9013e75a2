# SPDX-License-Identifier: Apache-2.0
"""Checks the documentation: code blocks, links, and names of files, commands and configuration fields.

A code block is fenced and has a language. Blocks of python are run, one after the other on each page; yaml, json and
toml are parsed, and a yaml block of a configuration is checked as one; text is not code. Anything else needs a line
`<!-- not run: REASON -->` above it, and its commands are compared with the command line.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
import yaml

from learn2compress.schemas.config import Config, parse_config

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->")
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|sh|json|md|toml|j2))`")
FOLDERS = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]


class Block(NamedTuple):
    """A code block of a page."""

    line: int
    language: str
    code: str
    reason: str | None  # why it is not run


def blocks(page: str) -> Iterator[Block]:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        start = re.match(r"( *)```(\w*)", lines[number])
        if start:
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
            indent = len(start[1])
            mark = NOT_RUN.search(lines[number - 1]) if number else None
            code = "\n".join(line[indent:] for line in lines[number + 1 : end])
            yield Block(number + 1, start[2], code, mark and mark[1])
            number = end
        number += 1


def all_blocks(*languages: str) -> list[pytest.param]:
    return [
        pytest.param(block, id=f"{page}:{block.line}")
        for page in PAGES
        for block in blocks(page)
        if block.language in languages
    ]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_are_fenced_and_run_or_marked_with_the_reason(page):
    for block in blocks(page):
        where = f"{page}:{block.line}"
        assert block.language, f"{where} has no language"
        if block.language not in ("python", "yaml", "json", "toml", "text"):
            assert block.reason, f"{where} is not run, and no line above it says why"
    text = re.sub(r"^( *)```.*?^\1```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"\n\n    [^\s*-]", re.sub(r"^[-*\d].*(\n\n? {2,}.*)*", "", text, flags=re.MULTILINE)), page


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language == "python" for block in blocks(page))])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "documentation"}
    for block in blocks(page):
        if block.language == "python" and not block.reason:
            exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), names)


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_yaml_blocks_are_valid(block):
    documents = list(yaml.safe_load_all(block.code))
    for content in documents:
        if isinstance(content, dict) and set(content) <= set(Config.model_fields):
            required = {"teacher": {"path": "teacher.keras"}, "data": {"path": "images"}}
            sections = {name: {**required.get(name, {}), **content.get(name, {})} for name in {*required, *content}}
            parse_config(sections)
        else:
            assert block.reason, "it is no configuration, and no line above it says why"


@pytest.mark.parametrize("block", all_blocks("json", "toml"))
def test_json_and_toml_blocks_are_valid(block):
    (json.loads if block.language == "json" else tomllib.loads)(block.code)


def commands(text: str) -> Iterator[list[str]]:
    """Finds the calls of learn2compress in shell code or prose, as lists of words after the name."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for call in re.findall(r"(?:^|[\s/`(])learn2compress ([a-z][^`;&|#)…]*)", line):
            try:
                yield shlex.split(call)
            except ValueError:
                yield call.split()


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    from learn2compress.cli.main import app

    known = typer.main.get_command(app).commands
    shell = "\n".join(block.code for block in blocks(page) if block.language in ("sh", "console"))
    inline = "\n".join(re.findall(r"`learn2compress [^`]*`", (ROOT / page).read_text(encoding="utf-8")))
    for words in commands(f"{shell}\n{inline}"):
        assert words[0] in known, f"{page}: {' '.join(words)}"
        options = {
            name for parameter in known[words[0]].params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        for word in words[1:]:
            if word.startswith("--") and len(word) > 2:
                assert word.split("=")[0] in {*options, "--help"}, f"{page}: {' '.join(words)}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    for name in FILE.findall((ROOT / page).read_text(encoding="utf-8")):
        # Files of a reader, and those of a run, do not exist here.
        if name.split("/")[0] in FOLDERS and not re.search(r"/(test_)?my_|^pipeline/[A-Z]", name):
            assert (ROOT / name).exists(), f"{page} names {name}"


def anchors(path: Path) -> set[str]:
    """Computes the anchors of a page's headings, as GitHub and mkdocs do."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading).lower()).strip() for heading in headings]
    return {re.sub(r"[\s]+", "-", heading) for heading in plain}


GENERATED = {
    "docs/changelog.md", "docs/contributing.md", "docs/reference/commands.md", "docs/reference/configuration.md",
    "docs/reference/files.md", "docs/reference/python.md",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        relative = path.resolve().relative_to(ROOT).as_posix()
        assert relative in GENERATED or path.exists(), f"{page} links to {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page} links to {target}"


def test_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert "temperature of the softmax" in (tmp_path / "site/reference/configuration.html").read_text(encoding="utf-8")
    python = (tmp_path / "site/reference/python.html").read_text(encoding="utf-8")
    assert "Largest size of the chosen file, such as 60KB" in python
    assert "learn2compress pick" in (tmp_path / "site/reference/commands.html").read_text(encoding="utf-8")
