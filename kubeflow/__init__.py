# SPDX-License-Identifier: Apache-2.0
"""The DAG as a Kubeflow Pipelines spec, its image, and the client side of a cluster run."""

__all__ = [
    "checks", "client", "compile", "fetch", "lint", "records", "run_parameters", "runs", "schedule", "submission",
]  # fmt: skip
