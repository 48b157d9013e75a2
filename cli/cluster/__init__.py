# SPDX-License-Identifier: Apache-2.0
"""The commands for a Kubeflow Pipelines cluster. Public face: register."""

import typer

from learn2compress.cli.cluster import doctor, runs


def register(app: typer.Typer) -> None:
    """Add the commands."""
    runs.register(app)
    doctor.register(app)
