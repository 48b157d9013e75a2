# SPDX-License-Identifier: Apache-2.0
"""`learn2compress sign`: signs the records at a location with a key; `verify --public-key` checks them.

Exit status: 0 all records were signed; 2 usage error; 4 some are broken and were not signed.
"""

from pathlib import Path

import typer

from learn2compress.cli.lineage.output import new_console, show_problems


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sign")(sign)


def sign(
    location: str = typer.Argument(..., help="A folder or an fsspec URL."),
    key: Path = typer.Option(..., "--key", help="Private key in PEM: Ed25519, ECDSA or RSA."),
) -> int:
    """Sign each provenance record by writing a DSSE envelope beside it.

    Create a key with `openssl genpkey -algorithm ed25519 -out key.pem`, and its
    public part with `openssl pkey -in key.pem -pubout -out public.pem`.
    """
    from learn2compress.api import auditing

    signed = auditing.sign(location, key)
    typer.echo(f"Signed {signed.records:,} records at {signed.location}.")
    show_problems(new_console(), signed.problems)
    return 4 if signed.problems else 0
