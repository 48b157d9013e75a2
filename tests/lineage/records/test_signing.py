# SPDX-License-Identifier: Apache-2.0
"""Deleted, added and forged records, before and after signing."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from learn2compress.lineage.graph import open_graph
from learn2compress.lineage.queries.verify import verify_place
from learn2compress.lineage.records.output_record import record_output_folder
from learn2compress.lineage.records.signing import LIST_FILE, sign_records
from learn2compress.schemas.lineage import VerifyReport
from learn2compress.schemas.provenance import LOCK_FILE
from learn2compress.storage.location import open_location


@pytest.fixture
def public(tmp_path: Path) -> Path:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(private)
    path = tmp_path / "public.pem"
    path.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return path


@pytest.fixture
def out(make_run, tmp_path: Path, public: Path) -> Path:
    """A signed run, with a report."""
    out = tmp_path / "out"
    make_run(out / "pipeline")
    (out / "report.json").write_text("{}")
    record_output_folder(out, [])
    sign_records(open_graph(out), public.with_name("key.pem"))
    return out


def verify(out: Path, public: Path | None = None) -> VerifyReport:
    return verify_place(open_graph(out), open_location(out), public_key=public)


def test_verify_place_tells_who_signed(out: Path, public: Path) -> None:
    checked, unchecked = verify(out, public), verify(out)

    assert checked.status == unchecked.status == "whole"
    assert checked.signatures == checked.signed == checked.records == 8
    assert unchecked.signatures is None
    assert len(checked.signers) == 1
    assert unchecked.signers == checked.signers


def test_verify_place_names_each_file_that_no_signature_covers(out: Path, public: Path) -> None:
    for name in ("run.json", "run.log", LOCK_FILE):
        (out / name).write_text(name)
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    checked = verify(out, public)
    recorded = {"report.json"} | {path for path in there if path.startswith("pipeline/") and "index" not in path}

    assert checked.status == "whole"
    assert checked.unrecorded == ["run.json", "run.log"]
    assert LOCK_FILE in checked.made_anew
    assert there == recorded | {*checked.unrecorded, *checked.made_anew}


@pytest.mark.parametrize("with_key", [True, False])
def test_verify_place_misses_a_record_that_was_deleted_after_signing(out: Path, public: Path, with_key: bool) -> None:
    """Without the last record, nothing else would tell that the report was changed."""
    (out / "report.json").write_text('{"forged": true}')
    for path in (out / "pipeline" / "Output" / "provenance").iterdir():
        path.unlink()

    report = verify(out, public if with_key else None)

    assert report.status == "incomplete"
    assert ("Output/provenance/latest.intoto.json", "it was signed and is missing") in [
        (problem.where, problem.reason) for problem in report.problems
    ]


def test_verify_place_misses_the_list_of_signed_records(out: Path, public: Path) -> None:
    (out / "pipeline" / LIST_FILE).unlink()

    report = verify(out, public)

    assert report.status == "incomplete"
    assert [problem.where for problem in report.problems] == [LIST_FILE]


def test_verify_place_refuses_a_list_by_another_key(out: Path, public: Path, tmp_path: Path) -> None:
    listing = (out / "pipeline" / LIST_FILE).read_bytes()
    other = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "other.pem").write_bytes(other)
    for path in (out / "pipeline").rglob("*.dsse.json"):
        path.unlink()
    sign_records(open_graph(out), tmp_path / "other.pem")
    assert listing != (out / "pipeline" / LIST_FILE).read_bytes()

    report = verify(out, public)

    assert report.status == "tampered"
    assert report.signatures == 0


def test_verify_place_tells_that_nothing_or_only_a_part_is_signed(make_run, out: Path, public: Path) -> None:
    for path in (out / "pipeline" / "Distiller" / "provenance").glob("*.dsse.json"):
        path.unlink()
    assert (verify(out).signed, verify(out).records) == (7, 8)
    assert verify(out, public).status == "incomplete"

    make_run(out.with_name("unsigned") / "pipeline")
    report = verify(out.with_name("unsigned"))
    assert (report.status, report.signed, report.signers) == ("whole", 0, [])
