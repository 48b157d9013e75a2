# SPDX-License-Identifier: Apache-2.0
"""The Python interface gives the files of the command line, byte for byte, in a script and in a notebook."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import forked
from support.digits_job import command, write_data, write_teacher

from learn2compress.api.auditing import verify
from learn2compress.api.results import Result, open_result

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "image_folder"
QUICK = {
    "distill.epochs": 1, "prune.epochs": 1, "quantize.epochs": 1, "quantize.variants": ["int8"],
    "quantize.teacher_variants": [], "evaluate.latency_runs": 3,
    "students.sizes": {"small": {"size_bytes": 4500}, "large": {"size_bytes": 6000}},
}  # fmt: skip
LIMIT = 60
# Changes to the notebook, so that it takes less time: shorter trainings, of two students instead of three.
SHORTER = {
    "epochs=12": "epochs=6",
    '"distill.epochs": 8': '"distill.epochs": 4',
    '"prune.epochs": 2': '"prune.epochs": 1, "students.sizes": {"small": None, "large": None}',
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Folder with the example's configuration and images, and a teacher for them, as the configuration names it."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "digits").mkdir()
    write_data(folder / "digits" / "digits.npz")
    write_teacher(folder / "digits" / "teacher.keras")
    (folder / "image_folder").mkdir()
    (folder / "image_folder" / "config.yaml").write_text((EXAMPLE / "config.yaml").read_text())
    made = forked.run(str(EXAMPLE / "make_images.py"), ["--output", str(folder / "image_folder" / "images")])
    assert made.returncode == 0, made.stderr
    return folder


def settings_of(config: Path) -> dict[str, Any]:
    """Lists the fields of a configuration as settings, without the paths that are arguments."""
    tree = yaml.safe_load(config.read_text())
    fields = {f"{section}.{name}": value for section, of in tree.items() for name, value in of.items()}
    return {name: value for name, value in fields.items() if name not in ("teacher.path", "data.path")}


@pytest.fixture(scope="module")
def compressed(inputs, tmp_path_factory) -> Path:
    """Output folder of `compress` in a new process."""
    output = tmp_path_factory.mktemp("python") / "out"
    arguments = {
        "teacher": str(inputs / "digits" / "teacher.keras"),
        "data": str(inputs / "image_folder" / "images"),
        "output": str(output),
        "settings": {**settings_of(inputs / "image_folder" / "config.yaml"), **QUICK},
        "limit": LIMIT,
    }
    code = "import json, sys, learn2compress as l2c; print(l2c.compress(**json.loads(sys.argv[1])).best)"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (output / "run.log").read_text()[-3000:]
    assert "warn" not in (done.stdout + done.stderr).lower()
    assert f"all else by default ({output / 'config.yaml'})" in done.stdout
    return output


def test_compress_gives_the_files_of_the_command_line_byte_for_byte(inputs, compressed, tmp_path):
    overrides = [f"--set={name}={json.dumps(value)}" for name, value in QUICK.items()]
    config = inputs / "image_folder" / "config.yaml"

    done = command("run", config, "--output", tmp_path / "out", "--limit", str(LIMIT), *overrides)

    assert done.returncode in (0, 3), done.stderr  # 3: so short a training may leave it near chance
    assert "warn" not in (done.stdout + done.stderr).lower()
    names = sorted(path.name for path in (compressed / "models").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out" / "models").iterdir())
    assert len(names) == 2
    for name in (*(f"models/{name}" for name in names), "selected.tflite"):
        assert (compressed / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_compress_writes_a_configuration_that_repeats_the_run_from_the_cache(compressed):
    before = {path.name: path.read_bytes() for path in (compressed / "models").iterdir()}

    done = command("run", compressed / "config.yaml", "--output", compressed, "--limit", str(LIMIT), "--quiet")

    assert done.stdout == f"{compressed / 'selected.tflite'}\n"
    assert {path.name: path.read_bytes() for path in (compressed / "models").iterdir()} == before
    assert "[10/10] StudentSelector unchanged, from the cache" in (compressed / "run.log").read_text()


def test_result_of_a_run_can_be_evaluated_traced_and_chosen_again(inputs, compressed):
    result: Result = open_result(compressed)

    measured = result.evaluate(inputs / "image_folder" / "images", limit=20, runs=2, allow_near_chance=True, quiet=True)
    assert measured.candidates[0].sha256 == result.best.candidate.sha256
    chain = result.lineage().chains[0]
    assert chain.steps[0].node == "Quantizer"
    assert result.lineage().status == "whole"
    smallest = min(result.models, key=lambda model: model.bytes)
    assert result.pick(max_size=smallest.bytes).best.name == smallest.name


def test_records_cover_the_configuration_that_compress_wrote(compressed):
    report = verify(compressed)

    assert report.status == "whole"
    assert "config.yaml" not in report.unrecorded


def execute(notebook_name: str, folder: Path, shorter: dict[str, str]) -> list[Any]:
    """Runs a notebook in a folder, some settings shortened; returns its code cells with their outputs."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / notebook_name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)  # the file holds no figures that its reader's machine may not give
    for written, run in shorter.items():
        [cell] = [cell for cell in cells if written in cell.source]
        cell.source = cell.source.replace(written, run)

    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return cells


def test_notebook_of_an_audit_runs_on_a_finished_run(compressed, tmp_path, monkeypatch):
    shutil.copytree(compressed, tmp_path / "out")
    monkeypatch.setenv("LEARN2COMPRESS_OUTPUT", "out")

    result, alternatives, pick, trace, verified, changed, bill = execute("audit.ipynb", tmp_path, {})

    assert "chosen" in result.outputs[-1].data["text/html"]
    assert 'max_size="' in alternatives.outputs[-1].data["text/plain"]
    smallest = min(open_result(compressed).models, key=lambda model: model.bytes)
    assert smallest.name in pick.outputs[-1].data["text/plain"]
    assert trace.outputs[-1].text.startswith("chain: whole\nQuantizer ")
    assert verified.outputs[-1].text.startswith("whole\n")
    assert changed.outputs[-1].data["text/plain"] == "'unknown'"
    assert '"bomFormat": "CycloneDX"' in bill.outputs[-1].text


def test_notebook_of_the_digits_runs(tmp_path):
    cells = execute("digits.ipynb", tmp_path, SHORTER)
    assert len(cells) == 5

    *_, compress, table, report = cells
    shown = "".join(output.get("text", "") for output in compress.outputs)
    assert "[10/10] StudentSelector done in" in shown
    assert "tried: with unit the accuracy on 128 training images is" in shown
    assert "warn" not in shown.lower()
    assert "\x1b" not in shown  # a notebook is no terminal
    assert "small-int8" in table.outputs[-1].data["text/html"]
    assert report.outputs[-1].data["text/html"].startswith("<iframe title=")
    assert (tmp_path / "out" / "selected.tflite").exists()
