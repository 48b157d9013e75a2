# SPDX-License-Identifier: Apache-2.0
"""Tests the output and the exit statuses of the lineage commands."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from learn2compress.schemas.json_schemas import LINEAGE_PATH, lineage_schema


@pytest.fixture
def out(make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = make_run(tmp_path / "out" / "pipeline")
    make_run(tmp_path / "out" / "pipeline", run="run-2", first=20, epochs=10, day=2)
    shutil.copy(run.path("Quantizer.models", "large-int8.tflite"), tmp_path / "renamed.bin")
    shutil.copy(run.path("Quantizer.models", "small-int8.tflite"), tmp_path / "other.tflite")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def flip(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])


def test_lineage_prints_a_tree_within_100_columns(out: Path, type_in) -> None:  # noqa: ARG001
    status, told, _ = type_in("lineage", "renamed.bin", "--at", "out")

    assert status == 0
    assert max(map(len, told.splitlines())) <= 100
    lines = told.splitlines()
    assert lines[0].startswith("renamed.bin  31 B")
    assert "1057a9604e04b274da5a4de0c8f4b4868d9b230989f8c8c6a28221143cc5a755" in told
    nodes = [re.match(r"│   [├└]── (\w+)  2026", line) for line in lines]
    assert [found[1] for found in nodes if found] == [
        "Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen",
    ]  # fmt: skip
    assert "chosen: best within the limits" in told
    assert "dominated: large-int8 is better" in told
    assert "validation: 93.00% of 1 images" in told
    assert lines[-1] == "Lineage: whole"


def test_lineage_finds_the_records_below_the_working_directory(out: Path, type_in) -> None:  # noqa: ARG001
    assert type_in("lineage", "renamed.bin")[0] == 0


def test_lineage_refuses_when_no_records_are_near(tmp_path: Path, monkeypatch, type_in) -> None:
    (tmp_path / "x").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)

    status, told, error = type_in("lineage", "x")

    assert (status, told) == (2, "")
    assert "Name the location of the run's outputs with --at." in error


@pytest.mark.parametrize("command", ["lineage", "diff"])
def test_lineage_commands_exit_2_on_a_missing_file(out: Path, type_in, command: str) -> None:  # noqa: ARG001
    arguments = ["none.tflite"] * (2 if command == "diff" else 1)

    status, _, error = type_in(command, *arguments, "--at", "out")

    assert status == 2
    assert error.startswith("learn2compress: none.tflite must be a")


def test_lineage_of_a_changed_copy_exits_3(out: Path, type_in, tmp_path: Path) -> None:  # noqa: ARG001
    flip(tmp_path / "other.tflite")

    status, told, _ = type_in("lineage", "other.tflite", "--at", "out")

    assert status == 3
    assert "lists these bytes" in told
    assert "changed copy" in " ".join(told.split())
    assert "Lineage: unknown" in told


def test_lineage_with_a_changed_record_exits_4(out: Path, type_in) -> None:
    record = out / "pipeline" / "Distiller" / "provenance" / "3.intoto.json"
    record.write_text(record.read_text().replace('"distill_epochs": 30', '"distill_epochs": 31'))

    status, told, _ = type_in("lineage", "renamed.bin", "--at", "out")

    assert status == 4
    assert "TAMPERED Distiller/provenance/3.intoto.json" in told


def test_lineage_with_a_missing_record_exits_5(out: Path, type_in) -> None:
    (out / "pipeline" / "Distiller" / "provenance" / "3.intoto.json").unlink()

    status, told, _ = type_in("lineage", "renamed.bin", "--at", "out")

    assert status == 5
    assert "INCOMPLETE Distiller/provenance/3.intoto.json" in told


def test_lineage_as_mermaid_has_a_node_for_each_step(out: Path, type_in) -> None:  # noqa: ARG001
    status, told, _ = type_in("lineage", "renamed.bin", "--format", "mermaid")

    assert status == 0
    lines = told.splitlines()
    assert lines[0] == "flowchart TD"
    for node in ("Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen", "renamed.bin"):
        assert sum(f'"{node}<br/>' in line for line in lines) == 1
    assert '-->|"teacher, teacher_logits"|' in told


def test_lineage_as_html_is_self_contained_and_draws_the_graph(out: Path, type_in) -> None:  # noqa: ARG001
    status, told, _ = type_in("lineage", "renamed.bin", "--format", "html")

    assert status == 0
    assert not re.search(r"""(src|href|@import|url\()\s*=?\s*["']?(https?:)?//""", told)
    svg = ElementTree.fromstring(told[told.index("<svg") : told.index("</svg>") + 6])
    names = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "title"]
    assert sorted(names) == sorted(
        ["Quantizer", "Pruner", "Distiller", "TeacherImporter", "ImageExampleGen", "renamed.bin", "TFLiteEvaluator",
         "StudentSelector"]
    )  # fmt: skip
    parser = _Balance()
    parser.feed(told)
    assert parser.open == []
    assert "chosen: best within the limits" in told
    assert "by accuracy, max_size 50,000</span>" in told


def test_lineage_graph_boxes_do_not_overlap(out: Path, type_in) -> None:  # noqa: ARG001
    _, told, _ = type_in("lineage", "renamed.bin", "--format", "html")

    boxes = [tuple(map(int, place)) for place in re.findall(r'translate\((\d+) (\d+)\)"><title>', told)]
    assert len(boxes) == 8
    for number, (x, y) in enumerate(boxes):
        for other_x, other_y in boxes[number + 1 :]:
            assert abs(x - other_x) >= 216 or abs(y - other_y) >= 58


def test_lineage_as_html_escapes_the_contents_of_records(make_run, tmp_path: Path, monkeypatch, type_in) -> None:
    run = make_run(tmp_path / "pipeline", run="<script>alert(1)</script>")
    monkeypatch.chdir(tmp_path)

    _, told, _ = type_in("lineage", str(run.path("Quantizer.models", "large-int8.tflite")), "--format", "html")

    assert "<script" not in told
    assert "&lt;script&gt;" in told


def test_verify_exits_0_on_a_whole_folder_and_4_on_a_changed_one(out: Path, type_in) -> None:
    status, told, _ = type_in("verify", "out")
    assert status == 0
    assert "14 records, 18 artifacts, 36 files" in told

    shard = out / "pipeline" / "ImageExampleGen" / "examples" / "1" / "Split-train" / "data_tfrecord-00000-of-00001.gz"
    flip(shard)
    status, told, _ = type_in("verify", "out")

    assert status == 4
    assert f"TAMPERED {shard.relative_to(out / 'pipeline')} its bytes are not those" in told


def test_verify_accepts_a_part_of_a_pipeline(out: Path, type_in) -> None:
    shutil.rmtree(out / "pipeline" / "Distiller" / "students")

    assert type_in("verify", "out/pipeline/Quantizer")[0] == 0
    assert type_in("verify", "out/pipeline/Quantizer/models/5")[0] == 0
    assert type_in("verify", "out/pipeline/Distiller")[0] == 5


def test_verify_accepts_a_single_file(out: Path, type_in, tmp_path: Path) -> None:  # noqa: ARG001
    assert type_in("verify", "renamed.bin", "--at", "out")[0] == 0
    flip(tmp_path / "renamed.bin")
    assert type_in("verify", "renamed.bin", "--at", "out")[0] == 3


def test_verify_exits_2_on_a_missing_path(out: Path, type_in) -> None:  # noqa: ARG001
    status, _, error = type_in("verify", "nowhere")

    assert status == 2
    assert "it does not exist" in error


def test_impact_lists_derived_models(out: Path, type_in) -> None:  # noqa: ARG001
    status, told, _ = type_in("impact", "0000000000000003", "--at", "out")

    assert status == 0
    assert "in split train" in told
    assert "12 executions in 2 runs, 8 models" in told
    assert type_in("impact", "f" * 64, "--at", "out")[0] == 3
    assert type_in("impact", "nothing", "--at", "out")[0] == 2


def test_diff_prints_a_table(out: Path, type_in) -> None:
    status, told, _ = type_in("diff", "renamed.bin", str(out / "pipeline/Quantizer/models/24/large-int8.tflite"))

    assert status == 0
    assert re.search(r"Distiller +parameter +distill_epochs +30 +10", told)


def test_history_prints_a_table(out: Path, type_in) -> None:  # noqa: ARG001
    status, told, _ = type_in("history", "out")

    assert status == 0
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["run-2", "run-1"]
    assert "… and 1 earlier runs" in type_in("history", "out", "--limit", "1")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["lineage", "renamed.bin"],
        ["verify", "out"],
        ["verify", "renamed.bin"],
        ["impact", "renamed.bin"],
        ["diff", "renamed.bin", "other.tflite"],
        ["history", "out"],
    ],
)
def test_json_conforms_to_the_schema(out: Path, type_in, arguments: list[str]) -> None:  # noqa: ARG001
    status, told, _ = type_in(*arguments, "--json")

    assert status == 0
    answer = json.loads(told)
    assert answer["command"] == arguments[0]
    jsonschema.validate(answer, json.loads(LINEAGE_PATH.read_text()))


def test_lineage_schema_is_up_to_date() -> None:
    assert json.loads(LINEAGE_PATH.read_text()) == lineage_schema()


@pytest.mark.parametrize("command", ["lineage", "verify", "impact", "diff", "history"])
def test_help_documents_the_exit_statuses(type_in, command: str) -> None:
    status, told, _ = type_in(command, "--help")

    assert status == 0
    words = " ".join(told.split())
    assert "3 unknown" in words
    assert "4 tampered" in words
    assert "5 incomplete" in words


@pytest.fixture(params=["ed25519", "EC -pkeyopt ec_paramgen_curve:P-256", "RSA -pkeyopt rsa_keygen_bits:2048"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    private, public = str(tmp_path / "key.pem"), str(tmp_path / "public.pem")
    made = ["openssl", "genpkey", "-algorithm", *request.param.split(), "-out", private]
    subprocess.run(made, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_verify_checks_signatures_with_the_key(out: Path, type_in, keys: tuple[str, str]) -> None:
    private, public = keys
    assert type_in("verify", "out", "--public-key", public)[0] == 5
    assert "unsigned: whoever can write here could have written these records, too" in type_in("verify", "out")[1]

    status, told, _ = type_in("sign", "out", "--key", private)
    assert (status, told) == (0, f"Signed 14 records at {out / 'pipeline'}.\n")
    status, told, _ = type_in("verify", "out", "--public-key", public)
    assert status == 0
    assert "14 valid signatures by the given key" in told
    assert "files that no signature covers, since commands make them anew: pipeline/provenance-index" in told
    assert "not checked, name the key with --public-key" in type_in("verify", "out")[1]
    assert type_in("verify", "renamed.bin", "--public-key", public)[0] == 0

    envelope = out / "pipeline" / "Distiller" / "provenance" / "3.dsse.json"
    signature = json.loads(envelope.read_text())
    good = signature["signatures"][0]["sig"]
    signature["signatures"][0]["sig"] = ("A" if good[10] != "A" else "B").join([good[:10], good[11:]])
    envelope.write_text(json.dumps(signature))
    status, told, _ = type_in("verify", "out", "--public-key", public)
    assert status == 4
    assert "TAMPERED Distiller/provenance/3.dsse.json" in told


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_verify_detects_a_record_resealed_after_signing(out: Path, type_in, tmp_path: Path) -> None:
    from learn2compress.schemas.provenance import parse_statement

    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    type_in("sign", "out", "--key", str(private))
    # The last record of a run, whose digest is in no other record.
    record = out / "pipeline" / "StudentSelector" / "provenance" / "7.intoto.json"
    changed = record.read_bytes().replace(b'"select_objective": "accuracy"', b'"select_objective": "size"')
    record.write_bytes(parse_statement(changed, "x").to_bytes())

    assert type_in("verify", "out", "--public-key", str(public))[0] == 4
    assert type_in("verify", "out")[0] == 4


@pytest.mark.parametrize("content", [None, b"no key"])
def test_sign_refuses_an_invalid_key(out: Path, type_in, tmp_path: Path, content: bytes | None) -> None:  # noqa: ARG001
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)

    for arguments in (["sign", "out", "--key", "key.pem"], ["verify", "out", "--public-key", "key.pem"]):
        status, _, error = type_in(*arguments)
        assert status == 2
        assert "key.pem must be a" in error


class _Balance(HTMLParser):
    """Checks that opening and closing tags match."""

    _SINGLE = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag not in self._SINGLE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Ignore a self-closing tag."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_bom_is_valid_and_lists_the_components_of_the_model(out: Path, type_in, tmp_path: Path) -> None:  # noqa: ARG001
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    status, told, _ = type_in("bom", "renamed.bin", "--at", "out")

    assert status == 0
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told) is None
    bom = json.loads(told)
    model = bom["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "large-int8")
    assert model["hashes"] == [
        {"alg": "SHA-256", "content": "a738837060973a34d865a5398cebd8bf4abd294fef6f24ffcde5bf642be2105b"}
    ]
    assert model["pedigree"]["ancestors"][0]["name"] == "teacher.keras"
    card = model["modelCard"]
    assert {"slice": "validation", "type": "top-1 accuracy", "value": "0.93"} in (
        card["quantitativeAnalysis"]["performanceMetrics"]
    )
    assert card["modelParameters"]["datasets"] == [{"ref": "data"}]
    assert {"name": "learn2compress:Distiller:distill_epochs", "value": "30"} in card["properties"]
    components = {component["bom-ref"]: component for component in bom["components"]}
    assert components["data"]["type"] == "data"
    assert components["teacher"]["hashes"] == model["pedigree"]["ancestors"][0]["hashes"]
    assert components["package:numpy"]["purl"].startswith("pkg:pypi/numpy@")
    [made_of] = [one["dependsOn"] for one in bom["dependencies"] if one["ref"] == "model"]
    assert set(made_of) == set(components)

    assert type_in("bom", "renamed.bin", "--at", "out", "-o", "bom.json")[:2] == (0, "")
    assert Path("bom.json").read_text() == told
    assert type_in("bom", "renamed.bin", "--at", "out", "-o", "none/bom.json")[0] == 2


def test_bom_of_an_unknown_file_exits_3(out: Path, type_in, tmp_path: Path) -> None:  # noqa: ARG001
    (tmp_path / "x.tflite").write_bytes(b"x")

    status, told, error = type_in("bom", "x.tflite", "--at", "out")

    assert (status, told) == (3, "")
    assert "lists the bytes of x.tflite" in error


def test_rebuild_metadata_creates_a_database(out: Path, type_in, tmp_path: Path) -> None:  # noqa: ARG001
    status, told, _ = type_in("rebuild-metadata", "out", "--to", "rebuilt.db")

    assert status == 0
    assert told.startswith("rebuilt.db: 14 executions, 18 artifacts")
    assert (tmp_path / "rebuilt.db").is_file()
    status, _, error = type_in("rebuild-metadata", "out", "--to", "rebuilt.db")
    assert status == 2
    assert "must be a new file" in error


def test_rebuild_metadata_prints_json_by_the_schema(out: Path, type_in) -> None:  # noqa: ARG001
    status, told, _ = type_in("rebuild-metadata", "out", "--to", "rebuilt.db", "--json")

    assert status == 0
    jsonschema.validate(json.loads(told), json.loads(LINEAGE_PATH.read_text()))
