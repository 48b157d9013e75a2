# SPDX-License-Identifier: Apache-2.0
"""`learn2compress sign`: signs the records at a location with a key; `verify --public-key` checks them.

Exit status: 0 all records were signed; 2 usage error; 4 some are broken and were not signed.
"""

from pathlib import Path

import typer

from learn2compress.cli.lineage.output import graph_for, new_console, show_problems


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
    from learn2compress.lineage.records.signing import sign_records

    graph = graph_for(location)
    count, problems = sign_records(graph, key)
    typer.echo(f"Signed {count:,} records at {graph.home}.")
    show_problems(new_console(), problems)
    return 4 if problems else 0
