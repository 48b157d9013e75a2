# SPDX-License-Identifier: Apache-2.0
"""`learn2compress verify`: checks every file against its record, and every record against the chain.

Exit status: 0 whole; 2 usage error; 3 an unknown file; 4 tampered; 5 incomplete.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from learn2compress.cli.lineage.output import AT, JSON, METADATA_GRPC, STATUSES, print_report

if TYPE_CHECKING:
    from learn2compress.schemas.lineage import VerifyReport

_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=STATUSES)(verify)


def verify(
    path: str = typer.Argument(..., help="An output folder or a part of it, a bucket's URL, or a single file."),
    at: str | None = AT,
    metadata_grpc: str | None = METADATA_GRPC,
    public_key: Path | None = typer.Option(
        None, "--public-key", help="Check the signature of each record with this key (PEM); see `sign`."
    ),
    as_json: bool = JSON,
) -> int:
    """Check that files, records and the links between records are as they were recorded.

    Names each changed, missing or added file, and each record that was changed, replaced or lost.
    """
    from learn2compress.api import auditing

    report = auditing.verify(path, at, metadata_grpc=metadata_grpc, public_key=public_key)
    return print_report(report, as_json, lambda console: console.print(_summary(report), markup=False))


def _summary(report: "VerifyReport") -> str:
    from learn2compress.schemas.units import format_bytes

    lines = [
        f"{report.location}: {report.status}",
        f"  {report.records:,} records, {report.artifacts:,} artifacts, {report.files:,} files "
        f"({format_bytes(report.bytes)}) checked",
    ]
    lines.append(f"  {_signed(report)}")
    if report.copies:
        lines.append(f"  {len(report.copies)} copies of recorded files: {_some(report.copies)}")
    if report.unrecorded:
        lines.append(f"  {len(report.unrecorded)} files that no record covers: {_some(report.unrecorded)}")
    if report.signatures is not None and report.made_anew:
        lines.append(
            f"  {len(report.made_anew)} files that no signature covers, since commands make them anew: "
            f"{_some(report.made_anew)}"
        )
    return "\n".join(lines)


def _signed(report: "VerifyReport") -> str:
    """Describe who vouches for the records."""
    if not report.signed:
        return "unsigned: whoever can write here could have written these records, too"
    checked = "not checked, name the key with --public-key"
    if report.signatures is not None:
        checked = f"{report.signatures:,} valid signatures by the given key"
    keys = ", ".join(f"{key[:16]}…" for key in report.signers)
    part = "" if report.signed == report.records else f"partly, {report.signed:,} of {report.records:,} records, "
    return f"signed {part}by key {keys} ({checked})"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
