# SPDX-License-Identifier: Apache-2.0
"""The commands for a Kubeflow Pipelines cluster."""

import typer

from learn2compress.cli.cluster import doctor, runs

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    runs.register(app)
    doctor.register(app)
